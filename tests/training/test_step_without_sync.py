"""A training step never waits for its device: nothing is read back, and what is sent over is not waited for.

Where all images are on the device, nothing is sent over either, so that a step can be recorded. The device is `meta`,
which has shapes and no numbers: whatever asks it for one fails, as it would make a GPU wait.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from config import load_config
from dataset import LaneDataset
from geometry.input_grid import InputGrid, RowWarp
from losses_fixed import LaneLoss
from runtime import checkpoint
from runtime.signals import Interrupt
from training import loss_check, step
from training.device_steps import DeviceSteps
from training.epoch import train_epoch
from training.state import TrainProgress, build_state
from training.step import step_setup

META = torch.device("meta")
SIDE, SLOTS = 64, 6
BATCH_INDICES = [range(0, 4), range(4, 8), range(8, 11)]


@pytest.fixture(autouse=True)
def meta_device(monkeypatch):
    """META with what it lacks: autocast, AdamW's kernel, which is all in one launch on a GPU, and numbers that arrive.
    """
    monkeypatch.setattr(step, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(loss_check, "Readback", Readback)
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_fused_adamw_.tensor_lr", lambda *_, **__: None, "Meta")
        yield


class Readback:
    """Numbers on their way, without any."""

    has_arrived = False

    def __init__(self, numbers):
        assert numbers.device == META
        self.shape = numbers.shape

    def values(self):
        return torch.ones(self.shape).tolist()


class Images(LaneDataset):
    """Eleven images without a value; `before_second` is called before those of step two."""

    def __init__(self, before_second, on_device):
        super().__init__([], InputGrid(SIDE, SIDE, RowWarp(0.25, 3.5)), SLOTS, pixels="a cache")
        self.before_second = before_second
        parts = (torch.zeros(11, SIDE, SIDE, 3, dtype=torch.uint8), torch.rand(11, SLOTS, 6, 2),
                 torch.ones(11, SLOTS, dtype=torch.bool))
        self.preloaded = tuple(part.to(META if on_device else "cpu") for part in parts)

    def __getitem__(self, indices):
        if indices == BATCH_INDICES[1]:
            self.before_second()
        return super().__getitem__(indices)


class FromSecondOn(DeviceSteps):
    """Steps that call `before_second` of the data set before the second one."""

    def __init__(self, setup, dataset):
        super().__init__(setup, dataset)
        self.calls, self.before_second = 0, dataset.before_second

    def __call__(self, num_images):
        self.calls += 1
        if self.calls == 2:
            self.before_second()
        super().__call__(num_images)


class TransferRecorder(TorchDispatchMode):
    """Records, once it is `active`, what crosses between devices; the first step may fill tables that stay."""

    def __init__(self):
        super().__init__()
        self.active, self.waited_for, self.sent = False, [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if self.active:
            self.record(function.name(), result, args, kwargs or {})
        return result

    def record(self, name, result, args, options):
        source = args[0] if name == "aten::_to_copy" else args[1] if name == "aten::copy_" else None
        if source is not None and source.device != result.device:
            line = f"{name} from {source.device} to {result.device}, {tuple(source.shape)}"
            (self.sent if options.get("non_blocking", False) else self.waited_for).append(line)

    def tensor(self, numbers, *, make=torch.tensor, device=None, **options):
        """torch.tensor, which sends numbers over and waits, unnoticed by a dispatch mode."""
        if self.active and device is not None and torch.device(device) == META:
            self.waited_for.append(f"torch.tensor({numbers})")
        return make(numbers, device=device, **options)


def transfers(monkeypatch, on_device=False, before_forward=None, after_forward=None, settings=(), dtype=torch.float32):
    """A recorder of an epoch on META from its second step to its end; the hooks are before and after the forward."""
    config = load_config(None, ["augment.blank=0.5", "train.input_scale=1", *settings])
    model = checkpoint.build_model(config).to(META)
    if before_forward:
        model.register_forward_pre_hook(before_forward)
    if after_forward:
        model.register_forward_hook(after_forward)
    setup = step_setup(build_state(model, config, 10, META, dtype), model, LaneLoss(), config, META, dtype)
    recorder = TransferRecorder()
    data = Images(lambda: setattr(recorder, "active", True), on_device)
    monkeypatch.setattr(torch, "tensor", recorder.tensor)
    with recorder:
        progress = train_epoch(setup, data, BATCH_INDICES, TrainProgress(), Interrupt(),
                               FromSecondOn(setup, data) if on_device else None)
    assert recorder.active and progress.step == len(BATCH_INDICES)
    return recorder


@pytest.mark.parametrize(("optimizer", "dtype", "on_device"), [
    ("muon", torch.float32, False), ("muon", torch.float16, True), ("adamw", torch.float32, True),
    ("adamw", torch.float16, False)])
def test_a_step_waits_for_nothing(monkeypatch, on_device, optimizer, dtype):
    """All of it: views, network, loss, clipping, scale, optimizer, average, and the look at the loss.

    Every two of these settings come together once, which is enough: no part of a step depends on all three.
    """
    recorder = transfers(monkeypatch, on_device, settings=[f"train.optimizer={optimizer}"], dtype=dtype)
    assert recorder.waited_for == []
    images_sent = [line for line in recorder.sent if line.endswith(f", ({4}, 3, {SIDE}, {SIDE})")]
    assert (recorder.sent == []) if on_device else len(images_sent) == 1


def test_what_is_sent_and_waited_for_is_noticed(monkeypatch):
    def send(_module, images):
        return (images[0] + torch.zeros(1).to(META) + torch.tensor([2.0], device=META),)

    recorder = transfers(monkeypatch, before_forward=send)
    assert recorder.waited_for == 2 * ["aten::_to_copy from cpu to meta, (1,)", "torch.tensor([2.0])"]


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0],
                                  lambda x: x.nonzero()], ids=["item", "bool", "mask", "nonzero"])
def test_what_is_read_back_is_noticed(monkeypatch, read):
    def reading(_module, _images, output):
        (points, _), _ = output
        read(points)

    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        transfers(monkeypatch, after_forward=reading)
