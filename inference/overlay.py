"""What is drawn of a frame: its lanes and, with a camera, its position and the road from above."""

from collections.abc import Sequence

import numpy as np

from inference.lane_position import LanePosition, NoPosition
from inference.position_text import position_notes
from inference.predictor import Detections
from visualization.birds_eye import birds_eye, draw_notes
from visualization.draw import draw_lanes, lane_color


def overlay(image: np.ndarray, detections: Detections, ids: Sequence[int], position: LanePosition | NoPosition | None,
            with_birds_eye: bool) -> np.ndarray:
    """The image with its reported lanes, and notes of a position; with_birds_eye the road from above is to its right.

    ids: of the slots, for tracked lanes.
    """
    drawn = draw_lanes(image, *detections, ids)
    if position is None:
        return drawn
    is_position = isinstance(position, LanePosition)
    crossing = position.crossing if is_position else None
    drawn = draw_notes(drawn, position_notes(position), bool(crossing and crossing.is_warning))
    if not with_birds_eye:
        return drawn
    shown = detections.keep.nonzero()[:, 0].tolist()
    view = birds_eye(image, position.ground if is_position else None, detections.points[detections.keep],
                     [lane_color(slot, ids) for slot in shown])
    return np.hstack((drawn, view))
