"""Several processes, and those that are killed: locks, rendering, reading images, stopping, and what stays."""

import gc
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from processes import RENDER, SHORT, children, finish, is_alive, needs_kill, needs_proc, open_files, start, until
from trainings import log

from dataset import LaneDataset
from formats import registry
from formats.base import DataError
from geometry.input_grid import InputGrid
from preprocessing import cache
from preprocessing.loader import loader
from renderer import dataset_writer
from runtime import checkpoint, cli
from runtime.files import lock

# Rendering and caching -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.process
def test_a_second_process_waits_for_the_rendering_of_the_first(tmp_path):
    with lock(tmp_path, "rendering"):
        second = start(*RENDER, "--root", tmp_path, "--train", 4, "--workers", 1)
        line = second.stderr.readline()
        assert line == f"{tmp_path}: another process is rendering into this folder; waiting for it\n"
        assert second.poll() is None
        dataset_writer._render_missing(tmp_path, dataset_writer.manifest(4, 3, 7, 96, 64), 1)
        made = (tmp_path / "manifest.json").stat().st_mtime_ns
    assert finish(second) == (0, [])
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == made, "nothing is rendered twice"


@pytest.mark.slow
@pytest.mark.process
@needs_proc
@needs_kill
def test_a_killed_rendering_leaves_no_process_and_goes_on(tmp_path):
    first = start(*RENDER, "--root", tmp_path, "--train", 300, "--workers", 2)
    workers = until(lambda: len(ids := children(first.pid)) == 2 and ids)
    until(lambda: list(tmp_path.glob("unfinished/train-*.json")))
    first.kill()
    finish(first)
    until(lambda: not any(map(is_alive, workers)), 10)
    kept = len(list(tmp_path.glob("unfinished/train-*.json")))
    assert 0 < kept < 300 / dataset_writer.SHARD_SIZE, "some of it, not all"
    status, lines = finish(start(*RENDER, "--root", tmp_path, "--train", 300, "--workers", 1))
    assert (status, lines) == (0, []) and dataset_writer.is_complete(tmp_path, 300, 3, 7, 96, 64)


def test_a_cache_is_built_once_however_many_ask_for_it(images, monkeypatch):
    original, read = cache.read_images, []

    def slow(samples, grid):
        read.extend(samples)
        time.sleep(0.02 * len(samples))
        return original(samples, grid)

    monkeypatch.setattr(cache, "read_images", slow)
    samples, caches = registry.list_samples(images), []
    threads = [threading.Thread(target=lambda: caches.append(
        cache.open_cache(samples, InputGrid(32, 32), 6, images.parent / "cache", 1.0))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 7 and len(caches) == 3
    assert all(np.array_equal(pixels.batch(range(7))[0], caches[0].images) for pixels in caches)
    left = images.parent / "cache" / f"building-{caches[0].folder.name}"
    caches[0].folder.rename(left)  # as a killed process leaves it
    assert cache.open_cache(samples, InputGrid(32, 32), 6, images.parent / "cache", 1.0) is not None
    assert not left.exists()


@pytest.mark.slow
@pytest.mark.process
def test_two_trainings_may_start_at_once_on_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [start("train_fixed.py", *SHORT, "synthetic.train=32", "synthetic.val=8", "train.epochs=1",
                  f"train.checkpoint_dir={name}", "guard.min_diversity=0") for name in "ab"]
    for run in runs:
        status, lines = finish(run)
        assert status == 0 and all("waiting for it" in line for line in lines), lines
    assert log(tmp_path / "a") == log(tmp_path / "b")


# Processes that read images ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.process
def test_processes_started_by_spawn_read_the_same_batches_and_leave_nothing(images):
    data, batches = LaneDataset(registry.list_samples(images), InputGrid(32, 32), 6), [[6, 0], [3, 3], [1, 2], [5]]
    alone = list(loader(data, batches, 0, False))
    (images / "5.png").write_bytes(b"no image")
    before = open_files(), children(os.getpid())
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, []) if hasattr(signal, "pthread_sigmask") else None
    loading = loader(data, batches, 2, False)
    assert loading.multiprocessing_context.get_start_method() == "spawn"
    apart, running = [], iter(loading)
    with pytest.raises(DataError) as caught:
        apart.extend(running)
    assert len(apart) == 3 and len(alone) == 4
    for (a, target_a), (b, target_b) in zip(alone[:3], apart, strict=True):
        assert torch.equal(a, b) and all(map(torch.equal, target_a, target_b))
    message = cli._one_line(caught.value)
    assert message.startswith(f"{images / '5.png'}: not an image") and "\n" not in message
    running._shutdown_workers()  # the error holds on to the iterator; in a script both end with it
    del running, caught, apart, a, b, target_a, target_b
    gc.collect()
    until(lambda: children(os.getpid()) == before[1], 20)
    assert open_files() <= before[0] + 2, "multiprocessing keeps two for its resource tracker"
    if mask is not None:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


class ManyTensors:
    """What hands over its batches slowly."""

    preloaded, pixels = (), None

    def __getitem__(self, indices):
        return [torch.rand(1000) for _ in range(100)]


@pytest.mark.slow
@pytest.mark.process
@needs_kill
def test_processes_that_are_stopped_while_they_hand_over_a_batch_do_not_abort():
    for batches in (1, 2, 3, 1, 2, 3):
        running = iter(loader(ManyTensors(), [[0]] * 1000, 2, False))
        for _ in range(batches):
            next(running)
        running._shutdown_workers()
        assert [worker.exitcode for worker in running._workers] == [0, 0]


def reading(rendered, *arguments):
    """A training whose processes have just been started, and their ids."""
    run = start("train_fixed.py", *SHORT, f"data.root={rendered}", "train.checkpoint_dir=run", "data.cache=false",
                "data.workers=2", "train.epochs=2", *arguments)
    return run, until(lambda: len(ids := children(run.pid)) == 2 and ids, 120)


@pytest.mark.slow
@pytest.mark.process
@needs_proc
@needs_kill
def test_a_killed_reader_of_images_is_one_line_and_the_run_can_be_resumed(rendered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, workers = reading(rendered)
    os.kill(workers[0], signal.SIGKILL)
    status, lines = finish(run)
    assert status == 1 and len(lines) == 1, lines
    assert lines[0].startswith("error: a process that reads images was killed")
    assert checkpoint.load_checkpoint("run/last.pth")["progress"]["epoch"] == 1
    assert not any(map(is_alive, workers))


@pytest.mark.slow
@pytest.mark.process
@needs_proc
@needs_kill
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_sent_to_the_whole_group_finishes_the_step(rendered, tmp_path, monkeypatch, number, status):
    """Ctrl-C in a terminal, or a scheduler's end of a job, reaches the processes that read images as well."""
    monkeypatch.chdir(tmp_path)
    run, workers = reading(rendered)
    os.killpg(run.pid, number)
    actual, lines = finish(run)
    assert actual == status and len(lines) == 1, lines
    assert "interrupted in epoch 1 after step 1; continue with: python train_fixed.py" in lines[0]
    assert checkpoint.load_checkpoint("run/last.pth")["progress"]["step"] == 1
    assert until(lambda: not any(map(is_alive, workers)), 10)
