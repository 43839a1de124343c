"""Lanes over the frames of a video: identities that last, curves that hold still, a numbering that shifts cleanly.

    tracker = Tracker(predictor.decode.threshold)
    for image in video:
        detections, ids = tracker.update(predictor(image))

A track is one line of the road. Its curve, its ends and its confidence are filtered (alpha-beta); it outlives frames
in which the network does not see it. A frame's lanes are given with the frame: nothing waits for the next one.
NumPy alone, since PyTorch takes longer for so few numbers.
Shapes: L lane slots, N tracks, K lanes of a frame, P = 6 control points, S samples, R rows, 2 = (x, y) in [0, 1].
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from geometry.bezier import CONTROL_POINTS, fit_matrix
from geometry.lane_arrays import FAR, bottom_x_by_tangent, close_pairs, gaps, nearest_pairs, without_duplicates, x_at
from geometry.slots import CAMERA_X
from inference.inputs import Frame
from inference.predictor import Detections

ROWS = np.linspace(0.25, 1, 16)  # at which lanes are compared
SAMPLES = np.linspace(0, 1, 12)  # t at which a curve is fitted again to other ends
FRACTIONS = np.linspace(0, 1, CONTROL_POINTS)  # of a curve's height, of its control points
ASPECT = 16 / 9  # of an image, for the angle of a lane
THUMBNAIL_STEP = 12  # pixels of the network's input
BLANK = 2.0  # levels: the standard deviation of a frame below which it shows no scene


class TrackerSettings(NamedTuple):
    """How tracks follow what is seen; gains are shares of a difference that a frame takes over."""

    position_gain: float = 0.5  # of the curve: the higher, the less it lags and the more it trembles
    velocity_gain: float = 0.12
    end_gain: float = 0.3  # of the ends' y
    confidence_gain: float = 0.4
    coast: float = 0.8  # factor of confidence and velocity in a frame without the lane
    coast_frames: int = 4  # frames without the lane for which a track is still reported, if it is confident enough
    hysteresis: float = 0.15  # by which the confidence of a reported track may fall below the threshold
    sustain: float = 0.5  # of the threshold: a lane so confident keeps a track, but begins none
    gate: float = 0.025  # of the image width: mean distance across the lane up to which it continues a track
    regain: float = 0.15  # the same, up to which a new track is the lost one that it is nearest to
    confirm: int = 2  # frames in a row that a track takes to be reported, where others are there already
    max_misses: int = 15  # frames after which a lost track is forgotten
    side_margin: float = 0.015  # of the image width, that a line passes the camera by before the numbering shifts
    cut: float = 0.5  # 1 - correlation of two frames from which they are different scenes


class Tracked(NamedTuple):
    """The lanes of one frame, and the identity of each slot's, from 1; 0 where no lane is reported."""

    detections: Detections
    ids: tuple[int, ...]  # (L)


class Tracks(NamedTuple):
    """All tracks of a video, in the order in which they began."""

    x: np.ndarray  # (N, P) of control points
    velocity: np.ndarray  # (N, P) of those, a frame
    ends: np.ndarray  # (N, 2) y of the far and the near end
    confidence: np.ndarray  # (N)
    hits: np.ndarray  # (N) frames that had the lane
    misses: np.ndarray  # (N) frames since
    ids: np.ndarray  # (N), 0 before a track is first reported
    reported: np.ndarray  # (N)
    left: np.ndarray  # (N) of the camera

    def take(self, rows: np.ndarray) -> "Tracks":
        """The tracks at these positions or where the mask is True."""
        return Tracks(*(part[rows] for part in self))


class Lanes(NamedTuple):
    """What the network sees in a frame."""

    x: np.ndarray  # (K, P) of control points
    ends: np.ndarray  # (K, 2)
    confidence: np.ndarray  # (K)

    def take(self, rows: np.ndarray) -> "Lanes":
        """The lanes at these positions or where the mask is True."""
        return Lanes(*(part[rows] for part in self))


NO_LANES = Lanes(*(np.zeros(shape) for shape in ((0, CONTROL_POINTS), (0, 2), 0)))


def begin(lanes: Lanes, hits: int) -> Tracks:
    """New tracks of lanes."""
    count = len(lanes.x)
    return Tracks(lanes.x, np.zeros_like(lanes.x), lanes.ends, lanes.confidence, np.full(count, hits),
                  np.zeros(count, int), np.zeros(count, int), np.zeros(count, bool),
                  bottom_x_by_tangent(lanes.x, lanes.ends) < CAMERA_X)


