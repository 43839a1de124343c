"""Lanes over the frames of a video: matches to labels and identity switches as CLEAR MOT counts them, and jitter.

CLEAR MOT: Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance, EURASIP 2008. A lane takes the
place of an object, the mean distance across it that of the distance in metres.
Shapes: K lanes of a frame, G labels of it, R rows. Lanes are x in px, one a row, NaN where a lane has no point.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from metrics.culane import assign

MATCH_PX = 40.0  # mean distance up to which a lane may be that of a label: twice TuSimple's tolerance
LINK_PX = 60.0  # up to which a lane may be that of the frame before


class LaneFrame(NamedTuple):
    """Lanes (K, R) of one frame, and the identity of each."""

    x: np.ndarray
    ids: Sequence[int]


class TrackingScores(NamedTuple):
    """Counts over all frames, and what follows from them."""

    labels: int
    misses: int  # labels without a lane
    false_lanes: int  # lanes without a label
    switches: int  # labels whose lane has another identity than the last time they had one
    distance_px: float  # mean over matches; NaN without any

    @property
    def mota(self) -> float:
        """1 - (misses + false lanes + switches) / labels: CLEAR MOT's accuracy; NaN without labels."""
        return 1 - (self.misses + self.false_lanes + self.switches) / self.labels if self.labels else math.nan


def lane_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(K, G) mean distances in px of lanes (K, R) and (G, R) over the rows that both have; infinite below two rows."""
    difference = np.abs(a[:, None] - b[None])
    common = np.isfinite(difference)
    count = common.sum(2)
    total = np.where(common, difference, 0).sum(2)
    return np.where(count >= 2, total / np.maximum(count, 1), np.inf)


def tracking_scores(clips: Iterable[Sequence[tuple[LaneFrame, LaneFrame]]]) -> TrackingScores:
    """Scores of (prediction, label) for the frames of each clip, in order; clips share no identity.

    As in CLEAR MOT a match of the frame before is kept while both are within MATCH_PX of each other; then the rest is
    matched one to one.
    """
    labels = misses = false_lanes = switches = 0
    distances: list[float] = []
    for clip in clips:
        current: dict[int, int] = {}  # identity of a label: of its lane, in the frame before
        last: dict[int, int] = {}  # the same, the last time that it had one
        for prediction, label in clip:
            distance = lane_distances(prediction.x, label.x)
            pairs = _matches(distance, prediction.ids, label.ids, current)
            current = {label.ids[g]: prediction.ids[k] for k, g in pairs}
            switches += sum(last.get(g, k) != k for g, k in current.items())
            last |= current
            labels += len(label.ids)
            misses += len(label.ids) - len(pairs)
            false_lanes += len(prediction.ids) - len(pairs)
            distances += [float(distance[pair]) for pair in pairs]
    return TrackingScores(labels, misses, false_lanes, switches, float(np.mean(distances)) if distances else math.nan)


def _matches(distance: np.ndarray, ids: Sequence[int], label_ids: Sequence[int], current: dict[int, int]
             ) -> list[tuple[int, int]]:
    """(k, g) of each match, given the matches of the frame before."""
    weight = np.maximum(MATCH_PX - distance, 0)
    kept = [(k, g) for g, number in enumerate(label_ids) for k, identity in enumerate(ids)
            if current.get(number) == identity and weight[k, g] > 0]
    for k, g in kept:
        weight[k], weight[:, g] = 0, 0
    return kept + [(k, g) for k, g in assign(weight) if weight[k, g] > 0]


def jitter_px(clips: Iterable[Sequence[np.ndarray]]) -> float:
    """Mean |x(t + 1) - 2 x(t) + x(t - 1)| in px over all rows of lanes (K, R) that three frames in a row have.

    Which lanes are the same is decided by their places alone, each the other's nearest within LINK_PX, so that
    identities change nothing. 0 for lanes that stand still or move evenly; NaN without such lanes.
    """
    total, count = 0.0, 0
    for clip in clips:
        links = [_links(a, b) for a, b in pairwise(clip)]
        for t, (before, after) in enumerate(pairwise(links), start=1):
            came_from = {b: a for a, b in before.items()}
            for lane, following in after.items():
                if lane in came_from:
                    second = clip[t - 1][came_from[lane]] - 2 * clip[t][lane] + clip[t + 1][following]
                    second = np.abs(second[np.isfinite(second)])
                    total, count = total + float(second.sum()), count + len(second)
    return total / count if count else math.nan


def _links(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    """For each lane of one frame (K, R) its lane in the next, where it has one."""
    if not len(a) or not len(b):
        return {}
    distance = lane_distances(a, b)
    nearest, back = distance.argmin(1), distance.argmin(0)
    return {k: int(g) for k, g in enumerate(nearest) if back[g] == k and distance[k, g] <= LINK_PX}
