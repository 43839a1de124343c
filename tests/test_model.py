"""The network: shapes, canonical curves, symmetries, weights that fit or are refused, and that it can learn."""

import time

import numpy as np
import pytest
import torch
from batches import HEIGHT, WIDTH, pictures, some_target
from torch import nn

from geometry.bezier import fit_bezier, fit_matrix, sample_basis, sample_curve
from geometry.input_grid import InputGrid, RowWarp
from geometry.slots import assign_slots
from losses_fixed import LaneLoss
from model import SAMPLES, LaneNet
from preprocessing.images import preprocess
from renderer.scene import render_scene

BACKBONES = ["compact", "resnet18", "resnet34"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_predicts_slots(backbone):
    model = LaneNet(backbone).eval()
    with torch.inference_mode():
        points, logits = model(pictures(2))
    assert points.shape == (2, 6, 6, 2) and logits.shape == (2, 6)
    assert points.dtype == logits.dtype == torch.float32
    assert points.isfinite().all() and logits.isfinite().all()


def test_the_compact_one_is_small(net):
    weights = sum(p.numel() for p in net.parameters())
    assert 1e6 < weights < 3e6


@pytest.mark.parametrize("slots", [2, 4, 8])
def test_slots_are_as_many_as_asked_for(slots):
    with torch.inference_mode():
        points, logits = LaneNet(slots=slots).eval()(pictures(1))
    assert points.shape == (1, slots, 6, 2) and logits.shape == (1, slots)


@pytest.mark.parametrize("size", [(96, 160), (192, 320), (64, 64), (160, 96)])
def test_curves_are_canonical_and_in_the_image_at_any_size(net, size):
    with torch.inference_mode():
        points, _ = net(pictures(2, height=size[0], width=size[1]))
    y = points[..., 1]
    steps = y.diff(dim=-1)
    torch.testing.assert_close(steps, steps[..., :1].expand_as(steps), atol=1e-5, rtol=0)
    assert (steps > 0).all(), "P0 is the far end"
    assert y.min() >= 0 and y.max() <= 1 + 1e-5
    assert sample_curve(points, 24)[..., 0].min() > -0.2 and sample_curve(points, 24)[..., 0].max() < 1.2


def test_mixed_precision_does_not_round_coordinates(net):
    """bfloat16 has 8 bits: a coordinate in it is off by up to 2.5 px of 1280, and curves are no longer canonical."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        points = net(pictures(2)).points
    steps = points[..., 1].diff(dim=-1)
    assert points.dtype == torch.float32
    assert (steps - steps.mean(-1, keepdim=True)).abs().max() < 1e-6
    x = points[..., 0].flatten()
    assert (x.to(torch.bfloat16).float() == x).float().mean() < 0.1


def test_curves_are_canonical_however_wild_the_features(net):
    """Random weights ten times too large: P0 stays above P5 and the curve near the image.

    Columns reach from -0.05 to 1.05 of 40 cells; half a row beyond the outermost rows x is within 1.1 of the middle.
    """
    torch.manual_seed(1)
    wild = LaneNet().eval()
    with torch.no_grad():
        for parameter in wild.head.parameters():
            parameter.mul_(10)
        points, _ = wild(pictures(4))
    steps = points[..., 1].diff(dim=-1)
    assert (steps > 0).all()
    overshoot = (sample_basis(SAMPLES) @ fit_matrix(SAMPLES)).abs().sum(-1).max()  # of a curve through such points
    assert (sample_curve(points, SAMPLES)[..., 0] - 0.5).abs().max() < 1.1 * overshoot


def test_a_batch_is_what_its_images_are_alone(net):
    images = pictures(3)
    with torch.inference_mode():
        together = net(images)
        for i in range(3):
            alone = net(images[i:i + 1])
            torch.testing.assert_close(together.points[i], alone.points[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(together.logits[i], alone.logits[0], atol=1e-4, rtol=0)


def test_bytes_and_floats_and_either_memory_layout_are_the_same_image(net):
    images = pictures(2)
    with torch.inference_mode():
        expected = net(images)
        for other in (images.float(), images.contiguous(memory_format=torch.channels_last)):
            prediction = net(other)
            torch.testing.assert_close(prediction.points, expected.points, atol=1e-6, rtol=0)
            torch.testing.assert_close(prediction.logits, expected.logits, atol=1e-5, rtol=0)


def test_the_prediction_depends_on_the_image(net):
    with torch.inference_mode():
        points, logits = net(torch.cat((pictures(1), torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8))))
    assert not torch.allclose(points[0], points[1], atol=1e-4)
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


@pytest.mark.parametrize("backbone", ["compact", "resnet18"])
def test_every_parameter_is_reached_by_the_gradient(backbone):
    torch.manual_seed(0)
    model = LaneNet(backbone).train()
    (points, logits), rows = model(pictures(2), with_rows=True)
    LaneLoss()(points, logits, some_target(2), rows).total.backward()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_checkpoint_of_weights_gives_the_same_network(net):
    other = LaneNet().eval()
    other.load_state_dict(net.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(other(pictures(1)).points, net(pictures(1)).points)


def test_weights_for_the_compact_backbone_are_refused_in_words():
    with pytest.raises(ValueError, match=r"no weights for 'compact'"):
        LaneNet("compact", pretrained=True)


def test_a_missing_or_foreign_file_of_weights_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*absent\.pth"):
        LaneNet("resnet18", pretrained=str(tmp_path / "absent.pth"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="does not fit this backbone") as caught:
        LaneNet("resnet18", pretrained=str(tmp_path / "foreign.pth"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_four_scenes_can_be_learned_by_heart():
    """Learning at all: the real loss and optimizer bring four images below 2 px of 1280 in well under a minute."""
    torch.manual_seed(0)
    grid, images, curves = InputGrid(320, 144, RowWarp(0.25, 3.5)), [], []
    for seed in range(4):
        scene = render_scene([seed, 9], 320, 192)
        images.append(preprocess(scene.image, grid))
        lanes = [lane[(lane[:, 0] >= 0) & (lane[:, 0] <= 320)] / (320, 192) for lane in scene.lanes]
        curves.append([fit_bezier(torch.from_numpy(np.asarray(lane, np.float32))) for lane in lanes if len(lane) > 5])
    most = max(map(len, curves))
    points = torch.stack([torch.stack(c + [torch.zeros(6, 2)] * (most - len(c))) for c in curves])
    target = assign_slots(points, torch.tensor([[i < len(c) for i in range(most)] for c in curves]), 6)
    assert target.exists.sum() >= 8
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    # Four scenes leave existence nothing to learn, so regression may have most of the weight.
    model, loss, steps, began = LaneNet(warp=grid.warp).train(), LaneLoss(regression=6.0), 500, time.perf_counter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        prediction, rows = model(batch, with_rows=True)
        optimizer.zero_grad()
        loss(*prediction, target, rows).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        lr_scheduler.step()
    with torch.inference_mode():
        points, logits = model(batch)  # batch norm as in training: its running averages are those of a whole run
    error = (sample_curve(points, 24) - sample_curve(target.points, 24)).abs().mean(2)[target.exists]  # (lanes, 2)
    error_px, height_px = (error.mean(0) * torch.tensor([1280, 720])).tolist()
    print(f"{error_px:.2f} px across, {height_px:.2f} px along, in {time.perf_counter() - began:.0f} s")
    assert error_px < 2 and height_px < 4
    assert torch.equal(logits > 0, target.exists)
