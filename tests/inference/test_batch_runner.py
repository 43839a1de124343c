"""Batches as recordings: each image's output is its own, whatever is recorded, padded, kept or shared by threads."""

import threading

import numpy as np
import pytest
import torch
from recorders import StandIn

from inference import batch_runner
from inference.batch_runner import BatchRunner, padded_size, to_batch

CPU = torch.device("cpu")
HEIGHT, WIDTH = 4, 6


class Network:
    """Each image's mean and first pixel; `sizes` are those of the batches that it was called with."""

    def __init__(self):
        self.sizes = []

    def __call__(self, images):
        self.sizes.append(len(images))
        return torch.stack((images.float().mean((1, 2, 3)), images[:, 0, 0, 0].float()), 1)


def pixels(count, seed=0):
    return list(np.random.default_rng(seed).integers(256, size=(count, HEIGHT, WIDTH, 3), dtype=np.uint8))


def runner(record, network=None):
    return BatchRunner(network or Network(), (HEIGHT, WIDTH), CPU, record)


def outputs(own, images, on_host):
    return own.on_host(images) if on_host else own.on_device(to_batch(images))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (7, 8), (8, 8), (9, 16), (15, 16),
                                             (16, 16), (17, 24), (64, 64), (65, 72)])
def test_few_sizes_serve_all_batches(count, size):
    assert padded_size(count) == size


@pytest.mark.parametrize("on_host", [True, False])
def test_outputs_are_those_of_the_network_whatever_the_size_of_the_batch(on_host):
    record, network = StandIn(), Network()
    own = runner(record, network)
    counts = [16, 7, 16, 1, 3, 2, 8, 15, 1]
    for seed, count in enumerate(counts):
        images = pixels(count, seed)
        torch.testing.assert_close(outputs(own, images, on_host), Network()(to_batch(images)), atol=1e-4, rtol=0)
    assert set(own.recorded) == {1, 2, 4, 8, 16} == set(network.sizes)
    assert (record.recordings, record.replays) == (5, len(counts))


@pytest.mark.parametrize("on_host", [True, False])
def test_outputs_that_are_kept_stay_as_they_are(on_host):
    own, batches = runner(StandIn()), [pixels(5, seed) for seed in range(4)]
    kept = [outputs(own, images, on_host) for images in batches]
    for output, images in zip(kept, batches, strict=True):
        torch.testing.assert_close(output, Network()(to_batch(images)), atol=1e-4, rtol=0)


def test_batches_on_the_host_and_on_the_device_share_recordings():
    record = StandIn()
    own, images = runner(record), pixels(6)
    torch.testing.assert_close(own.on_host(images), own.on_device(to_batch(images)), atol=0, rtol=0)
    assert record.recordings == 1


def test_a_batch_may_be_one_array_or_laid_out_otherwise():
    own, images = runner(StandIn()), pixels(3)
    expected = own.on_host(images)
    assert torch.equal(own.on_host(np.stack(images)), expected)
    assert torch.equal(own.on_device(to_batch(images).contiguous()), expected)


def test_without_a_recorder_batches_run_as_they_come():
    network = Network()
    own = runner(None, network)
    for count in (3, 5):
        own.on_host(pixels(count))
        own.on_device(to_batch(pixels(count)))
    assert network.sizes == [3, 3, 5, 5] and not own.recorded


@pytest.mark.parametrize("images", [torch.zeros(2, 3, HEIGHT, WIDTH), torch.zeros(2, 3, HEIGHT, WIDTH + 2).byte()],
                         ids=["float", "another size"])
def test_what_does_not_fit_a_recording_is_run_as_it_comes(images):
    own = runner(StandIn())
    assert torch.equal(own.on_device(images + 3), torch.full((2, 2), 3.0))
    assert not own.recorded


def test_no_more_sizes_are_recorded_than_the_limit(monkeypatch):
    monkeypatch.setattr(batch_runner, "MAX_RECORDINGS", 2)
    network = Network()
    own = runner(StandIn(), network)
    for count in (1, 4, 13, 4):
        images = pixels(count, count)
        torch.testing.assert_close(own.on_host(images), Network()(to_batch(images)), atol=1e-4, rtol=0)
    assert set(own.recorded) == {1, 4} and 13 in network.sizes and 16 not in network.sizes


def test_a_recording_that_fails_is_one_line_and_batches_run_on(capsys):
    record, fail = StandIn(), False

    def failing(work):
        if fail:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors ...")
        return record(work)

    own = runner(failing)
    own.on_host(pixels(2))
    fail = True
    for count in (7, 5, 2, 40):
        images = pixels(count, count)
        torch.testing.assert_close(own.on_host(images), Network()(to_batch(images)), atol=1e-4, rtol=0)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "batches of 7" in err and "operation not permitted when stream is capturing" in err
    assert record.replays == 2, "what was recorded before is replayed on"


def test_threads_that_share_a_runner_get_their_own_outputs():
    own, results = runner(StandIn()), {}

    def work(seed):
        results[seed] = [own.on_host(pixels(4, seed)) for _ in range(30)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        expected = Network()(to_batch(pixels(4, seed)))
        assert len(results[seed]) == 30
        for output in results[seed]:
            torch.testing.assert_close(output, expected, atol=1e-4, rtol=0)
