"""Augmentation: the image and its lanes move together, each setting does its own part, and 0 does nothing."""

import dataclasses

import pytest
import torch

from config import AugmentConfig
from geometry.bezier import control_points_from_x, x_at_rows
from geometry.input_grid import UNIFORM, RowWarp
from geometry.slots import LaneTarget, assign_slots
from preprocessing import augment as augment_module
from preprocessing.augment import (
    HORIZON,
    AugmentParams,
    augment,
    augment_lanes,
    sample_affine,
    sample_color,
    sample_params,
    warp_lanes,
)

WIDTH, HEIGHT = 320, 192
NOTHING = AugmentConfig(**{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)})
GEOMETRY = {"flip": 1.0, "rotate": 6.0, "scale": 0.2, "shift": 0.1, "shear": 0.15}
COLOR = {"brightness": 0.3, "contrast": 0.3, "color": 0.2}
ALL = AugmentConfig(**GEOMETRY | {"flip": 0.5}, **COLOR)  # whatever the defaults are
ROAD = [  # control x of three lanes from row 0.35 to row 0.95
    [0.48, 0.42, 0.34, 0.26, 0.18, 0.10],
    [0.52, 0.53, 0.55, 0.55, 0.60, 0.66],
    [0.58, 0.66, 0.72, 0.80, 0.86, 0.88],
]


def augmented(images, target, settings, seed, rows=UNIFORM):
    """The images and the target augmented with the random parameters of a seed."""
    params = sample_params(len(images), settings, WIDTH / HEIGHT, torch.Generator().manual_seed(seed))
    return augment(images, params, rows), augment_lanes(target, params)


def road(count, rows=UNIFORM):
    """`count` times three white lines on black, uint8 (B, 3, H, W) in these rows, and their target."""
    x = torch.tensor(ROAD)
    points = control_points_from_x(x, torch.full((3,), 0.35), torch.full((3,), 0.95))
    line_px, t = x_at_rows(points, rows.y((torch.arange(HEIGHT) + 0.5) / HEIGHT))  # (3, H)
    columns = torch.arange(WIDTH) + 0.5
    bright = torch.exp(-((columns - WIDTH * line_px[..., None]) / 2.5) ** 2)  # (3, H, W)
    image = (255 * bright * ((t >= 0) & (t <= 1))[..., None]).amax(0).round().to(torch.uint8)
    images = image.expand(count, 3, HEIGHT, WIDTH).contiguous()
    target = assign_slots(points[None], torch.ones(1, 3, dtype=torch.bool), 6)
    return images, LaneTarget(target.points.expand(count, -1, -1, -1), target.exists.expand(count, -1))


def line_errors_px(image, target, rows=UNIFORM):
    """Distance in px between each lane (L) and the bright line in image (H, W), at every row inside the lane."""
    middles = rows.y((torch.arange(HEIGHT) + 0.5) / HEIGHT)
    errors = [torch.zeros(0)]
    for points in target.points[target.exists]:
        x, _ = x_at_rows(points, middles)
        y_far, y_near = (rows.v(points[[0, -1], 1]) * HEIGHT).tolist()
        inside = torch.arange(int(y_far) + 4, int(y_near) - 4)
        expected = x[inside] * WIDTH
        columns = expected.int()[:, None] + torch.arange(-9, 10)  # (rows, 19)
        whole = (columns[:, 0] >= 0) & (columns[:, -1] < WIDTH)
        inside, expected, columns = inside[whole], expected[whole], columns[whole]
        light = image[inside[:, None], columns]
        assert (light > 60).any(1).all(), f"nothing bright near some of rows {inside.tolist()}"
        errors.append(((light * (columns + 0.5)).sum(1) / light.sum(1) - expected).abs())
    return torch.cat(errors)


def same(a, b, atol):
    assert torch.equal(a.exists, b.exists)
    torch.testing.assert_close(a.points, b.points, atol=atol, rtol=0)


def test_the_drawing_itself_is_under_its_labels():
    images, target = road(1)
    assert line_errors_px(images[0, 0].float(), LaneTarget(*(v[0] for v in target))).max() < 0.2


@pytest.mark.parametrize("rows", [UNIFORM, RowWarp(0.1, 3.5)])
@pytest.mark.parametrize("option", [*GEOMETRY, "all"])
def test_the_lines_of_a_view_are_under_its_labels(option, rows):
    """One pixel in 320 is a fifth of the tolerance that the metric allows."""
    settings = ALL if option == "all" else dataclasses.replace(NOTHING, **{option: GEOMETRY[option]})
    if option == "all":
        settings = dataclasses.replace(settings, brightness=0, contrast=0, color=0)
    images, target = road(24, rows)
    views, moved = augmented(images, target, settings, 5, rows)
    assert not torch.equal(views, images.float())
    errors = [line_errors_px(view[0], LaneTarget(*one), rows) for view, *one in zip(views, *moved, strict=True)]
    assert sum(len(e) > 100 for e in errors) >= 20
    errors = torch.cat(errors)
    assert errors.mean() < 0.2
    assert errors.max() < 1


