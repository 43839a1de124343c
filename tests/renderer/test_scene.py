"""Scenes: repeatable, labelled where the paint is, some without lanes."""

from dataclasses import replace

import cv2
import numpy as np

from renderer import camera_effects, scene
from renderer.scene import render_scene

WIDTH, HEIGHT = 160, 90  # small and fast


def test_a_seed_gives_its_scene_and_no_other():
    first, again, other = render_scene([3, 1]), render_scene([3, 1]), render_scene([3, 2])
    assert first.image.shape == (360, 640, 3) and first.image.dtype == np.uint8
    assert np.array_equal(first.image, again.image)
    assert len(first.lanes) == len(again.lanes) > 0
    assert all(np.array_equal(a, b) for a, b in zip(first.lanes, again.lanes, strict=True))
    assert not np.array_equal(first.image, other.image)


def test_labels_lie_in_the_middle_of_paint(monkeypatch):
    """With every line drawn solid and nothing else, each label point halves its row's run of paint."""
    sample_road = scene.sample_road

    def solid_road(*arguments, **keywords):
        road = sample_road(*arguments, **keywords)
        return replace(road, lines=tuple(replace(line, kind="solid") for line in road.lines))

    monkeypatch.setattr(scene, "sample_road", solid_road)
    checked = 0
    for seed in range(40):
        clean = render_scene([5, seed], clean=True)
        gray = cv2.cvtColor(clean.image, cv2.COLOR_RGB2GRAY)
        for points in clean.lanes:
            for x, y in points[int(0.4 * len(points)) :: 7]:  # lines converge at the far end
                bright = np.flatnonzero(gray[int(y)] > 110)  # asphalt is 70, verge 65, paint 180 and more
                runs = np.split(bright, np.flatnonzero(np.diff(bright) > 1) + 1)
                left, right = min(((run[0], run[-1]) for run in runs), key=lambda run: abs(sum(run) / 2 - x))
                if left > 0 and right < 639:
                    assert abs((left + right) / 2 - x) < 1.5 + 0.05 * (right - left), (seed, x, y)
                    checked += 1
    assert checked > 1000


def test_labels_run_from_far_to_near_inside_the_image():
    counts = []
    for seed in range(60):
        lanes = render_scene([9, seed], WIDTH, HEIGHT).lanes
        counts.append(len(lanes))
        for points in lanes:
            assert points.dtype == np.float32 and points.shape[1] == 2
            assert points[:, 0].min() >= 0 and points[:, 0].max() <= WIDTH - 1
            assert points[:, 1].min() >= 0 and points[:, 1].max() <= HEIGHT - 1
            assert points[0, 1] < points[-1, 1]
    assert max(counts) <= 6
    assert {2, 3, 4} <= set(counts)


def test_some_scenes_have_no_lane():
    empty = [not render_scene([2, seed], WIDTH, HEIGHT, empty_share=0.3).lanes for seed in range(60)]
    assert 9 <= sum(empty) <= 29  # 18 are meant to be


def test_an_unpainted_road_and_one_in_the_dark_have_no_lanes(monkeypatch):
    painted = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    monkeypatch.setattr(camera_effects, "apply_sensor", lambda rng, image: image // 64)
    dark = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    monkeypatch.undo()
    sample_road = scene.sample_road
    monkeypatch.setattr(scene, "sample_road", lambda rng, painted, place: sample_road(rng, False, place))
    unpainted = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    assert sum(painted) > 10 and sum(dark) == sum(unpainted) == 0


def test_an_image_without_a_road_has_no_lanes():
    scenes = [render_scene([6, seed], WIDTH, HEIGHT, empty_share=1.0) for seed in range(20)]
    assert all(not drawn.lanes and drawn.image.shape == (HEIGHT, WIDTH, 3) for drawn in scenes)
    assert len({drawn.image.tobytes() for drawn in scenes}) == 20
