"""Where the time of a training epoch goes: train_fixed.py as it is, with a stopwatch at hooks and around functions.

And without a stopwatch: how long a training of TuSimple's size would take, from two epochs of it on rendered images.
"""

import contextlib
import io
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from speed_scale import TUSIMPLE, Scale
from speed_timing import synchronize
from torch import nn

import train_fixed
from dataset import LaneDataset
from evaluation import evaluator
from renderer import dataset_writer
from training import step
from training.device_batches import DeviceBatches
from training.ema import ExponentialMovingAverage
from training.optimizer import MuonAdamW
from training.run_dir import RunDir

USUAL = ["model.backbone=resnet18", "model.width=800", "model.height=216"]  # of its networks

FORWARD, LOSS, BACKWARD, OPTIMIZER = "forward", "loss, forward and backward", "backward of the network", "optimizer"
TIMED_FUNCTIONS = (  # what no hook of PyTorch reaches
    (LaneDataset, "__getitem__", "reading"), (DeviceBatches, "take", "reading"), (step, "augment", "augmentation"),
    (ExponentialMovingAverage, "update", "averaging the weights"),
    (train_fixed, "validate", "validation"), (evaluator, "collapse_stats", "collapse statistics"),
    (RunDir, "write_epoch", "checkpoints, log and pictures"),
)
PARTS = tuple(dict.fromkeys((FORWARD, LOSS, BACKWARD, OPTIMIZER, *(part for *_, part in TIMED_FUNCTIONS))))


class Stopwatch:
    """Seconds spent in each part, without those of the parts inside it; the device's work is waited for."""

    def __init__(self, device: torch.device):
        self.device = device
        self.running: list[tuple[str, float]] = []  # parts from the outermost to the innermost, and their starts
        self.restart()

    def restart(self) -> None:
        """Forget what was measured."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.began = time.perf_counter()

    def start(self, part: str) -> None:
        """A part begins; the one that it is inside of pauses."""
        synchronize(self.device)
        self.running.append((part, time.perf_counter()))

    def stop(self) -> None:
        """The innermost part ends."""
        synchronize(self.device)
        part, began = self.running.pop()
        seconds = time.perf_counter() - began
        self.seconds[part] += seconds
        if self.running:
            self.seconds[self.running[-1][0]] -= seconds

    def timed(self, part: str, function: Callable) -> Callable:
        """The function, its time booked on a part."""
        def run(*arguments: Any, **options: Any) -> Any:
            self.start(part)
            try:
                return function(*arguments, **options)
            finally:
                self.stop()

        return run

    def hook(self, model: nn.Module) -> nn.Module:
        """The model, as a step calls it, with hooks: its forward, then the loss, then its backward are timed.

        A prediction's gradient is complete when the backward pass leaves the loss; the optimizer ends the backward.
        """
        def after_forward(_model: nn.Module, _inputs: tuple, output: tuple) -> None:
            self.stop()
            self.start(LOSS)
            output[0].points.register_hook(after_loss)

        def after_loss(_gradient: torch.Tensor) -> None:
            self.stop()
            self.start(BACKWARD)

        model.register_forward_pre_hook(lambda *_: self.start(FORWARD))
        model.register_forward_hook(after_forward)
        return model

    def optimizer(self, step: Callable) -> Callable:
        """The optimizer's step, which ends the backward pass with its unscaling and clipping, and is timed."""
        def run(*arguments: Any) -> None:
            self.stop()
            self.start(OPTIMIZER)
            step(*arguments)
            self.stop()

        return run


class EpochLines(io.StringIO):
    """A stdout that calls a function whenever train_fixed.py prints the line of a finished epoch."""

    def __init__(self, on_epoch: Callable[[], None]):
        super().__init__()
        self.on_epoch = on_epoch

    def write(self, text: str) -> int:
        if text.startswith("epoch "):
            self.on_epoch()
        return super().write(text)


