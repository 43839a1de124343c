"""When a car leaves its lane: its sideways speed from tracked lines, and the time until its side is on a line."""

import math
from typing import NamedTuple

LAG_S = 0.12  # time constant of the filter: the shorter, the more a speed trembles
LEAST_S = 0.5  # of tracking before a speed is given
WARNING_S = 1.0  # a crossing that is nearer is a warning


class Crossing(NamedTuple):
    """Which line a car is about to cross, and when."""

    seconds: float
    side: str  # left | right

    @property
    def is_warning(self) -> bool:
        return self.seconds < WARNING_S


def time_to_line_crossing(left_m: float, right_m: float, half_width_m: float, sideways_m_s: float) -> Crossing | None:
    """The line that a car's side reaches first, going on as it does; None where it reaches none.

    left_m, right_m: from the car's middle to both lines, infinite for one that is not there; sideways_m_s: to the
    right. The time is 0 while a side is on or over its line.
    """
    gaps = {"left": left_m - half_width_m, "right": right_m - half_width_m}
    side = min(gaps, key=gaps.__getitem__)
    if gaps[side] <= 0:
        return Crossing(0.0, side)
    side = "right" if sideways_m_s > 0 else "left"
    if not sideways_m_s or math.isinf(gaps[side]):
        return None
    return Crossing(gaps[side] / abs(sideways_m_s), side)


class DriftFilter:
    """The speed at which a car moves sideways, by the lines that are seen before and after.

    A critically damped g-h filter of each line's place; its gains follow from the time between two frames.
    """

    def __init__(self):
        self.lines: dict[int, tuple[float, float, float]] = {}  # by identity: metres to the right, their speed, age

    def update(self, lines: dict[int, float], seconds: float) -> float | None:
        """Metres a second to the right, so many seconds after the last call; None in the first half second.

        lines: by identity, metres to the right of the car at which each is.
        """
        keep = math.exp(-seconds / LAG_S)
        before, self.lines = self.lines, {}
        for identity, place in lines.items():
            if identity not in before:
                self.lines[identity] = (place, 0.0, 0.0)
                continue
            old, speed, age = before[identity]
            predicted = old + speed * seconds
            off = place - predicted
            if seconds > 0:
                speed += (1 - keep) ** 2 * off / seconds
            self.lines[identity] = (predicted + (1 - keep * keep) * off, speed, age + seconds)
        speeds = [(1 / (1 + place * place), speed) for place, speed, age in self.lines.values() if age >= LEAST_S]
        total = sum(weight for weight, _ in speeds)  # lines that are far aside tremble more
        return -sum(weight * speed for weight, speed in speeds) / total if speeds else None
