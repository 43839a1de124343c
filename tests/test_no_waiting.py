"""A training step never waits for its device: nothing is read back, and what is sent over is not waited for.

The device is `meta`, which has shapes and no numbers: whatever asks it for one fails, as it would hold up a GPU.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import checkpoints
import runtime
import train_fixed
from config import load_config
from lanes import LaneTarget
from learner import Progress, build_learner
from losses_fixed import LaneLoss
from validation import Network

META = torch.device("meta")
SIDE, SLOTS, BATCH = 64, 6, 4
PLAN = [range(0, 4), range(4, 8), range(8, 12)]


class Enough(Exception):
    """The steps to look at are over; the epoch's last one reads the loss, and may."""


class Images:
    """Twelve empty images, of which the last four end the epoch; `on_second` is called before those of step two."""

    width = height = SIDE
    pixels = "a cache"

    def __init__(self, on_second):
        self.on_second = on_second

    def __getitems__(self, indices):
        if indices == PLAN[2]:
            raise Enough
        if indices == PLAN[1]:
            self.on_second()
        lanes = LaneTarget(torch.rand(BATCH, SLOTS, 6, 2), torch.ones(BATCH, SLOTS, dtype=torch.bool))
        return torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8), lanes


class Waits(TorchDispatchMode):
    """Notes, once it is `looking`, what a GPU would be waited for; the first step may fill tables that are kept."""

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
        elif name == "aten::lift_fresh":  # torch.tensor(numbers): on a GPU it is sent over and waited for
            self.found.append(f"{name} {tuple(result.shape)}")


def steps(monkeypatch):
    """Two steps of training on META; returns what the second would have waited for."""
    monkeypatch.setattr(runtime, "autocast", lambda *_: contextlib.nullcontext())  # META has none
    config = load_config(None, ["augment.blank=0.5"])
    model = checkpoints.build_model(config).to(META)
    learner = build_learner(model, config, 10, META, torch.float32)
    waits = Waits()
    data = Images(lambda: setattr(waits, "looking", True))
    with waits, pytest.raises(Enough):
        train_fixed.train_epoch(learner, model, data, PLAN, LaneLoss(), config,
                                Network(learner.average.module, META, torch.float32), Progress(), runtime.Interrupt())
    assert waits.looking
    return waits.found


def test_a_step_waits_for_nothing(monkeypatch):
    assert steps(monkeypatch) == []


def test_what_is_sent_and_waited_for_is_noticed(monkeypatch):
    augment = train_fixed.augment

    def sends(images, target, views):
        return augment(images + torch.zeros(1, 1, 1, 1).to(META), target, views)

    monkeypatch.setattr(train_fixed, "augment", sends)
    assert steps(monkeypatch) == ["aten::_to_copy from cpu to meta, (1, 1, 1, 1)"]


@pytest.mark.parametrize("reads", [lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0],
                                   lambda x: x.nonzero()], ids=["item", "bool", "mask", "nonzero"])
def test_what_is_read_back_is_noticed(monkeypatch, reads):
    count = train_fixed.nearer_count

    def reading(points, logits, target):
        reads(points)
        return count(points, logits, target)

    monkeypatch.setattr(train_fixed, "nearer_count", reading)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        steps(monkeypatch)
