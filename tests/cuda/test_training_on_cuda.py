"""Training on a GPU: a recorded step is the plain one, waits for nothing, repeats itself, goes on after a stop."""

import copy
import inspect
import itertools
import os
import statistics
import subprocess
import sys
import time

import pytest
import torch
from paths import ROOT
from torch.utils._pytree import tree_leaves
from trainings import SHORT, log, same_weights

import train_fixed
from config import load_config
from dataset import LaneDataset
from formats.registry import list_samples
from geometry.input_grid import InputGrid, RowWarp
from losses_fixed import LaneLoss, LossTerms
from preprocessing.cache import open_cache
from runtime import checkpoint as checkpoints
from runtime.cuda_graph import cuda_recorder
from runtime.device import pick_precision, seed_everything
from runtime.signals import Interrupt
from training.device_steps import DeviceSteps, device_steps
from training.epoch import epoch_params, train_epoch
from training.loss_check import LossCheck
from training.state import TrainProgress, build_model, build_state, load_last, restore, to_payload
from training.step import step_setup

IN_CHILD = "LANES_IN_CHILD"  # environment variable of a test that has a process of its own
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
BATCH_INDICES = [[9, 1, 2, 11], [3, 4, 5, 12], [6, 7, 13], [8, 0, 14, 15], [16, 10, 17], [18, 19, 20, 21]]  # two sizes
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["muon", "adamw"])
RUN = [*SHORT, "train.device=cuda", "train.precision=auto", "train.batch_size=5", "train.epochs=2"]