def test_labels_turned_without_their_image_would_be_noticed():
    """The test above can fail: labels turned by up to a degree are more than a pixel off."""
    images, target = road(1)
    angle = dataclasses.replace(NOTHING, rotate=1.0)
    matrix = sample_affine(1, angle, WIDTH / HEIGHT, torch.Generator().manual_seed(1))
    moved = warp_lanes(target, matrix)
    assert line_errors_px(images[0, 0].float(), LaneTarget(*(v[0] for v in moved))).max() > 1


def test_lanes_keep_their_visible_ends():
    """The label of a view reaches to where its line leaves the image or ends, short of one step of sampling."""
    images, target = road(24)
    settings = dataclasses.replace(NOTHING, shift=0.1, scale=0.2)
    matrix = sample_affine(24, settings, WIDTH / HEIGHT, torch.Generator().manual_seed(2))
    moved = warp_lanes(target, matrix)
    views, _ = augmented(images, target, settings, 2)
    for view, points, exists in zip(views, *moved, strict=True):
        bright = (view[0] > 128).any(1).nonzero()[:, 0]
        near_px = points[exists][:, -1, 1].max() * HEIGHT
        far_px = points[exists][:, 0, 1].min() * HEIGHT
        assert abs(near_px - (bright.max() + 1)) < 6
        assert abs(far_px - bright.min()) < 6


def test_no_settings_change_nothing():
    images, target = road(3)
    views, moved = augmented(images, target, NOTHING, 0)
    torch.testing.assert_close(views, images.float(), atol=0.02, rtol=0)
    same(moved, target, atol=1e-4)


def test_a_flip_mirrors_image_lanes_and_slots():
    images, target = road(2)
    views, moved = augmented(images, target, dataclasses.replace(NOTHING, flip=1.0), 0)
    torch.testing.assert_close(views, images.flip(3).float(), atol=0.02, rtol=0)
    mirrored = torch.stack((1 - target.points[..., 0], target.points[..., 1]), dim=-1)
    mirrored = (mirrored * target.exists[..., None, None]).flip(1)
    assert target.exists[0].tolist() == [False, False, True, True, True, False]
    same(moved, LaneTarget(mirrored, target.exists.flip(1)), atol=1e-4)


def test_half_of_the_views_are_flipped_at_a_half():
    matrix = sample_affine(400, dataclasses.replace(NOTHING, flip=0.5), 2.0, torch.Generator().manual_seed(0))
    assert 150 < int((matrix[:, 0, 0] < 0).sum()) < 250


@pytest.mark.parametrize("option", COLOR)
def test_colors_change_the_image_and_no_label(option):
    images, target = road(6)
    images = images // 2 + 64
    settings = dataclasses.replace(NOTHING, **{option: COLOR[option]})
    views, moved = augmented(images, target, settings, 3)
    same(moved, target, atol=1e-4)
    difference = (views - images).abs().amax((1, 2, 3))
    assert (difference > 1).sum() >= 5
    assert views.min() >= 0 and views.max() <= 255
    tinted = (views[:, 0] - views[:, 2]).abs().amax((1, 2)) > 0.5
    assert bool(tinted.any()) == (option == "color")


def test_gain_stays_within_its_setting():
    gain, offset = sample_color(500, dataclasses.replace(NOTHING, brightness=0.3), torch.Generator().manual_seed(0))
    assert gain.shape == offset.shape == (500, 3, 1, 1)
    assert gain.min() > 1 / 1.3 - 1e-4 and gain.max() < 1.3 + 1e-4
    assert gain.min() < 0.8 and gain.max() > 1.25
    assert not offset.any()


def test_contrast_leaves_gray_as_it_is():
    gain, offset = sample_color(500, dataclasses.replace(NOTHING, contrast=0.3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(127.5 * gain + offset, torch.full_like(gain, 127.5))
    assert gain.min() < 0.8 and gain.max() > 1.25


def test_geometry_stays_within_its_settings():
    settings = dataclasses.replace(ALL, flip=0.0, shear=0.0)
    matrix = sample_affine(500, settings, 2.0, torch.Generator().manual_seed(0))
    center = matrix @ torch.tensor([0.5, 0.5, 1.0])
    assert (center - 0.5).abs().max() <= 0.1 + 1e-5 and (center - 0.5).abs().amax(0).min() > 0.09
    size = torch.linalg.det(matrix[:, :, :2]).sqrt()
    assert size.min() >= 1 / 1.2 - 1e-4 and size.max() <= 1.2 + 1e-4
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0] / 2.0, matrix[:, 1, 1]))  # aspect 2
    assert 5 < angle.abs().max() <= 6 + 1e-3


