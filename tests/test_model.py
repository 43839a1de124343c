"""The network: shapes, canonical curves, symmetries, what it computes with, and that it can learn."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchgen
import yaml
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from augment import augment, random_views
from bezier import fit, fit_matrix, sample, sample_basis
from config import AugmentConfig, Config
from dataset import preprocess
from lanes import LaneTarget, keep_lanes, nearer_count, to_slots
from learner import build_learner
from losses_fixed import LaneLoss
from model import FINER, SAMPLES, LaneNet, column_centres
from raster import Raster, Rows
from scene import render_scene

HEIGHT, WIDTH = 96, 160
BACKBONES = ["compact", "resnet18", "resnet34"]


@pytest.fixture(scope="module")
def net():
    """One with equal rows over the whole image: the closed forms are plainer."""
    torch.manual_seed(0)
    return LaneNet().eval()


def pictures(count, seed=0, height=HEIGHT, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def some_target(count, slots=6):
    x = torch.linspace(0.1, 0.9, slots)[:, None].expand(slots, 6)
    y = torch.linspace(0.4, 0.9, 6).expand(slots, 6)
    points = torch.stack((x, y), dim=-1).expand(count, -1, -1, -1)
    exists = torch.zeros(count, slots, dtype=torch.bool)
    exists[:, 1:-1] = True
    return LaneTarget(points * exists[..., None, None], exists)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_answers_in_slots(backbone):
    model = LaneNet(backbone).eval()
    with torch.inference_mode():
        points, logits = model(pictures(2))
    assert points.shape == (2, 6, 6, 2) and logits.shape == (2, 6)
    assert points.dtype == logits.dtype == torch.float32
    assert points.isfinite().all() and logits.isfinite().all()


@pytest.mark.parametrize("rows", [Rows(), Rows(0.25), Rows(0.25, 3.5), Rows(0.5, 8.0)])
def test_lanes_lie_in_the_rows_that_the_network_has(rows):
    torch.manual_seed(0)
    model = LaneNet(rows=rows).eval()
    with torch.inference_mode():
        (points, _), found = model(pictures(2), with_rows=True)
    y = points[..., 1]
    assert y.min() >= rows.sky - 1e-6 and y.max() <= 1 + 1e-6
    middles = (torch.arange(HEIGHT // 8) + 0.5) / (HEIGHT // 8)
    torch.testing.assert_close(found.rows, rows.y(middles))


@pytest.mark.parametrize("height", [96, 432])
@pytest.mark.parametrize("rows", [Rows(), Rows(0.25, 3.5)])
def test_a_lane_that_begins_and_ends_in_the_last_row_stays_in_the_image(rows, height):
    torch.manual_seed(0)
    model = LaneNet(rows=rows).eval()
    last = torch.full((2, 4, height // 8, 6), -1e4)
    last[:, :2, -1] = 1e4  # far and near
    model.head.ends.forward = lambda along: last
    with torch.inference_mode():
        (points, _), found = model(pictures(2, height=height), with_rows=True)
    y = points[..., 1]
    assert y.max() <= 1 + 1e-6 and (y[..., -1] - y[..., 0] > 0.019).all()
    x = (found.columns.softmax(-1) * found.centres).sum(-1)[..., -2:]  # what the last rows say, and a row beyond
    apart = (x[..., 1] - x[..., 0]).abs().max()
    assert (points[..., 0] - x[..., 1:]).abs().max() <= apart + 1e-4


@pytest.mark.parametrize("rows", [Rows(), Rows(0.25, 3.5), Rows(0.5, 8.0)])
def test_a_straight_line_stays_straight_in_any_rows(rows):
    """The columns of all rows lie on one line of the image: so does the curve, beyond the rows' middles as well."""
    torch.manual_seed(0)
    model = LaneNet(rows=rows).eval()
    centres = column_centres(2 * (WIDTH // 8 + 2), torch.device("cpu"))
    middles = rows.y((torch.arange(HEIGHT // 8) + 0.5) / (HEIGHT // 8))
    wanted = 0.2 + 0.5 * middles
    shares = (1 - (wanted[:, None] - centres).abs() / (centres[1] - centres[0])).clamp(min=0)  # (h, K)
    cells = shares.clamp(min=1e-30).log().unflatten(1, (-1, FINER)).permute(2, 0, 1)  # (2, h, w + 2)
    model.head.columns.forward = lambda features: cells.repeat(6, 1, 1).expand(len(features), -1, -1, -1)
    with torch.inference_mode():
        points = model(pictures(2)).points
    torch.testing.assert_close(points[..., 0], 0.2 + 0.5 * points[..., 1], atol=1e-5, rtol=0)


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
    assert sample(points, 24)[..., 0].min() > -0.2 and sample(points, 24)[..., 0].max() < 1.2


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
    assert (sample(points, SAMPLES)[..., 0] - 0.5).abs().max() < 1.1 * overshoot


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
            found = net(other)
            torch.testing.assert_close(found.points, expected.points, atol=1e-6, rtol=0)
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=0)


def test_rows_are_shown_on_request_and_change_no_answer(net):
    with torch.inference_mode():
        prediction, rows = net(pictures(2), with_rows=True)
        assert torch.equal(prediction.points, net(pictures(2)).points)
    assert rows.columns.shape == (2, 6, HEIGHT // 8, 2 * (WIDTH // 8 + 2)) and rows.columns.dtype == torch.float32
    assert rows.present.shape == (2, 6, HEIGHT // 8) and rows.centres.shape == (2 * (WIDTH // 8 + 2),)


def test_a_lane_is_where_its_columns_are(net, monkeypatch):
    """Column logits that choose one column in every row give a straight upright lane there."""
    centres = column_centres(44, torch.device("cpu"))  # two a cell, and a cell more on each side
    assert centres[0].item() == pytest.approx(-0.0375) and centres[-1].item() == pytest.approx(1.0375)
    torch.testing.assert_close(centres.diff(), torch.full((43,), 0.025))
    sure_of(net, monkeypatch, 0, -1, lambda _row: 15)
    with torch.inference_mode():
        points, _ = net(pictures(1))
    torch.testing.assert_close(points[..., 0], torch.full_like(points[..., 0], 0.3375), atol=1e-4, rtol=0)


def sure_of(net, monkeypatch, far_row, near_row, column_of_row=None):
    """Make the head certain of the rows where every lane begins and ends, and of its column in each row."""
    def ends(features):
        said = torch.full((len(features), 4, *features.shape[2:]), -30.0)
        said[:, 0, far_row] = said[:, 1, near_row] = 30.0
        return said

    def columns(features):
        said = torch.full((len(features), net.slots, 2, features.shape[2], features.shape[3] + 2), -30.0)
        for row in range(said.shape[3]):
            cell, part = divmod(column_of_row(row), 2)
            said[:, :, part, row, cell] = 30.0
        return said.flatten(1, 2)

    monkeypatch.setattr(net.head.ends, "forward", ends)
    if column_of_row:
        monkeypatch.setattr(net.head.columns, "forward", columns)


def test_a_slanted_lane_is_where_its_columns_are(net, monkeypatch):
    """One column further in each row: a straight line through the centres of those of 40 columns and 12 rows."""
    sure_of(net, monkeypatch, 2, 9, lambda row: 4 + row)
    with torch.inference_mode():
        points, _ = net(pictures(1))
    y = points[..., 1]
    assert y[..., 0].max() < 0.25 and y[..., -1].min() > 0.75
    x = (4 + 12 * y - 0.5 - 1.5) / 40  # the centre of column k is at (k - 1.5) / 40, that of row r at (r + 0.5) / 12
    torch.testing.assert_close(points[..., 0], x, atol=1e-3, rtol=0)


def test_a_lane_can_begin_and_end_where_labels_do(net, monkeypatch):
    """TuSimple's lanes reach row 710 of 720: the head must be able to say so without help from a tolerance."""
    sure_of(net, monkeypatch, 0, -1)
    with torch.inference_mode():
        points, _ = net(pictures(1, height=192, width=320))
    assert points[..., 0, 1].max() <= 160 / 720
    assert points[..., -1, 1].min() >= 710 / 720


def test_the_answer_depends_on_the_image(net):
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


class Recorded(TorchDispatchMode):
    """Names of all operators that ran, and those that saw a float64 tensor, which MPS does not have."""

    def __init__(self):
        super().__init__()
        self.names, self.doubles = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func))
        if any(isinstance(v, torch.Tensor) and v.dtype in (torch.float64, torch.complex128)
               for v in tree_flatten((args, kwargs, result))[0]):
            self.doubles.add(str(func))
        return result


def on_mps(names):
    """Those of the operators that PyTorch's own table has for MPS: with a kernel of its own, or made of others."""
    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    table = {entry["func"].partition("(")[0]: entry for entry in yaml.load(path.read_text(), yaml.CSafeLoader)}

    def has(name):
        entry = table.get(table[name].get("structured_delegate"), table[name])
        kernels = ", ".join(entry.get("dispatch", ["Composite"]))
        return "MPS" in kernels or ("Composite" in kernels and "lstsq" not in name)  # made of some that MPS lacks

    short = {name: name.removeprefix("aten.").removesuffix(".default") for name in names}
    return {name for name, inner in short.items() if inner in table and has(inner)}


def test_a_training_step_uses_nothing_that_mps_lacks():
    """float64 does not exist on MPS, nor do most of torch.linalg; the fit matrices are made once, on the CPU."""
    torch.manual_seed(0)
    rows = Rows(0.25, 3.5)
    model, settings = LaneNet(rows=rows).train(), AugmentConfig()
    optimiser = build_learner(model, Config(), 10, torch.device("cpu"), torch.float32).optimiser  # the default one

    def step():
        views = random_views(2, settings, 1.5, torch.Generator().manual_seed(0))
        images, target = augment(pictures(2), some_target(2), views, rows)
        (points, logits), found = model(images, with_rows=True)
        LaneLoss()(points, logits, nearer_count(points, logits, target), found).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        keep_lanes(points.detach(), logits.detach().sigmoid(), 0.5)

    step()
    with Recorded() as seen:
        step()
    assert len(seen.names) > 30 and any("convolution_backward" in name for name in seen.names)
    assert seen.doubles == set()
    used = {name for name in seen.names if not name.startswith("profiler.")}
    assert used - on_mps(used) == set()


def test_the_table_of_operators_tells_what_mps_lacks():
    lacking = {"aten.linalg_eig.default", "aten.linalg_lstsq.default", "aten.no_such_operator"}
    there = {"aten.addmm.default", "aten.add.Tensor", "aten.convolution_backward.default", "aten.linspace.default"}
    assert on_mps(lacking | there) == there


def test_recording_would_notice_a_double():
    with Recorded() as seen:
        torch.zeros(2).double().sum()
    assert seen.doubles


@pytest.mark.slow
def test_four_scenes_can_be_learned_by_heart():
    """Learning at all: the real loss and optimiser bring four images below 2 px of 1280 in well under a minute."""
    torch.manual_seed(0)
    raster, images, curves = Raster(320, 144, Rows(0.25, 3.5)), [], []
    for seed in range(4):
        scene = render_scene([seed, 9], 320, 192)
        images.append(preprocess(scene.image, raster))
        lanes = [lane[(lane[:, 0] >= 0) & (lane[:, 0] <= 320)] / (320, 192) for lane in scene.lanes]
        curves.append([fit(torch.from_numpy(np.asarray(lane, np.float32))) for lane in lanes if len(lane) > 5])
    most = max(map(len, curves))
    points = torch.stack([torch.stack(c + [torch.zeros(6, 2)] * (most - len(c))) for c in curves])
    target = to_slots(points, torch.tensor([[i < len(c) for i in range(most)] for c in curves]), 6)
    assert target.exists.sum() >= 8
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    # Four scenes leave existence nothing to learn, so regression may have most of the weight.
    model, loss, steps, began = LaneNet(rows=raster.rows).train(), LaneLoss(regression=6.0), 500, time.perf_counter()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for _ in range(steps):
        prediction, rows = model(batch, with_rows=True)
        optimiser.zero_grad()
        loss(*prediction, target, rows).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    with torch.inference_mode():
        points, logits = model(batch)  # batch norm as in training: its running averages are those of a whole run
    apart = (sample(points, 24) - sample(target.points, 24)).abs().mean(2)[target.exists]  # (lanes, 2), as in the loss
    error_px, height_px = (apart.mean(0) * torch.tensor([1280, 720])).tolist()
    print(f"{error_px:.2f} px across, {height_px:.2f} px along, in {time.perf_counter() - began:.0f} s")
    assert error_px < 2 and height_px < 4
    assert torch.equal(logits > 0, target.exists)
