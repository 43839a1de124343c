"""Tracks: lanes that hold still, last through gaps, keep their identity, and end."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from geometry.bezier import control_points_from_x
from inference.inputs import Frame
from inference.predictor import Detections
from inference.sources import Source
from inference.tracker import SourceTracker, Tracker, TrackerSettings
from metrics.tracking import jitter_px

SLOTS, THRESHOLD = 6, 0.5
PLACES = {1: 0.05, 2: 0.3, 3: 0.7, 4: 0.95}  # slot: x at the bottom of its lane
ROAD = np.random.default_rng(0).integers(0, 255, (144, 320, 3), dtype=np.uint8)
OTHER_ROAD = np.random.default_rng(1).integers(0, 255, (144, 320, 3), dtype=np.uint8)


def seen(places=PLACES, noise=0.0, rng=None, confidence=0.98):
    """Detections of straight lanes from (0.5, 0.4) down to the x of their slots."""
    points, existence = torch.zeros(SLOTS, 6, 2), torch.full((SLOTS,), 0.01)
    points[..., 1] = torch.linspace(0.4, 1, 6)
    for slot, bottom in places.items():
        x = torch.linspace(0.5, bottom, 6)
        if noise:
            x = x + torch.from_numpy(rng.normal(0, noise, 6)).float()
        points[slot] = control_points_from_x(x, torch.tensor(0.4), torch.tensor(1.0))
        existence[slot] = confidence
    return Detections(points, existence, existence >= THRESHOLD)


def bottoms(tracked):
    """Identity: x at the bottom, of the reported lanes."""
    detections, ids = tracked
    return {ids[slot]: float(detections.points[slot, -1, 0]) for slot in detections.keep.nonzero()[:, 0].tolist()}


def numbering(tracked):
    """Identity: slot from 1."""
    detections, ids = tracked
    return {ids[slot - 1]: slot for slot, *_ in detections.lanes()}


def test_the_first_frame_is_as_seen():
    tracked, ids = Tracker(THRESHOLD).update(seen())
    assert (tracked.keep == seen().keep).all()
    assert torch.allclose(tracked.points[tracked.keep], seen().points[seen().keep], atol=1e-5)
    assert sorted(ids) == [0, 0, 1, 2, 3, 4] and [bool(number) for number in ids] == tracked.keep.tolist()


def test_what_stands_still_stays():
    tracker = Tracker(THRESHOLD)
    for _ in range(20):
        tracked, ids = tracker.update(seen())
    assert torch.allclose(tracked.points[tracked.keep], seen().points[seen().keep], atol=1e-4)
    assert torch.allclose(tracked.confidence[tracked.keep], torch.tensor(0.98)) and max(ids) == 4


def test_noise_is_halved_without_bias():
    rng, tracker = np.random.default_rng(0), Tracker(THRESHOLD)
    raw, tracked = [], []
    for _ in range(200):
        frame = seen(noise=0.01, rng=rng)
        result = tracker.update(frame).detections
        raw.append(frame.points[frame.keep][..., 0].numpy() * 1280)
        tracked.append(result.points[result.keep][..., 0].numpy() * 1280)
    assert jitter_px([tracked]) < 0.5 * jitter_px([raw])
    assert np.mean(tracked[20:], axis=0) == pytest.approx(np.mean(raw[20:], axis=0), abs=2)  # px


def test_even_motion_has_no_lag():
    tracker = Tracker(THRESHOLD)
    for t in range(40):
        x = 0.2 + 0.002 * t
        tracked = tracker.update(seen({2: x, 3: x + 0.4}))
    assert sorted(bottoms(tracked).values()) == pytest.approx([x, x + 0.4], abs=0.001)


@pytest.mark.parametrize(("gap", "stays"), [(1, True), (3, True), (8, False)])
def test_a_lane_stays_through_a_short_gap_alone(gap, stays):
    tracker = Tracker(THRESHOLD)
    for _ in range(5):
        before = tracker.update(seen())
    lane = before.ids[3]
    for _ in range(gap):
        tracked = tracker.update(seen({slot: x for slot, x in PLACES.items() if slot != 3}))
    assert (lane in bottoms(tracked)) == stays
    for _ in range(2):
        tracked = tracker.update(seen())
    assert tracked.ids == before.ids  # the same lane when it is back


def test_a_lane_that_does_not_come_back_is_forgotten():
    tracker, settings = Tracker(THRESHOLD), TrackerSettings()
    before = [tracker.update(seen()) for _ in range(5)][-1]
    for _ in range(settings.max_misses + 1):
        tracked = tracker.update(seen({2: 0.3}))
    assert list(bottoms(tracked)) == [before.ids[2]] and len(tracker.tracks.x) == 1
    for _ in range(3):
        tracked = tracker.update(seen())
    assert len({*before.ids} & {*tracked.ids} - {0}) == 1


def test_weak_confidence_keeps_a_track_and_begins_none():
    tracker = Tracker(THRESHOLD)
    assert not tracker.update(seen(confidence=0.45)).detections.keep.any()
    tracker.update(seen())
    for _ in range(10):
        tracked = tracker.update(seen(confidence=0.45))
    assert tracked.detections.keep.sum() == 4
    for _ in range(10):
        tracked = tracker.update(seen(confidence=0.3))
    assert not tracked.detections.keep.any()


def test_a_flash_of_a_lane_is_not_reported():
    tracker = Tracker(THRESHOLD)
    for _ in range(3):
        tracker.update(seen({2: 0.3, 3: 0.7}))
    assert len(bottoms(tracker.update(seen()))) == 2
    assert len(bottoms(tracker.update(seen({2: 0.3, 3: 0.7})))) == 2


def test_a_new_lane_is_reported_in_its_second_frame():
    tracker = Tracker(THRESHOLD)
    tracker.update(seen({2: 0.3, 3: 0.7}))
    counts = [len(bottoms(tracker.update(seen()))) for _ in range(3)]
    assert counts == [2, 4, 4]


def test_a_lane_change_shifts_the_numbering_once_and_keeps_identities():
    """Lines move to the left; the network numbers them anew, and blends two lines in the frames between."""
    tracker, history = Tracker(THRESHOLD), []
    for t in range(61):
        left, right = 0.3 - 0.006 * t, 0.7 - 0.006 * t
        places = {2: left, 3: right} if right > 0.5 else {1: left, 2: right}
        if 33 <= t < 35:
            places = {2: (left + right) / 2}  # neither of them
        history.append(numbering(tracker.update(seen(places))))
    first, last = history[0], history[-1]
    assert list(first.values()) == [3, 4] and list(last.values()) == [2, 3]
    assert list(first) == list(last)
    right = [frame[list(first)[1]] for frame in history]
    assert sum(a != b for a, b in pairwise(right)) == 1


def test_a_line_below_the_camera_does_not_flicker_between_sides():
    tracker, slots = Tracker(THRESHOLD), set()
    for t in range(20):
        tracked = tracker.update(seen({2: 0.495} if t % 2 else {3: 0.505}))
        slots |= {*numbering(tracked).values()}
    assert len(slots) == 1


def test_lines_that_leave_at_the_side_are_counted_by_where_they_run_not_by_how_they_end():
    detections, (inner, outer) = seen(), (4, 5)  # slots, from 0
    for slot, near in ((inner, 0.6), (outer, 0.5)):
        detections.points[slot] = control_points_from_x(torch.linspace(0.5, 1, 6), torch.tensor(0.4),
                                                        torch.tensor(near))
        detections.confidence[slot], detections.keep[slot] = 0.98, True
    detections.points[outer, -2, 0] = 0.99  # its last bit points down, past the bottom of the inner one
    tracked, _ = Tracker(THRESHOLD).update(detections)
    assert torch.allclose(tracked.points[[inner, outer]], detections.points[[inner, outer]], atol=1e-5)


def test_a_lane_far_to_the_side_is_followed_by_its_distance_across():
    """It is nearly level: 0.06 of the width along its rows, in the mean, are 0.01 across it."""
    tracker = Tracker(THRESHOLD)
    for _ in range(4):
        tracker.update(seen({1: -1.5, 3: 0.7}))
    tracked = tracker.update(seen({1: -1.62, 3: 0.7}))
    assert min(bottoms(tracked).values()) == pytest.approx(-1.56, abs=0.005), "half way"


def test_the_order_of_slots_does_not_matter():
    rng, a, b = np.random.default_rng(0), Tracker(THRESHOLD), Tracker(THRESHOLD)
    for _ in range(10):
        frame, order = seen(noise=0.003, rng=rng), torch.from_numpy(rng.permutation(SLOTS))
        one, other = a.update(frame), b.update(Detections(*(part[order] for part in frame)))
        x, y = (result.detections.points[result.detections.keep] for result in (one, other))
        assert torch.allclose(x, y, atol=1e-6)


def test_a_cut_ends_all_tracks_and_begins_others_at_once():
    tracker = Tracker(THRESHOLD)
    for _ in range(5):
        before = tracker.update(seen(), ROAD)
    darker = (ROAD * 0.5).astype(np.uint8)
    assert tracker.update(seen(), darker).ids == before.ids  # a bridge's shadow is no cut
    after = tracker.update(seen(), OTHER_ROAD)
    assert after.detections.keep.sum() == 4 and not {*before.ids} & {*after.ids} - {0}


@pytest.mark.parametrize("blank", [0, 255])
@pytest.mark.parametrize(("road", "is_cut"), [(OTHER_ROAD, True), (ROAD, False)], ids=["cut", "same scene"])
def test_a_cut_through_black_or_white_is_one_and_a_black_frame_alone_is_none(blank, road, is_cut):
    tracker = Tracker(THRESHOLD)
    for _ in range(5):
        before = tracker.update(seen(), ROAD)
    for _ in range(2):
        tracker.update(seen(confidence=0.0), np.full_like(ROAD, blank))
    after = tracker.update(seen(), road)
    assert after.detections.keep.sum() == 4 and {*before.ids}.isdisjoint({*after.ids} - {0}) == is_cut


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5])
def test_a_lane_that_is_gone_stays_for_four_frames_at_most_whatever_the_threshold(threshold):
    tracker = Tracker(threshold)
    for _ in range(5):
        tracker.update(seen())
    shown = [bool(tracker.update(seen(confidence=0.0)).detections.keep.any()) for _ in range(8)]
    assert shown == sorted(shown, reverse=True) and 1 <= sum(shown) <= 4


def test_a_pause_changes_nothing():
    tracker = Tracker(THRESHOLD)
    for t in range(6):
        tracked = tracker.update(seen({2: 0.2 + 0.01 * t}), checksum=t)
    for _ in range(30):
        assert tracker.update(seen({2: 0.25}), checksum=5) is tracked


def test_the_arguments_are_left_as_they_are():
    frame, copy = seen(), seen()
    tracker = Tracker(THRESHOLD)
    for _ in range(4):
        tracker.update(frame, ROAD)
    assert all(torch.equal(a, b) for a, b in zip(frame, copy, strict=True))


def test_an_empty_video_and_more_lanes_than_a_side_has():
    tracker = Tracker(THRESHOLD)
    for _ in range(3):
        assert not tracker.update(seen({})).detections.keep.any()
    tracked = tracker.update(seen(dict(enumerate((0.0, 0.1, 0.2, 0.3, 0.4, 0.7)))))
    assert numbering(tracked) and tracked.detections.keep.tolist() == [True] * 4 + [False] * 2
    assert sorted(bottoms(tracked).values()) == pytest.approx([0.2, 0.3, 0.4, 0.7], abs=1e-4), "the nearest ones"


def test_each_video_has_a_tracker_and_images_have_none():
    tracker = SourceTracker(THRESHOLD)
    image, one, two = (Source(name, name, kind) for name, kind in
                       (("a.jpg", "image"), ("a.mp4", "video"), ("b.mp4", "video")))
    frame = seen()
    assert tracker.update(Frame(image), frame) == (frame, ())
    first = tracker.update(Frame(one), frame).ids
    assert tracker.update(Frame(one, 2, checksum=(1, 1)), frame).ids == first
    assert sorted(tracker.update(Frame(two), frame).ids) == sorted(first)
    assert tracker.source == two
