"""A training step never waits for its device: nothing is read back, and what is sent over is not waited for.

The device is `meta`, which has shapes and no numbers: whatever asks it for one fails, as it would make a GPU wait.
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
from training import step
from training.state import TrainProgress, build_state
from training.step import StepSetup, train_epoch

META = torch.device("meta")
SIDE, SLOTS = 64, 6
BATCH_INDICES = [range(0, 4), range(4, 8), range(8, 12)]


class SecondStepDone(Exception):
    """Ends the epoch before its last step, which reads the loss and may."""


class Images(LaneDataset):
    """Twelve images without a value; `before_second` is called before those of step two, the third ends the epoch."""

    def __init__(self, before_second, on_device):
        super().__init__([], InputGrid(SIDE, SIDE, RowWarp(0.25, 3.5)), SLOTS, pixels="a cache")
        self.before_second = before_second
        parts = (torch.zeros(12, SIDE, SIDE, 3, dtype=torch.uint8), torch.rand(12, SLOTS, 6, 2),
                 torch.ones(12, SLOTS, dtype=torch.bool))
        self.preloaded = tuple(part.to(META if on_device else "cpu") for part in parts)

    def __getitems__(self, indices):
        if indices == BATCH_INDICES[2]:
            raise SecondStepDone
        if indices == BATCH_INDICES[1]:
            self.before_second()
        return super().__getitems__(indices)


class SyncRecorder(TorchDispatchMode):
    """Records, once it is `active`, what a GPU would be waited for; the first step may fill tables that stay."""

    def __init__(self):
        super().__init__()
        self.active, self.syncs = False, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if self.active:
            self.record(function.name(), result, args, kwargs or {})
        return result

    def record(self, name, result, args, options):
        source = args[0] if name == "aten::_to_copy" else args[1] if name == "aten::copy_" else None
        if source is not None and source.device != result.device and not options.get("non_blocking", False):
            self.syncs.append(f"{name} from {source.device} to {result.device}, {tuple(source.shape)}")

    def tensor(self, numbers, *, make=torch.tensor, device=None, **options):
        """torch.tensor, which sends numbers over and waits, unnoticed by a dispatch mode."""
        if self.active and device is not None and torch.device(device) == META:
            self.syncs.append(f"torch.tensor({numbers})")
        return make(numbers, device=device, **options)


def syncs_of_a_step(monkeypatch, on_device=False, before_forward=None, after_forward=None):
    """What the second of two steps on META would have waited for; the hooks are a module's before and after forward."""
    monkeypatch.setattr(step, "autocast", lambda *_: contextlib.nullcontext())  # META has none
    config = load_config(None, ["augment.blank=0.5"])
    model = checkpoint.build_model(config).to(META)
    if before_forward:
        model.register_forward_pre_hook(before_forward)
    if after_forward:
        model.register_forward_hook(after_forward)
    setup = StepSetup(build_state(model, config, 10, META, torch.float32), model, LaneLoss(), config, META,
                      torch.float32)
    recorder = SyncRecorder()
    data = Images(lambda: setattr(recorder, "active", True), on_device)
    monkeypatch.setattr(torch, "tensor", recorder.tensor)
    with recorder, pytest.raises(SecondStepDone):
        train_epoch(setup, data, BATCH_INDICES, TrainProgress(), Interrupt())
    assert recorder.active
    return recorder.syncs


@pytest.mark.parametrize("on_device", [False, True], ids=["images sent", "images on the device"])
def test_a_step_waits_for_nothing(monkeypatch, on_device):
    assert syncs_of_a_step(monkeypatch, on_device) == []


@pytest.mark.parametrize(("send", "sync"), [(lambda: torch.zeros(1).to(META), "aten::_to_copy from cpu to meta, (1,)"),
                                            (lambda: torch.tensor([2.0], device=META), "torch.tensor([2.0])")])
def test_what_is_sent_and_waited_for_is_noticed(monkeypatch, send, sync):
    assert syncs_of_a_step(monkeypatch, before_forward=lambda _module, images: (images[0] + send(),)) == [sync]


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0],
                                  lambda x: x.nonzero()], ids=["item", "bool", "mask", "nonzero"])
def test_what_is_read_back_is_noticed(monkeypatch, read):
    def reading(_module, _images, output):
        (points, _), _ = output
        read(points)

    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        syncs_of_a_step(monkeypatch, after_forward=reading)
