"""Scores as people and programs read them: a table, a JSON file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from formats.metric import Metric
from runtime.files import json_text, write_text

FRACTIONS = ("accuracy", "accuracy_with_lanes", "fp", "fn", "f1", "mf1", "existence_accuracy")


def with_unit(name: str, value: float) -> str:
    """A score as people read it, right-aligned: per cent, px, or a plain number."""
    if name in FRACTIONS or "@" in name:
        return f"{100 * value:8.2f} %"
    return f"{value:8.2f} px" if name.endswith("_px") else f"{value:8.3f}"


def sizes_text(sizes_px: Sequence[tuple[int, int]]) -> str:
    """The image sizes that occur, the first four of them."""
    sizes = sorted(set(sizes_px))
    return ", ".join(f"{width}x{height}" for width, height in sizes[:4]) + (" ..." if len(sizes) > 4 else "")


def print_table(scores: Mapping[str, float], categories: Mapping[str, Mapping[str, float]],
                sizes_px: Sequence[tuple[int, int]], metric: Metric, name: str = "") -> None:
    """The scores as a table on stdout, those of CULane's categories below; with the name of the set, where given."""
    print(f"{f'{name}: ' if name else ''}{len(sizes_px)} images of {sizes_text(sizes_px)}, {metric.title} metric")
    for name, value in scores.items():
        print(f"  {name:20} {with_unit(name, value)}")
    for name, row in categories.items():
        figures = "  ".join(f"{key} {100 * value:6.2f} %" for key, value in row.items() if key.endswith(("50", "mf1")))
        print(f"  {name:20} {row['images']:6} images  {figures or 'fp ' + str(row['fp'])}")


def write_json(path: str | Path | None, scores: Mapping[str, Any]) -> None:
    """Write the scores to a file, when one is requested; what is not finite becomes null."""
    if path:
        write_text(Path(path), json_text(scores, indent=1) + "\n")
