"""What benchmarks/collapse.py trains and records: its variants, its settings, and a log for each seed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LOG_VARIANCE_RATE = 30  # an s has some five units to go, and AdamW moves it by at most its rate a step: at the
# network's own rate that takes thousands of steps, which a long run has and the few hundred here are not
RENAMED_LOSSES = {"held": "fixed"}  # in logs of earlier versions

Lanes = list[list[list[list[float]]]]  # of several images: (K, P, 2) each


class Variant(NamedTuple):
    """What one run trains; the defaults are ours."""

    name: str
    loss: str = "ours"  # ours | no columns: ours less that term | old: weights learned | fixed: old, every s stays 0
    # | no curvature: old, less that term
    head: str = "ours"  # ours | old: globally pooled
    slots: str = "ours"  # ours: by position | old: in a shuffled file's order | left to right
    alike: bool = False  # only scenes with the commonest set of lanes
    s_rate: float = LOG_VARIANCE_RATE  # learning rate of s, in that of the network


VARIANTS = (
    Variant("(a) the old way", "old", "old", "old"),
    Variant("loss ours", "ours", "old", "old"),
    Variant("head ours", "old", "ours", "old"),
    Variant("slots ours", "old", "old", "ours"),
    Variant("loss, head ours", "ours", "ours", "old"),
    Variant("loss, slots ours", "ours", "old", "ours"),
    Variant("head, slots ours", "old", "ours", "ours"),
    Variant("(c) ours"),
)
EXTRAS = (
    Variant("(a), s fixed at 0", "fixed", "old", "old"),
    Variant("(a), s at the network's rate", "old", "old", "old", s_rate=1),
    Variant("(a), lanes left to right", "old", "old", "left to right"),
    Variant("slots ours, s fixed at 0", "fixed", "old"),
    Variant("slots ours, no curvature", "no curvature", "old"),
    Variant("head, slots ours, s fixed at 0", "fixed"),
    Variant("(c) ours, no columns", "no columns"),
    Variant("(a), roads alike", "old", "old", "old", alike=True),
    Variant("head, slots ours, roads alike", "old", "ours", "ours", alike=True),
    Variant("(c) ours, roads alike", alike=True),
)


class Settings(NamedTuple):
    """What all runs have in common, but for the seed."""

    scenes: int = 600
    val_scenes: int = 120
    epochs: int = 16
    batch_size: int = 16
    learning_rate: float = 1e-3  # of the network
    width: int = 160
    height: int = 96


class Run(NamedTuple):
    """A trained variant: one record an epoch, and the lanes that it reports in each of eight validation images."""

    variant: Variant
    epochs: list[dict[str, Any]]
    seconds: float
    lanes: Lanes | None = None


class SeedLog(NamedTuple):
    """All runs of one seed, on the scenes of that seed."""

    seed: int
    runs: list[Run]
    blind: list[dict[str, Any]]  # scores of the best constant prediction, one for each order of lanes
    labels: Lanes | None = None  # of the eight images
    settings: Settings | None = None
    origin: str = ""  # command, machine and date


def write_log(path: Path, log: SeedLog) -> None:
    """Write the log of a seed as JSON; what is infinite or not a number is written as Python reads it."""
    runs = [{**run.variant._asdict(), "seconds": run.seconds, "epochs": run.epochs, "lanes": run.lanes}
            for run in log.runs]
    content = log._asdict() | {"runs": runs, "settings": log.settings and log.settings._asdict()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_logs(paths: Sequence[Path]) -> list[SeedLog]:
    """Logs of the present form, or of the earlier one, which has neither seed (it is counted from 0) nor lanes."""
    return [_read_log(path, number) for number, path in enumerate(paths)]


def _read_log(path: Path, number: int) -> SeedLog:
    content = json.loads(path.read_text(encoding="utf-8"))
    runs = []
    for run in content["runs"]:
        values = {name: run[name] for name in Variant._fields}
        variant = Variant(**values | {"loss": RENAMED_LOSSES.get(run["loss"], run["loss"])})
        names = {present[1:]: present.name for present in VARIANTS + EXTRAS}
        variant = variant._replace(name=names.get(variant[1:], variant.name))
        runs.append(Run(variant, run["epochs"], run["seconds"], run.get("lanes")))
    settings = content.get("settings")
    return SeedLog(content.get("seed", number), runs, content["blind"], content.get("labels"),
                   settings and Settings(**settings), content.get("origin", ""))
