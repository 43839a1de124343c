"""Where the time of a training epoch goes: the real training code, with a stopwatch around its parts.

And without one: how long a training of TuSimple's size would take, from two epochs of it on rendered images.
"""

import contextlib
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from speed_forward import synchronize

import dataset
import train_fixed
from evaluation import evaluator
from losses_fixed import LaneLoss
from model import LaneNet
from renderer import dataset_writer
from training import optimizer
from training.ema import ExponentialMovingAverage

TUSIMPLE = (3626, 358)  # all of its labelled images, and as many more as are usually kept back to validate on
USUAL = ["model.backbone=resnet18", "model.width=800", "model.height=216"]  # of its networks


class Stopwatch:
    """Seconds spent in each part, without those of the parts inside it; the device's work is waited for."""

    def __init__(self, device: torch.device):
        self.device = device
        self.running: list[str] = []
        self.inside: list[float] = []  # seconds of inner parts, for each part that is running
        self.restart()

    def restart(self) -> None:
        """Forget what was measured."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.whole: dict[str, float] = defaultdict(float)  # with the parts inside
        self.began = time.perf_counter()

    def timed(self, part: str, function: Callable) -> Callable:
        """The function, its time booked on a part."""
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            self.inside.append(0.0)
            self.running.append(part)
            try:
                return function(*arguments, **options)
            finally:
                synchronize(self.device)
                took = time.perf_counter() - began
                self.seconds[part] += took - self.inside.pop()
                self.running.pop()
                if part not in self.running:
                    self.whole[part] += took
                if self.inside:
                    self.inside[-1] += took

        return run


def tables(device: torch.device, _rounds: int, words: Sequence[str]) -> Iterator[list[str]]:
    """A Markdown table of one epoch, the second; words are overrides such as model.backbone=resnet18."""
    watch, found = Stopwatch(device), {}

    def note(_path: Any, record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            watch.restart()
        else:
            found.update(record, all=time.perf_counter() - watch.began, parts=dict(watch.seconds),
                         guard=watch.whole["guard"])

    places = [
        (dataset.LaneDataset, "__getitems__", "reading"), (train_fixed, "augment", "augmenting"),
        (LaneNet, "forward", "forward"), (LaneLoss, "__call__", "loss"), (torch.Tensor, "backward", "backward"),
        (optimizer.Muon, "step", "optimizer"), (torch.optim.AdamW, "step", "optimizer"),
        (ExponentialMovingAverage, "update_parameters", "averaging the weights"),
        (train_fixed, "validate", "validation"), (evaluator, "collapse_stats", "guard"),
        (train_fixed, "train_stats", "guard"),
    ]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        for owner, name, part in places:
            timed = watch.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function(timed)))
        stack.enter_context(mock.patch.object(train_fixed, "write_log", note))
        train_fixed.main([*words, "train.epochs=2", f"train.device={device.type}", f"train.checkpoint_dir={folder}"])
    parts = found["parts"] | {"everything else": found["all"] - sum(found["parts"].values())}
    lines = ["| part of an epoch | share |", "|---|---|"]
    lines += [f"| {part} | {100 * seconds / found['all']:.1f} % |" for part, seconds in parts.items()]
    yield [f"Training{''.join(f' {word}' for word in words)}, second epoch, its validation included: "
           f"{found['images_per_second']:.0f} images/s; the guard with its forward passes takes "
           f"{100 * found['guard'] / found['all']:.1f} %", "", *lines]


def tusimple_tables(device: torch.device, _rounds: int, words: Sequence[str]) -> Iterator[list[str]]:
    """A Markdown table of training on as many images as TuSimple has, on rendered ones; words are overrides."""
    stamps = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), \
            mock.patch.object(train_fixed, "write_log", lambda *_: stamps.append(time.perf_counter())):
        dataset_writer.write_dataset(Path(folder), *TUSIMPLE, seed=0)
        train_fixed.main([*USUAL, f"data.root={folder}", f"data.cache_dir={folder}/cache", *words, "train.epochs=3",
                          f"train.device={device.type}", f"train.checkpoint_dir={folder}/checkpoints"])
    seconds = (stamps[2] - stamps[0]) / 2  # the first epoch warms up
    images, validation = TUSIMPLE
    yield [f"Training {' '.join([*USUAL, *words])}: {images} rendered images in the cache, {validation} to "
           "validate on; mean of the second and third epoch, all of it included:", "",
           "| seconds an epoch | images/s | minutes for 50 epochs, extrapolated |", "|---|---|---|",
           f"| {seconds:.2f} | {images / seconds:.0f} | {50 * seconds / 60:.2f} |"]


def function(call: Callable) -> Callable:
    """A plain function, which becomes a method where it is put into a class."""
    return lambda *arguments, **options: call(*arguments, **options)
