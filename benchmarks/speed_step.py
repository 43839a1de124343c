"""A training step alone, its images on the device: as it comes, and on a GPU as the CUDA graph that training uses."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from speed_activity import COLUMNS, measure
from speed_scale import Scale
from speed_timing import alternating, synchronize

from config import Config, load_config
from dataset import LaneDataset
from geometry.bezier import CONTROL_POINTS, control_points_from_x
from losses_fixed import LaneLoss
from runtime.checkpoint import input_grid
from runtime.cuda_graph import Recorder, cuda_recorder
from runtime.device import pick_precision
from training.device_steps import DeviceSteps
from training.epoch import epoch_params
from training.state import build_model, build_state
from training.step import step_setup

STEPS = 5  # a turn
IMAGES = 4  # times the batch: those of an epoch


def tables(device: torch.device, scale: Scale, words: Sequence[str]) -> Iterator[list[str]]:
    """A Markdown table of steps of several batches; words are overrides such as model.backbone=resnet18."""
    config = load_config(None, words)
    columns = ["batch", "a step", "ms", "images/s", *(COLUMNS if device.type == "cuda" else ())]
    lines = [f"| {' | '.join(columns)} |", "|" + len(columns) * "---|"]
    for batch in scale.step_batches:
        ways = {"as it comes": None, **({"CUDA graph": cuda_recorder(device)} if device.type == "cuda" else {})}
        runs = {way: timed(build_steps(config, batch, device, record), batch, device) for way, record in ways.items()}
        for way, ms in alternating(runs, max(3, scale.rounds // 3)).items():
            cells = [str(batch), way, f"{ms:.4g}", f"{1e3 * batch / ms:.0f}"]
            if device.type == "cuda":
                cells += measure(runs[way], STEPS).cells(ms)
            lines.append(f"| {' | '.join(cells)} |")
    yield [f"Training steps{''.join(f' {word}' for word in words)}, {config.model.backbone} at {config.model.width}x"
           f"{config.model.height}, random images on the device, medians of {max(3, scale.rounds // 3)} rounds of "
           f"{STEPS} steps in turn:", "", *lines]


def build_steps(config: Config, batch: int, device: torch.device, record: Recorder | None) -> DeviceSteps:
    """Steps from new weights on random images and lanes. Raises TrainingError where they cannot be recorded."""
    count, grid = IMAGES * batch, input_grid(config)
    dtype = pick_precision(config.train.precision, device)
    state = build_state(build_model(config, device, resumed=False), config, 1000, device, dtype)
    state.model.train()
    setup = step_setup(state, state.model, LaneLoss(**vars(config.loss)), config, device, dtype)
    dataset = LaneDataset([], grid, config.model.slots)
    lanes = count, config.model.slots
    points = control_points_from_x(torch.rand(*lanes, CONTROL_POINTS), torch.full(lanes, 0.5), torch.ones(lanes))
    images = torch.randint(256, (count, grid.height, grid.width, 3), dtype=torch.uint8)
    dataset.preloaded = tuple(part.to(device) for part in (images, points, torch.rand(lanes) < 0.6))
    steps = DeviceSteps(setup, dataset, record, required=True)
    steps.batches.begin([range(count)], epoch_params(config, grid.aspect, 1, count), 0)
    return steps


def timed(steps: DeviceSteps, batch: int, device: torch.device) -> Callable[[], float]:
    """A function that runs STEPS steps and returns the milliseconds that one took."""
    def run() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            steps(batch)
        synchronize(device)
        return 1e3 * (time.perf_counter() - start) / STEPS

    return run
