"""Scores as people and programs read them: a table, a JSON file."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METRICS = {"tusimple": "TuSimple", "culane": "CULane"}
FRACTIONS = ("accuracy", "accuracy_with_lanes", "fp", "fn", "f1", "mf1", "existence_accuracy")


def with_unit(name: str, value: float) -> str:
    """A score as people read it, right-aligned: per cent, px, or a plain number."""
    if name in FRACTIONS or "@" in name:
        return f"{100 * value:8.2f} %"
    return f"{value:8.2f} px" if name.endswith("_px") else f"{value:8.3f}"


def print_table(scores: dict[str, float], categories: dict[str, Any], sizes_px: Sequence[tuple[int, int]], metric: str
                ) -> None:
    """The scores as a table on stdout, those of CULane's categories below."""
    sizes = sorted(set(sizes_px))
    shown = ", ".join(f"{width}x{height}" for width, height in sizes[:4]) + (" ..." if len(sizes) > 4 else "")
    print(f"{len(sizes_px)} images of {shown}, {METRICS[metric]} metric")
    for name, value in scores.items():
        print(f"  {name:20} {with_unit(name, value)}")
    for name, row in categories.get("categories", {}).items():
        figures = "  ".join(f"{key} {100 * value:6.2f} %" for key, value in row.items() if key.endswith(("50", "mf1")))
        print(f"  {name:20} {row['images']:6} images  {figures or 'fp ' + str(row['fp'])}")


def write_json(path: str | None, scores: dict[str, Any]) -> None:
    """Write the scores to a file, when one is asked for; what is not a number becomes null."""
    if path:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in scores.items()}
        Path(path).write_text(json.dumps(finite, indent=1) + "\n", encoding="utf-8")
