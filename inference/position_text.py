"""A lane position in words: a JSON object, a printed line, and the few lines of an overlay."""

import math
from typing import Any

from geometry.road_fit import Estimate
from inference.departure import Crossing
from inference.lane_position import STRAIGHT_M, LanePosition, NoPosition

SHOWN_S = 10.0  # a crossing that is later is not drawn
DIGITS = {"heading_deg": 2, "curvature_1_per_m": 6, "radius_m": 0, "pitch_deg": 2}  # of metres: 3


def position_record(position: LanePosition | NoPosition) -> dict[str, Any]:
    """The keys of a JSON object; `std` has the standard deviations under the same names."""
    if isinstance(position, NoPosition):
        return {"position": None, "no_position": position.reason}
    estimates = _estimates(position)

    def rounded(name: str, value: float) -> float:
        return round(value, DIGITS.get(name, 3))

    values = {name: None if estimate is None else rounded(name, estimate.value)
              for name, estimate in estimates.items()}
    stds = {name: rounded(name, estimate.std) for name, estimate in estimates.items() if estimate is not None}
    crossing = position.crossing
    return {"position": values | {
        "pitch_source": position.pitch_source,
        "time_to_line_crossing_s": None if crossing is None else round(crossing.seconds, 2),
        "crossing_line": None if crossing is None else crossing.side,
        "std": stds}}


def _estimates(position: LanePosition) -> dict[str, Estimate | None]:
    """All values under their names in JSON."""
    radius, curvature = position.radius_m, position.curvature
    return {
        "distance_left_m": position.left, "distance_right_m": position.right,
        "lateral_offset_m": position.offset, "lane_width_m": position.width,
        "heading_deg": in_degrees(position.heading), "curvature_1_per_m": curvature,
        "radius_m": None if radius is None else Estimate(radius, radius * radius * curvature.std),
        "pitch_deg": in_degrees(position.pitch)}


def in_degrees(angle: Estimate) -> Estimate:
    """An angle in degrees."""
    return Estimate(*map(math.degrees, angle))


def position_line(position: LanePosition | NoPosition) -> str:
    """The position in one printed line."""
    if isinstance(position, NoPosition):
        return f"no position: {position.reason}"
    parts = [_offset_words(position.offset, True)] if position.offset else []
    if position.left:
        parts.append(f"left line {_metres(position.left)}")
    if position.right:
        parts.append(f"right line {_metres(position.right)}")
    if position.width:
        parts.append(f"lane {_metres(position.width)} wide")
    parts += [f"heading {_heading_words(position.heading)}", _bend_words(position, True),
              f"pitch {math.degrees(position.pitch.value):.1f} deg {position.pitch_source}"]
    return ", ".join(parts + ([_crossing_words(position.crossing)] if position.crossing else []))


def position_notes(position: LanePosition | NoPosition) -> list[str]:
    """The position in a few short lines, for an overlay."""
    if isinstance(position, NoPosition):
        return [f"no position: {position.reason}"]
    sides = " ".join(f"{name} {side.value:.2f} m" for name, side in (("L", position.left), ("R", position.right))
                     if side)
    lines = [_offset_words(position.offset, False)] if position.offset else []
    lines += [sides] if sides else []
    lines.append(f"{_bend_words(position, False)}, heading {_heading_words(position.heading)}")
    is_near = position.crossing and position.crossing.seconds < SHOWN_S
    return [*lines, _crossing_words(position.crossing)] if is_near else lines


def _metres(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} m (+-{estimate.std:.2f})"


def _offset_words(offset: Estimate, exact: bool) -> str:
    side = "right" if offset.value >= 0 else "left"
    deviation = f" (+-{offset.std:.2f})" if exact else ""
    return f"{abs(offset.value):.2f} m{deviation} {side} of the middle"


def _heading_words(heading: Estimate) -> str:
    degrees = math.degrees(heading.value)
    return f"{abs(degrees):.1f} deg {'right' if degrees >= 0 else 'left'}"


def _bend_words(position: LanePosition, exact: bool) -> str:
    radius = position.radius_m
    if radius is None:
        return f"straight (radius above {STRAIGHT_M:.0f} m)" if exact else "straight"
    deviation = f" (+-{radius * radius * position.curvature.std:.0f})" if exact else ""
    return f"bend of {abs(radius):.0f} m{deviation} to the {'right' if radius > 0 else 'left'}"


def _crossing_words(crossing: Crossing) -> str:
    if crossing.seconds <= 0:
        return f"on the {crossing.side} line"
    return f"{crossing.side} line in {crossing.seconds:.1f} s"