class Tracker:
    """Follows the lanes of one video or camera, frame by frame."""

    def __init__(self, threshold: float, settings: TrackerSettings | None = None):
        """threshold: confidence from which a lane is reported."""
        self.threshold, self.settings = threshold, settings or TrackerSettings()
        self.fit = fit_matrix(len(SAMPLES)).double().numpy().T.copy()  # (S, P)
        self.next_id = 1
        self.checksum = self.thumbnail = self.last = None
        self.forget()

    def forget(self) -> None:
        """Drop all tracks, as after a cut."""
        self.tracks = begin(NO_LANES, 0)

    def update(self, detections: Detections, pixels: np.ndarray | None = None, checksum: object = None) -> Tracked:
        """The tracked lanes of the next frame, given what the network sees in it.

        pixels (H, W, 3): the frame, by which cuts are noticed; checksum: of the frame, the same while a video pauses.
        """
        if self.last is not None and checksum is not None and checksum == self.checksum:
            return self.last
        self.checksum = checksum
        if pixels is not None and self._is_cut(pixels):
            self.forget()
        points, confidence = detections.points.numpy(), detections.confidence.numpy()
        candidates = np.flatnonzero(confidence >= self.settings.sustain * self.threshold)
        curves = points[candidates].astype(float)
        lanes = Lanes(curves[..., 0], curves[:, [0, -1], 1], confidence[candidates].astype(float))
        x = np.concatenate((self.tracks.x + self.tracks.velocity, lanes.x))
        rows, on = x_at(x, np.concatenate((self.tracks.ends, lanes.ends)), ROWS)
        distance, count = gaps(rows, on), len(self.tracks.x)
        tracks = self._merged(distance[:count, :count])
        lane = without_duplicates(distance[count:, count:], lanes.confidence)
        if len(tracks) + len(lane) < len(x):
            lanes, self.tracks = lanes.take(lane), self.tracks.take(tracks)
            kept = np.concatenate((tracks, lane + count))
            x, distance, count = x[kept], distance[np.ix_(kept, kept)], len(tracks)
        self._follow(x[:count], lanes, distance[:count, :count], distance[:count, count:])
        self.last = self._report(points.copy(), confidence.copy())
        return self.last

    def _is_cut(self, pixels: np.ndarray) -> bool:
        """Whether the frame shows another scene than the one before: brightness and contrast do not count."""
        before = self.thumbnail
        values = pixels[::THUMBNAIL_STEP, ::THUMBNAIL_STEP, 1].astype(np.float32).ravel()
        values -= values.sum() / values.size
        if float(values @ values) < BLANK * BLANK * values.size:
            return False  # black or white between two scenes: the one before is compared with the one after
        self.thumbnail = values
        if before is None or before.shape != values.shape:
            return False
        norm = math.sqrt(float(before @ before) * float(self.thumbnail @ self.thumbnail))
        return float(before @ self.thumbnail) < (1 - self.settings.cut) * norm

    def _merged(self, distance: np.ndarray) -> np.ndarray:
        """Positions of the tracks to keep: of two on one line that which is seen, with the identity of the one seen
        more often.
        """
        tracks, gone = self.tracks, set()
        for a, b in close_pairs(distance):
            if a not in gone and b not in gone:
                stays, goes = sorted((a, b), key=lambda i: (tracks.misses[i] > 0, -tracks.hits[i]))
                if tracks.hits[goes] > tracks.hits[stays]:
                    tracks.ids[stays], tracks.hits[stays] = tracks.ids[goes], tracks.hits[goes]
                gone.add(goes)
        return np.array([i for i in range(len(tracks.x)) if i not in gone], int)

    def _follow(self, predicted: np.ndarray, lanes: "Lanes", between: np.ndarray, distance: np.ndarray) -> None:
        """Take over the lanes that continue tracks, carry on tracks without one, begin tracks of other lanes.

        predicted (N, P); between (N, N) and distance (N, K): of tracks from each other and from lanes.
        """
        tracks, s = self.tracks, self.settings
        # Across the lane: one far to the side is nearly level, and its x is not known so well.
        height = np.maximum(tracks.ends[:, 1:] - tracks.ends[:, :1], 1e-6)
        slope = ASPECT * (tracks.x[:, -1:] - tracks.x[:, :1]) / height
        cosine = 1 / np.sqrt(1 + slope * slope)
        confirmed = tracks.hits >= s.confirm
        cost = distance * cosine + np.where(confirmed, 0, FAR)[:, None]  # a confirmed track comes first
        pairs = nearest_pairs(np.where(distance * cosine <= s.gate, cost, 3 * FAR), 2 * FAR)
        hit, lane = np.array(pairs, int).reshape(-1, 2).T
        other = np.ones(len(lanes.x), bool)
        other[lane] = False
        if len(tracks.x):
            self._update_tracks(predicted, lanes, hit, lane)
            self._regain(hit[self.tracks.hits[hit] == s.confirm], between * cosine)
            tracks = self.tracks
            goes = (tracks.misses > 0) & ((tracks.hits < s.confirm) | (tracks.misses > s.max_misses))
            if goes.any():
                self.tracks = tracks.take(~goes)
        other &= lanes.confidence >= self.threshold
        if other.any():
            new = begin(lanes.take(other), 1 if confirmed.any() else s.confirm)
            self.tracks = Tracks(*(np.concatenate(parts) for parts in zip(self.tracks, new, strict=True)))

    def _update_tracks(self, predicted: np.ndarray, lanes: "Lanes", hit: np.ndarray, lane: np.ndarray) -> None:
        """Filter the tracks `hit` by the lanes `lane`, and carry on the others."""
        tracks, s, count = self.tracks, self.settings, len(predicted)
        missed = np.ones(count, bool)
        missed[hit] = False
        ends = tracks.ends.copy()
        ends[hit] += s.end_gain * (lanes.ends[lane] - ends[hit])
        rows = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * SAMPLES
        curves, _ = x_at(np.concatenate((predicted, lanes.x[lane])), np.concatenate((tracks.ends, lanes.ends[lane])),
                         np.concatenate((rows, rows[hit])))
        refitted = curves @ self.fit  # all between the same ends
        x, velocity, confidence = refitted[:count], tracks.velocity.copy(), tracks.confidence.copy()
        innovation = refitted[count:] - x[hit]
        x[hit] += s.position_gain * innovation
        velocity[hit] += s.velocity_gain * innovation
        confidence[hit] += s.confidence_gain * (lanes.confidence[lane] - confidence[hit])
        if len(hit) < count:
            velocity[missed] *= s.coast
            confidence[missed] *= s.coast
        self.tracks = tracks._replace(x=x, velocity=velocity, ends=ends, confidence=confidence,
                                      hits=tracks.hits + ~missed, misses=np.where(missed, tracks.misses + 1, 0))

    def _regain(self, confirmed: np.ndarray, distance: np.ndarray) -> None:
        """Give tracks that have just been confirmed the identity of the lost one that each of them is."""
        tracks = self.tracks
        lost = np.flatnonzero((tracks.misses > 0) & (tracks.hits >= self.settings.confirm))
        if len(confirmed) and len(lost):
            for new, old in nearest_pairs(distance[np.ix_(confirmed, lost)], self.settings.regain):
                new, old = confirmed[new], lost[old]
                tracks.ids[new], tracks.hits[new], tracks.hits[old] = tracks.ids[old], tracks.hits[old] + 1, 0

    def _report(self, points: np.ndarray, confidence: np.ndarray) -> Tracked:
        """The tracks that are confident enough, put into points (L, P, 2) and confidence (L).

        Slots are counted outward from the camera; a line changes sides once it has passed the camera by a margin.
        """
        tracks, s = self.tracks, self.settings
        near = bottom_x_by_tangent(tracks.x, tracks.ends)
        is_left = near < CAMERA_X + np.where(tracks.left, s.side_margin, -s.side_margin)
        least = np.where(tracks.reported, self.threshold - s.hysteresis, self.threshold)
        reported = (tracks.hits >= s.confirm) & (tracks.confidence >= least) & (tracks.misses <= s.coast_frames)
        self.tracks = tracks._replace(reported=reported, left=is_left)
        half, ids, keep = len(points) // 2, [0] * len(points), np.zeros(len(points), bool)
        # By their chords: far to the side a line leaves the image high up, and its last bit points anywhere.
        height = np.maximum(tracks.ends[:, 1] - tracks.ends[:, 0], 1e-6)
        across = tracks.x[:, -1] + (tracks.x[:, -1] - tracks.x[:, 0]) * (1 - tracks.ends[:, 1]) / height
        order = sorted(np.flatnonzero(reported).tolist(), key=lambda i: (not is_left[i], across[i]))
        for track in order:
            if not tracks.ids[track]:
                tracks.ids[track], self.next_id = self.next_id, self.next_id + 1
        num_left = int(is_left[order].sum())  # these come first
        left, right = order[:num_left][-half:], order[num_left:][:half]
        shown, slots = left + right, slice(half - len(left), half + len(right))
        ends = tracks.ends[shown]
        points[slots, :, 0] = tracks.x[shown]
        points[slots, :, 1] = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * FRACTIONS
        confidence[slots], keep[slots], ids[slots] = tracks.confidence[shown], True, tracks.ids[shown].tolist()
        return Tracked(Detections(*map(torch.from_numpy, (points, confidence, keep))), tuple(ids))


class SourceTracker:
    """Tracks the lanes of one video or camera after the other; images go as they are."""

    def __init__(self, threshold: float):
        self.threshold, self.source, self.tracker = threshold, None, None

    def update(self, frame: Frame, detections: Detections) -> Tracked:
        """The lanes of the next frame; without identities for an image."""
        if frame.source.kind == "image":
            return Tracked(detections, ())
        if frame.source != self.source:
            self.source, self.tracker = frame.source, Tracker(self.threshold)
        return self.tracker.update(detections, frame.pixels, frame.checksum)
