"""A training step never waits for its device: nothing is read back, and what is sent over is not waited for.

The device is `meta`, which has shapes and no numbers: whatever asks it for one fails, as it would hold up a GPU.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import train_fixed
from config import load_config
from dataset import LaneDataset
from geometry.input_grid import InputGrid, RowWarp
from losses_fixed import LaneLoss
from runtime import checkpoint, device, signals
from training.state import TrainProgress, build_state

META = torch.device("meta")
SIDE, SLOTS = 64, 6
PLAN = [range(0, 4), range(4, 8), range(8, 12)]


class Enough(Exception):
    """The steps to look at are over; the epoch's last one reads the loss, and may."""


class Images(LaneDataset):
    """Twelve images without a value; `on_second` is called before those of step two, and the third ends the epoch."""

    def __init__(self, on_second, on_device):
        super().__init__([], InputGrid(SIDE, SIDE, RowWarp(0.25, 3.5)), SLOTS, pixels="a cache")
        self.on_second = on_second
        parts = (torch.zeros(12, SIDE, SIDE, 3, dtype=torch.uint8), torch.rand(12, SLOTS, 6, 2),
                 torch.ones(12, SLOTS, dtype=torch.bool))
        self.preloaded = tuple(part.to(META if on_device else "cpu") for part in parts)

    def __getitems__(self, indices):
        if indices == PLAN[2]:
            raise Enough
        if indices == PLAN[1]:
            self.on_second()
        return super().__getitems__(indices)


class Waits(TorchDispatchMode):
    """Notes, once it is `looking`, what a GPU would be waited for; the first step may fill tables that stay."""

    def __init__(self):
        super().__init__()
        self.looking, self.found = False, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if self.looking:
            self.look(function.name(), result, args, kwargs or {})
        return result

    def look(self, name, result, args, options):
        sent = args[0] if name == "aten::_to_copy" else args[1] if name == "aten::copy_" else None
        if sent is not None and sent.device != result.device and not options.get("non_blocking", False):
            self.found.append(f"{name} from {sent.device} to {result.device}, {tuple(sent.shape)}")

    def tensor(self, numbers, *, make=torch.tensor, device=None, **options):
        """torch.tensor, which sends numbers over and waits without saying so to a dispatch mode."""
        if self.looking and device is not None and torch.device(device) == META:
            self.found.append(f"torch.tensor({numbers})")
        return make(numbers, device=device, **options)


def steps(monkeypatch, on_device=False):
    """Two steps of training on META; returns what the second would have waited for."""
    monkeypatch.setattr(device, "autocast", lambda *_: contextlib.nullcontext())  # META has none
    config = load_config(None, ["augment.blank=0.5"])
    model = checkpoint.build_model(config).to(META)
    state = build_state(model, config, 10, META, torch.float32)
    waits = Waits()
    data = Images(lambda: setattr(waits, "looking", True), on_device)
    monkeypatch.setattr(torch, "tensor", waits.tensor)
    with waits, pytest.raises(Enough):
        train_fixed.train_epoch(state, model, data, PLAN, LaneLoss(), config,
                                META, torch.float32, TrainProgress(), signals.Interrupt())
    assert waits.looking
    return waits.found


@pytest.mark.parametrize("on_device", [False, True], ids=["images sent", "images there"])
def test_a_step_waits_for_nothing(monkeypatch, on_device):
    assert steps(monkeypatch, on_device) == []


@pytest.mark.parametrize(("sent", "said"), [(lambda: torch.zeros(1).to(META), "aten::_to_copy from cpu to meta, (1,)"),
                                            (lambda: torch.tensor([2.0], device=META), "torch.tensor([2.0])")])
def test_what_is_sent_and_waited_for_is_noticed(monkeypatch, sent, said):
    augment = train_fixed.augment
    monkeypatch.setattr(train_fixed, "augment", lambda images, *rest: augment(images + sent(), *rest))
    assert steps(monkeypatch) == [said]


@pytest.mark.parametrize("reads", [lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0],
                                   lambda x: x.nonzero()], ids=["item", "bool", "mask", "nonzero"])
def test_what_is_read_back_is_noticed(monkeypatch, reads):
    count = train_fixed.resolve_ambiguous_assignment

    def reading(points, logits, target):
        reads(points)
        return count(points, logits, target)

    monkeypatch.setattr(train_fixed, "resolve_ambiguous_assignment", reading)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        steps(monkeypatch)