def test_a_shear_leaves_the_horizon_and_moves_the_bottom_sideways():
    matrix = sample_affine(500, dataclasses.replace(NOTHING, shear=0.15), 2.0, torch.Generator().manual_seed(0))
    horizon, bottom = (torch.tensor([0.4, y, 1.0]) for y in (HORIZON, 1.0))
    torch.testing.assert_close(matrix @ horizon, horizon[:2].expand(500, 2))
    x, y = (matrix @ bottom).unbind(1)
    torch.testing.assert_close(y, torch.ones(500))
    assert -0.15 - 1e-5 <= (x - 0.4).min() < -0.14 and 0.14 < (x - 0.4).max() <= 0.15 + 1e-5


def test_the_same_seed_gives_the_same_views():
    images, target = road(4)
    a, b, c = (augmented(images, target, ALL, s) for s in (1, 1, 2))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1].points, b[1].points)
    assert not torch.equal(a[0], c[0])


def test_images_of_a_batch_have_views_of_their_own():
    images, target = road(4)
    views, _ = augmented(images, target, ALL, 1)
    assert all(not torch.equal(views[0], views[i]) for i in (1, 2, 3))


def test_arguments_are_left_as_they_were():
    images, target = road(2)
    copies = [v.clone() for v in (images, *target)]
    augmented(images, target, ALL, 1)
    assert all(torch.equal(a, b) for a, b in zip((images, *target), copies, strict=True))


def shift(dx, dy):
    return torch.tensor([[[1.0, 0.0, dx], [0.0, 1.0, dy]]])


def test_lanes_that_leave_the_image_disappear():
    _, target = road(1)
    for gone in (shift(-0.95, 0), shift(0, 0.64), shift(0, -0.94)):
        moved = warp_lanes(target, gone)
        assert not moved.exists.any()
        assert not moved.points.any()
    right = warp_lanes(target, shift(0.45, 0))  # the outer lane leaves, the left one stays
    assert 1 <= int(right.exists.sum()) < 3
    assert (right.points[right.exists][..., 0] <= 1.02).all()


def test_a_lane_that_comes_to_the_other_side_of_the_camera_changes_its_slot():
    _, target = road(1)
    moved = warp_lanes(target, shift(-0.25, 0))  # near ends at -0.15, 0.41 and 0.63
    assert moved.exists[0].tolist() == [False, True, True, True, False, False]


def test_a_batch_without_lanes_stays_without():
    images, target = road(2)
    empty = LaneTarget(torch.zeros_like(target.points), torch.zeros_like(target.exists))
    views, moved = augmented(images, empty, ALL, 1)
    assert views.isfinite().all()
    assert not moved.exists.any() and not moved.points.any()


def test_a_blank_image_is_one_gray_and_has_no_lanes():
    images, target = road(64)
    views, moved = augmented(images, target, dataclasses.replace(NOTHING, blank=0.5), 1)
    blank = views.flatten(1).amax(1) == views.flatten(1).amin(1)
    assert 16 < blank.sum() < 48
    assert not moved.exists[blank].any() and not moved.points[blank].any()
    assert torch.equal(moved.exists[~blank], target.exists[~blank])
    torch.testing.assert_close(views[~blank], images[~blank].float(), atol=0.51, rtol=0)
    grays = views[blank][:, 0, 0, 0]
    assert grays.min() < 64 and grays.max() > 192, "dark and bright ones"


def test_the_sampling_grid_is_that_of_affine_grid():
    matrix = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.affine_grid(matrix, [3, 1, 5, 7], align_corners=False)
    torch.testing.assert_close(augment_module._sampling_grid(matrix, 5, 7, UNIFORM), expected)


@pytest.mark.parametrize("rows", [UNIFORM, RowWarp(0.25, 1.8)], ids=str)
def test_smaller_images_have_their_lanes_in_the_same_place(rows):
    images, _ = road(4, rows)
    params = sample_params(4, AugmentConfig(blank=0.0), WIDTH / HEIGHT, torch.Generator().manual_seed(0))
    whole, small = (augment(images, params, rows, size) for size in (None, (HEIGHT // 2, WIDTH // 2)))
    assert small.shape == (4, 3, HEIGHT // 2, WIDTH // 2)
    assert (small - torch.nn.functional.avg_pool2d(whole, 2)).abs().mean() < 3


def test_an_image_that_moves_down_repeats_its_first_row_at_the_top():
    """The pixels above were cut off; black ones in their stead would look like a horizon."""
    images = torch.arange(1, 9, dtype=torch.uint8)[:, None].expand(1, 3, 8, 10) * 20
    down = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0.4]]])
    params = AugmentParams(down, torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1), torch.tensor([False]))
    for rows in (RowWarp(0.3), RowWarp(0.3, 3.0)):
        moved = augment(images, params, rows)
        visible_rows = moved[0, 0, :, 5]
        assert visible_rows[0] == 20 and (visible_rows.diff() >= 0).all() and visible_rows[-1] > 60
