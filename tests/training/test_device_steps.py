"""Steps on images that are on the device: as those of a loader, recorded once a batch size, and never changing a run.

What a graph itself does is tested in tests/cuda.
"""

import copy

import pytest
import torch
from recorders import StandIn
from torch.utils._pytree import tree_leaves

from config import ConfigError, load_config
from dataset import LaneDataset
from formats.registry import list_samples
from geometry.input_grid import InputGrid
from losses_fixed import LaneLoss
from preprocessing.augment import AugmentParams, augment_lanes
from preprocessing.cache import open_cache
from runtime import checkpoint
from runtime.signals import Interrupt
from training import device_batches
from training import device_steps as device_steps_module
from training.device_batches import DeviceBatches
from training.device_steps import DeviceSteps, check_cuda_graph, device_steps, unchanged
from training.epoch import epoch_params, train_epoch
from training.run_dir import TrainingError
from training.state import TrainProgress, build_state, to_payload
from training.step import step_setup

CPU = torch.device("cpu")
BATCH_INDICES = [[9, 1, 2], [3, 4, 5], [6, 7]]  # two sizes


@pytest.fixture(scope="module")
def images(rendered, tmp_path_factory):
    """The rendered images, all of them in memory as on a device."""
    samples, grid = list_samples(rendered, "tusimple"), InputGrid(64, 64)
    data = LaneDataset(samples, grid, 6, open_cache(samples, grid, 6, tmp_path_factory.mktemp("cache"), 1.0))
    data.preload(CPU, True)
    return data


def setup_of(*overrides, dtype=torch.float32):
    config = load_config(None, ["model.width=64", "model.height=64", "data.workers=0",
                                "train.input_scale=1", *overrides])
    torch.manual_seed(0)
    model = checkpoint.build_model(config)
    return step_setup(build_state(model, config, 10, CPU, dtype), model, LaneLoss(), config, CPU, dtype)


def values(setup, batches):
    """A copy of everything that a run saves or that its next step depends on, random numbers included."""
    return copy.deepcopy([*tree_leaves(to_payload(setup.state, TrainProgress())), *setup.losses, batches.position,
                          torch.get_rng_state()])


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


def epoch(setup, images, steps, progress=None):
    return train_epoch(setup, images, BATCH_INDICES, progress or TrainProgress(), Interrupt(), steps)


class Recorder(StandIn):
    """Records on the CPU as on a GPU, after two steps of warm-up; `fails` is the message of an error in place of it."""

    def __init__(self, fails=""):
        super().__init__()
        self.fails = fails

    def __call__(self, work):
        work()
        work()
        if not self.fails:
            return super().__call__(work)
        self.recordings += 1
        raise RuntimeError(self.fails)


def test_batches_are_the_rows_of_the_order_and_of_the_views(images, monkeypatch):
    """With the lanes under those views, whatever the chunks that they were augmented in."""
    monkeypatch.setattr(device_batches, "LANES_CHUNK", 3)
    batches, config = DeviceBatches(images), load_config(None)
    for number in (1, 2):
        params = epoch_params(config, 1.0, number, 8)
        batches.begin(BATCH_INDICES, params, position=3)
        taken, target, views = batches.take(3)
        expected, lanes = images[BATCH_INDICES[1]]
        lanes = augment_lanes(lanes, AugmentParams(*(part[3:6] for part in params)))
        assert torch.equal(taken, expected) and all(torch.equal(*pair) for pair in zip(target, lanes, strict=True))
        assert target.exists.any()
        assert taken.is_contiguous(memory_format=torch.channels_last)
        assert all(torch.equal(mine, part[3:6]) for mine, part in zip(views, params, strict=True))
        assert int(batches.position) == 6
    batches.begin(BATCH_INDICES, params, position=7)
    taken, *_ = batches.take(2)
    assert torch.equal(taken, images[[7, 9]][0]), "after the last comes the first"


def test_steps_on_the_device_are_those_of_the_loader(images):
    """As they come, and recorded."""
    loaded = setup_of()
    expected = epoch(loaded, images, None)
    for record in (None, Recorder()):
        on_device = setup_of()
        steps = DeviceSteps(on_device, images, record)
        progress = epoch(on_device, images, steps)
        assert torch.equal(progress.sums, expected.sums) and progress.step == expected.step
        assert same(values(loaded, steps.batches)[:-3], values(on_device, steps.batches)[:-3])