def tables(device: torch.device, scale: Scale, words: Sequence[str]) -> Iterator[list[str]]:
    """A Markdown table of one epoch, the second; words are overrides such as model.backbone=resnet18.

    Raises RuntimeError where a part of it was never reached, as after a change of train_fixed.py.
    """
    with tempfile.TemporaryDirectory() as folder:
        scenes = rendered_scenes(Path(folder) / "scenes", scale.scenes, words)
        seconds, whole = second_epoch(device, [*scenes, *words], f"{folder}/checkpoints")
        log = Path(folder, "checkpoints", "log.jsonl").read_text().splitlines()
    if missing := [part for part in PARTS if part not in seconds]:
        raise RuntimeError(f"train_fixed.py has not called: {', '.join(missing)}; look at benchmarks/speed_training.py")
    seconds = {part: seconds[part] for part in PARTS} | {"everything else": whole - sum(seconds.values())}
    lines = ["| part of an epoch | share |", "|---|---|"]
    lines += [f"| {part} | {100 * value / whole:.1f} % |" for part, value in seconds.items()]
    of_images = f" on {scale.scenes[0]} scenes" if scenes else ""
    yield [f"Training{''.join(f' {word}' for word in words)}{of_images}, second epoch, its validation included: "
           f"{json.loads(log[-1])['images_per_second']:.0f} images/s", "", *lines]


def second_epoch(device: torch.device, words: Sequence[str], folder: str) -> tuple[dict[str, float], float]:
    """Seconds of each part of the second epoch of a training in a folder, and of all of it."""
    watch, epochs = Stopwatch(device), []

    def end_epoch() -> None:
        epochs.append((dict(watch.seconds), time.perf_counter() - watch.began))
        watch.restart()

    wrap_model = train_fixed.wrap_model
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(EpochLines(end_epoch)))
        for owner, name, part in TIMED_FUNCTIONS:
            timed = watch.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, as_method(timed)))
        stack.enter_context(mock.patch.object(train_fixed, "wrap_model", lambda *args: watch.hook(wrap_model(*args))))
        stack.enter_context(mock.patch.object(MuonAdamW, "step", watch.optimizer(MuonAdamW.step)))
        train_fixed.main([*words, "train.epochs=2", f"train.device={device.type}", f"train.checkpoint_dir={folder}",
                          "train.cuda_graph=false"])  # a graph is one part
    return epochs[1]


def rendered_scenes(root: Path, count: tuple[int, int] | None, words: Sequence[str]) -> list[str]:
    """Settings that train on so many scenes, rendered in a folder; none for None, or where data.root is given."""
    if count is None or any(word.startswith("data.root=") for word in words):
        return []
    dataset_writer.write_dataset(root, *count, seed=0)
    return [f"data.root={root}", f"data.cache_dir={root}/cache"]


def tusimple_tables(device: torch.device, scale: Scale, words: Sequence[str]) -> Iterator[list[str]]:
    """A Markdown table of training on as many images as TuSimple has, on rendered ones; words are overrides."""
    stamps = []
    with tempfile.TemporaryDirectory() as folder, \
            contextlib.redirect_stdout(EpochLines(lambda: stamps.append(time.perf_counter()))):
        dataset_writer.write_dataset(Path(folder), *scale.tusimple, seed=0)
        train_fixed.main([*USUAL, f"data.root={folder}", f"data.cache_dir={folder}/cache", *words, "train.epochs=3",
                          f"train.device={device.type}", f"train.checkpoint_dir={folder}/checkpoints"])
    seconds = (stamps[2] - stamps[0]) / 2  # the first epoch warms up
    images, validation = scale.tusimple
    yield [f"Training {' '.join([*USUAL, *words])}: {images} rendered images in the cache, {validation} to "
           "validate on; mean of the second and third epoch, all of it included:", "",
           f"| seconds an epoch | images/s | minutes for 50 epochs of {TUSIMPLE[0]} images, extrapolated |",
           "|---|---|---|",
           f"| {seconds:.2f} | {images / seconds:.0f} | {50 * seconds / 60 * TUSIMPLE[0] / images:.2f} |"]


def as_method(call: Callable) -> Callable:
    """A plain function, which becomes a method where it is put into a class."""
    return lambda *arguments, **options: call(*arguments, **options)