@pytest.fixture
def exact():
    """float32 as a CPU multiplies it, without TensorFloat-32."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def data_on(rendered, tmp_path_factory):
    """A function that gives the rendered images with all of them on a device."""
    cache, samples, grid = tmp_path_factory.mktemp("cache"), list_samples(rendered, "tusimple"), InputGrid(
        96, 64, RowWarp(0.25, 3.5))

    def load(device):
        data = LaneDataset(samples, grid, 6, open_cache(samples, grid, 6, cache, 1.0))
        data.preload(device, True)
        return data

    return load


def setup_of(device, *overrides):
    """The start of a training, the same whatever the device."""
    config = load_config(None, ["model.width=96", "model.height=64", "train.input_scale=1", *overrides])
    dtype = pick_precision(config.train.precision, device)
    seed_everything(0)
    model = build_model(config, device, False)
    return step_setup(build_state(model, config, 60, device, dtype), model, LaneLoss(), config, device, dtype)


def epoch(setup, data, steps, progress=None):
    return train_epoch(setup, data, BATCH_INDICES, progress or TrainProgress(), Interrupt(), steps)


def recorded(setup, data):
    steps = device_steps(setup, data)
    assert steps.record is not None, "what train.cuda_graph=auto gives on a GPU"
    return steps


def weights(setup):
    return torch.cat([p.detach().flatten().cpu() for p in setup.state.model.parameters()])


def values(setup):
    return copy.deepcopy([*tree_leaves(to_payload(setup.state, TrainProgress())), *setup.losses])


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


# A graph is the step ---------------------------------------------------------------------------------------------


@PRECISIONS
@OPTIMIZERS
@pytest.mark.parametrize("share", [0, 0.2], ids=["", "share"])
@pytest.mark.usefixtures("exact")
def test_recorded_steps_are_the_plain_ones(data_on, precision, optimizer, share):
    """Of two batch sizes, over two epochs: losses, weights and averages, with a share of the first model or without."""
    data = data_on(CUDA)
    overrides = [f"train.precision={precision}", f"train.optimizer={optimizer}", f"train.init_share={share}"]
    plain, graphed = setup_of(CUDA, *overrides), setup_of(CUDA, *overrides)
    start = weights(plain)
    steps = recorded(graphed, data)
    for number in (1, 2):
        expected = epoch(plain, data, DeviceSteps(plain, data), TrainProgress(epoch=number))
        progress = epoch(graphed, data, steps, TrainProgress(epoch=number))
        torch.testing.assert_close(progress.sums, expected.sums, rtol=1e-2, atol=1e-2)
    assert set(steps.recordings) == {3, 4} and steps.record is not None
    moved = (weights(plain) - start).norm()
    assert moved > 0.1 and (weights(graphed) - weights(plain)).norm() < 0.02 * moved
    assert int(graphed.state.schedule.steps) == 2 * len(BATCH_INDICES)
    for a, b in zip(graphed.state.ema.module.parameters(), plain.state.ema.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)


@PRECISIONS
def test_a_recording_changes_nothing(data_on, precision):
    setup, data = setup_of(CUDA, f"train.precision={precision}"), data_on(CUDA)
    steps = recorded(setup, data)
    steps.batches.begin(BATCH_INDICES, epoch_params(setup.config, 1.0, 1, 22), 0)
    setup.state.model.train()
    steps(4)
    before, pointers = values(setup), [t.data_ptr() for t in setup.tensors()]
    steps._record(3)
    assert set(steps.recordings) == {3, 4} and same(before, values(setup)) and int(steps.batches.position) == 4
    assert pointers == [t.data_ptr() for t in setup.tensors()]
    steps(3)
    assert not same(before, values(setup)) and int(steps.batches.position) == 7


def test_a_float16_step_that_overflows_is_undone_and_halves_the_scale(data_on):
    setup, data = setup_of(CUDA, "train.precision=fp16"), data_on(CUDA)
    steps = recorded(setup, data)
    steps.batches.begin(BATCH_INDICES, epoch_params(setup.config, 1.0, 1, 22), 0)
    setup.state.model.train()
    setup.state.scaler.scale.fill_(2.0**100)
    before = [tensor.detach().clone() for tensor in setup.state.optimizer.tensors()]
    steps(4)
    assert all(torch.equal(a, b) for a, b in zip(before, setup.state.optimizer.tensors(), strict=True))
    assert float(setup.state.scaler.scale) == 2.0**99
    setup.state.scaler.scale.fill_(1024.0)
    steps(4)
    assert float(setup.state.scaler.scale) == 1024 and float(setup.state.optimizer.count) == 1
    assert all(tensor.isfinite().all() for tensor in setup.state.optimizer.tensors())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.02), ("fp16", 0.01)])
@pytest.mark.usefixtures("exact")
def test_the_first_losses_are_those_of_the_cpu(data_on, precision, tolerance):
    losses = {}
    for device, own in ((CPU, "fp32"), (CUDA, precision)):
        setup, data = setup_of(device, f"train.precision={own}", "train.learning_rate=0"), data_on(device)
        progress = epoch(setup, data, device_steps(setup, data))
        losses[device.type] = LossTerms(*(progress.sums / 22).tolist())
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=tolerance, abs=tolerance / 10)


# Waiting ---------------------------------------------------------------------------------------------------------


@PRECISIONS
@pytest.mark.parametrize("graph", [True, False], ids=["recorded", "plain"])
def test_steps_and_looks_at_the_loss_wait_for_nothing(data_on, precision, graph):
    setup, data = setup_of(CUDA, f"train.precision={precision}"), data_on(CUDA)
    steps, check = recorded(setup, data) if graph else DeviceSteps(setup, data), LossCheck(1)
    steps.batches.begin(BATCH_INDICES, epoch_params(setup.config, 1.0, 1, 22), 0)
    setup.state.model.train()
    for size in (4, 4, 3):  # records both sizes, and fills the tables that stay
        steps(size)
        check.begin(setup.losses, 4, 1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for size in (4, 3, 4):
            steps(size)
            check.begin(setup.losses, 4, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check.finish()
    assert check.loss == pytest.approx(float(setup.losses.last[0]))


def test_a_graph_is_faster_than_its_kernels_one_by_one(data_on):
    """Prints how much; RESULTS.md has figures of the default size."""
    data, times = data_on(CUDA), {}
    for name in ("recorded", "plain"):
        setup = setup_of(CUDA)
        steps = recorded(setup, data) if name == "recorded" else DeviceSteps(setup, data)
        steps.batches.begin(BATCH_INDICES, epoch_params(setup.config, 1.0, 1, 22), 0)
        setup.state.model.train()
        times[name] = []
        for _ in range(30):
            began = time.perf_counter()
            steps(4)
            torch.cuda.synchronize()
            times[name].append(time.perf_counter() - began)
    recorded_ms, plain_ms = (1000 * statistics.median(times[name][5:]) for name in ("recorded", "plain"))
    print(f"a step of 4 images: {recorded_ms:.2f} ms recorded, {plain_ms:.2f} ms kernel by kernel")
    assert recorded_ms < plain_ms


# Runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("elsewhere")
def test_a_second_run_gives_the_same_log_and_weights(rendered, tmp_path, capsys):
    for name in ("one", "two"):
        assert train_fixed.main([*RUN, f"data.root={rendered}", "train.cuda_graph=true",
                                 f"train.checkpoint_dir={name}"]) == 0
    assert log(tmp_path / "one") == log(tmp_path / "two")
    assert same_weights("one/last.pth", "two/last.pth")
    assert "cannot be recorded" not in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_a_run_without_a_graph_has_the_same_losses(rendered, tmp_path):
    for name, graph in (("one", "true"), ("two", "false")):
        assert train_fixed.main([*RUN, f"data.root={rendered}", f"train.cuda_graph={graph}", "train.precision=fp32",
                                 f"train.checkpoint_dir={name}"]) == 0
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.01)


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
@OPTIMIZERS
def test_a_resumed_epoch_is_an_uninterrupted_one(data_on, tmp_path, optimizer, stop):
    """Through last.pth, with graphs recorded anew in the midst of an epoch; the second half may start on any step."""
    data, overrides, path = data_on(CUDA), [f"train.optimizer={optimizer}"], tmp_path / "last.pth"
    whole, first, rest = (setup_of(CUDA, *overrides) for _ in range(3))
    expected = epoch(whole, data, recorded(whole, data))

    class Stopped(Interrupt):
        """A signal that comes during a step."""

        @property
        def signal(self):
            return 15 if next(self.steps) == stop else 0

        @signal.setter
        def signal(self, _number):
            self.steps = itertools.count(1)

    progress = train_epoch(first, data, BATCH_INDICES, TrainProgress(), Stopped(), recorded(first, data))
    assert progress.step == stop
    checkpoints.save_checkpoint(path, first.config, **to_payload(first.state, progress))
    progress = restore(rest.state, load_last(path, rest.config), path)
    progress = epoch(rest, data, recorded(rest, data), progress)
    assert torch.equal(progress.sums, expected.sums)
    assert same(tree_leaves(to_payload(whole.state, expected)), tree_leaves(to_payload(rest.state, progress)))


def test_a_step_that_asks_the_host_cannot_be_recorded_and_training_goes_on(data_on, capsys):
    if IN_CHILD not in os.environ:  # a broken recording leaves PyTorch's allocator unfit for another one
        command = [sys.executable, "-m", "pytest", f"{__file__}::{inspect.currentframe().f_code.co_name}"]
        subprocess.run(command, cwd=ROOT, env=os.environ | {IN_CHILD: "1"}, check=True, timeout=300)
        return
    setup, data = setup_of(CUDA), data_on(CUDA)
    setup.state.model.register_forward_hook(lambda _module, _inputs, output: output[0].points.sum().item() and None)
    steps = DeviceSteps(setup, data, cuda_recorder(CUDA))
    progress = epoch(setup, data, steps)
    assert progress.step == len(BATCH_INDICES) and progress.sums.isfinite().all() and not steps.recordings
    assert capsys.readouterr().err.count("cannot be recorded as a CUDA graph") == 1