def test_an_epoch_in_two_parts_is_the_whole_epoch(images):
    whole, parts = setup_of(), setup_of()
    expected = epoch(whole, images, DeviceSteps(whole, images))
    interrupt = Interrupt()
    interrupt.signal = 15
    first = train_epoch(parts, images, BATCH_INDICES, TrainProgress(), interrupt,
                        DeviceSteps(parts, images, Recorder()))
    assert first.step == 1
    rest = epoch(parts, images, DeviceSteps(parts, images, Recorder()), first)
    assert rest.step == 3 and torch.equal(rest.sums, expected.sums)
    assert same(tree_leaves(to_payload(whole.state, expected)), tree_leaves(to_payload(parts.state, rest)))


def test_a_size_is_recorded_once(images):
    setup = setup_of()
    steps = DeviceSteps(setup, images, Recorder())
    for number in (1, 2):
        epoch(setup, images, steps, TrainProgress(epoch=number))
    assert set(steps.recordings) == {3, 2} and (steps.record.recordings, steps.record.replays) == (2, 6)


def test_coarse_epochs_are_recorded_at_their_size_and_the_last_ones_anew(images):
    setup, seen = setup_of("train.epochs=2"), []
    setup.state.model.register_forward_pre_hook(lambda _model, inputs: seen.append(tuple(inputs[0].shape[2:])))
    steps = DeviceSteps(setup, images, Recorder())
    for number, expected in ((1, (48, 32)), (2, (64, 64))):
        epoch(setup, images, steps, TrainProgress(epoch=number))
        assert set(seen) == {expected} and set(steps.recordings) == {3, 2}
        seen.clear()
    assert steps.record.recordings == 4
    epoch(setup, images, None, TrainProgress(epoch=1))
    assert set(seen) == {(48, 32)}, "without images on the device, too"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_recording_changes_nothing(images, optimizer, dtype):
    """Neither weights, statistics and average nor the optimizer, the counts and the position."""
    setup = setup_of(f"train.optimizer={optimizer}")
    setup = setup._replace(state=build_state(setup.state.model, setup.config, 10, CPU, dtype))  # with a scale, or none
    steps = DeviceSteps(setup, images)
    steps.batches.begin(BATCH_INDICES, epoch_params(setup.config, 1.0, 1, 8), 0)
    setup.state.model.train()
    steps(3)
    before, pointers = values(setup, steps.batches), [t.data_ptr() for t in setup.tensors()]
    with unchanged([*setup.tensors(), steps.batches.position]):
        steps(3)
        changed = values(setup, steps.batches)
    assert not same(before, changed) and same(before, values(setup, steps.batches))
    assert pointers == [t.data_ptr() for t in setup.tensors()]


def test_where_recording_fails_training_goes_on_and_says_so_once(images, capsys):
    plain, setup = setup_of(), setup_of()
    expected = epoch(plain, images, DeviceSteps(plain, images))
    record = Recorder(fails="operation not\npermitted")
    assert torch.equal(epoch(setup, images, DeviceSteps(setup, images, record)).sums, expected.sums)
    assert record.recordings == 1
    line, = capsys.readouterr().err.splitlines()
    assert line == ("a step cannot be recorded as a CUDA graph (operation not permitted); training goes on without, "
                    "and slower")


def test_where_a_graph_is_required_a_failure_ends_the_run(images):
    setup = setup_of()
    with pytest.raises(TrainingError, match=r"^a step cannot be recorded as a CUDA graph \(no driver\); set "
                                            r"train\.cuda_graph to auto or false$"):
        epoch(setup, images, DeviceSteps(setup, images, Recorder(fails="no driver"), required=True))


@pytest.mark.parametrize(("overrides", "words"), [
    ([], "the device is cpu"), (["train.compile=true"], "the device is cpu")])
def test_a_graph_that_cannot_be_is_refused(images, overrides, words):
    train = load_config(None, ["train.cuda_graph=true", *overrides]).train
    with pytest.raises(ConfigError, match=rf"^train\.cuda_graph is true, but {words}; set it to auto$"):
        check_cuda_graph(train, torch.device("cpu"), images)


@pytest.mark.parametrize(("device", "overrides", "preloaded", "recorded"), [
    ("cuda", [], True, True), ("cuda", ["train.cuda_graph=true"], True, True),
    ("cuda", ["train.cuda_graph=false"], True, False), ("cuda", ["train.compile=true"], True, False),
    ("cuda", [], False, None), ("cpu", [], True, False), ("mps", [], True, False), ("cpu", [], False, None)])
def test_which_steps_are_recorded(monkeypatch, images, device, overrides, preloaded, recorded):
    monkeypatch.setattr(device_steps_module, "cuda_recorder", lambda _device: Recorder())
    setup = setup_of(*overrides)._replace(device=torch.device(device))
    steps = device_steps(setup, images if preloaded else LaneDataset(images.samples, images.grid, 6))
    assert (steps and steps.record is not None) == recorded
    assert not steps or steps.required == ("train.cuda_graph=true" in overrides)
