"""The benchmark of the collapse: its old loss, head and order of lanes, and a tiny run of all of it."""

import ast
import json
import math
import shutil
from types import SimpleNamespace

import collapse
import collapse_train
import cv2
import numpy as np
import old_way
import pytest
import torch
from paths import ROOT

from geometry.slots import LaneTarget


def curve(*x):
    """One lane (1, 1, P, 2) with these control x and equally spaced y from 0.4 to 0.9."""
    return torch.stack((torch.tensor(x), torch.linspace(0.4, 0.9, 6)), -1)[None, None]


STRAIGHT, BENT = curve(0.5, 0.5, 0.5, 0.5, 0.5, 0.5), curve(0.5, 0.5, 0.5, 0.5, 0.5, 0.7)
THERE = torch.ones(1, 1, dtype=torch.bool)


def test_the_old_terms_by_hand():
    loss = old_way.UncertaintyLoss()
    with torch.no_grad():
        loss.log_vars.copy_(torch.tensor([0.5, -1.0, 2.0]))
    terms = loss(BENT, torch.zeros(1, 1), LaneTarget(STRAIGHT, THERE))
    regression, existence, curvature = 0.2 / 12, math.log(2), 0.2 / 8
    assert terms.regression.item() == pytest.approx(regression, rel=1e-5)
    assert terms.existence.item() == pytest.approx(existence)
    assert terms.curvature.item() == pytest.approx(curvature, rel=1e-5)
    total = (math.exp(-0.5) * regression + 0.5 + math.e * existence - 1 + math.exp(-2) * curvature + 2) / 2
    assert terms.total.item() == pytest.approx(total, rel=1e-5)


def test_curvature_of_old_asks_for_straight_lanes_whatever_the_label_says():
    target = LaneTarget(BENT, THERE)
    assert old_way.bend_loss(STRAIGHT, target) < 1e-6 < old_way.bend_loss(BENT, target)
    assert old_way.control_point_loss(BENT, target) == 0 < old_way.control_point_loss(STRAIGHT, target)


def test_lanes_that_are_not_there_cost_nothing_but_confidence():
    terms = old_way.UncertaintyLoss()(BENT, torch.full((1, 1), -30.0), LaneTarget(STRAIGHT, ~THERE))
    assert terms.regression == terms.curvature == 0
    assert terms.total < 1e-6


def test_the_best_total_is_where_s_has_no_gradient_and_has_no_lower_bound():
    terms = torch.tensor([0.1, 0.4, 0.02])
    s = terms.log().requires_grad_()
    total = 0.5 * (torch.exp(-s) * terms + s).sum()
    total.backward()
    assert s.grad.abs().max() < 1e-6
    assert old_way.best_total(terms).item() == pytest.approx(total.item(), abs=1e-6)
    assert old_way.best_total(torch.tensor([0.1, 0.4, 0.0])) == -math.inf


def test_the_blind_answer_to_roads_all_alike_has_a_total_of_minus_infinity():
    """Existence is then known without looking; straight lanes alone do the same."""
    points = torch.cat((BENT, curve(0.3, 0.3, 0.3, 0.3, 0.3, 0.4)))
    terms = old_way.blind_terms(points, torch.ones(2, 1, dtype=torch.bool), points[0])
    assert terms[0] > 0 and terms[2] > 0 and terms[1] == 0
    mixed = old_way.blind_terms(points, torch.tensor([[True], [False]]), STRAIGHT[0])
    assert mixed[1].item() == pytest.approx(math.log(2)) and mixed[2] < 1e-6


def test_without_curvature_the_bend_is_measured_and_not_paid_for():
    loss = old_way.UncertaintyLoss(curvature=False)
    with torch.no_grad():
        loss.log_vars[2] = -3.0
    terms = loss(BENT, torch.zeros(1, 1), LaneTarget(BENT, THERE))
    assert terms.curvature > 0
    assert terms.total.item() == pytest.approx(math.log(2) / 2)


def test_held_log_variances_are_not_trained():
    assert old_way.UncertaintyLoss().log_vars.requires_grad
    assert not old_way.UncertaintyLoss(learned=False).log_vars.requires_grad


def test_file_order_keeps_the_lanes_and_not_their_places():
    generator = torch.Generator().manual_seed(5)
    exists = torch.rand(40, 6, generator=generator) < 0.6
    points = torch.rand(40, 6, 6, 2, generator=generator) * exists[..., None, None]
    listed = old_way.as_listed(LaneTarget(points, exists))
    shuffled = old_way.as_listed(LaneTarget(points, exists), torch.Generator().manual_seed(0))
    for found in (listed, shuffled):
        assert (found.exists == (torch.arange(6) < exists.sum(1, keepdim=True))).all()  # no slot left out
    for i in range(40):
        lanes, count = points[i][exists[i]], exists[i].sum()
        torch.testing.assert_close(listed.points[i, :count], lanes)
        there = (shuffled.points[i, :count, None] == lanes[None]).all((2, 3))
        assert (there.sum(0) == 1).all() and (there.sum(1) == 1).all()
    assert not torch.equal(listed.points, shuffled.points)
    again = old_way.as_listed(LaneTarget(points, exists), torch.Generator().manual_seed(0))
    assert torch.equal(again.points, shuffled.points)


def test_the_pooled_head_answers_in_the_same_form_and_does_not_know_where():
    model = old_way.PooledNet().eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        prediction, rows = model(images, with_rows=True)
        assert rows is None
        assert prediction.points.shape == (2, 6, 6, 2) and prediction.logits.shape == (2, 6)
        assert (prediction.points > 0).all() and (prediction.points < 1).all()
        model.trunk = torch.nn.ModuleList([torch.nn.Conv2d(3, 192, 1)])
        torch.testing.assert_close(model(images).points, model(images.flip(3)).points)


def test_the_eight_variants_are_all_there_are():
    made = [(v.loss, v.head, v.slots) for v in collapse.VARIANTS]
    assert len(set(made)) == 8 and {word for variant in made for word in variant} == {"old", "ours"}
    assert made[0] == ("old",) * 3 and made[-1] == ("ours",) * 3


def test_nothing_that_trains_for_use_knows_the_old_way():
    for path in ROOT.glob("*.py"):
        names = {alias.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                 if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                  if isinstance(node, ast.ImportFrom)}
        assert not {name for name in names if "benchmarks" in name or "old_way" in name or "collapse" in name}, path
    assert "log_var" not in (ROOT / "config.yaml").read_text(encoding="utf-8")


def test_roads_alike_have_one_set_of_lanes(rendered, tmp_path):
    shutil.copytree(rendered, tmp_path / "24-8-seed3")
    options = SimpleNamespace(scenes=6, val_scenes=2, seed=3, folder=tmp_path, width=64, height=64)
    train_set, val_set = collapse_train.datasets(options, alike=True)
    exists = np.concatenate([train_set.pixels.exists, val_set.pixels.exists])
    assert 1 <= len(train_set) <= 6 and len(train_set.samples) == len(train_set.pixels.images)
    assert (exists == exists[0]).all()


def test_a_tiny_run_writes_the_table_the_log_and_the_picture(rendered, tmp_path, capsys):
    shutil.copytree(rendered, tmp_path / "24-8-seed3")
    words = ["--scenes", "24", "--val-scenes", "8", "--seed", "3", "--epochs", "2", "--width", "64", "--height", "64",
             "--processes", "1", "--no-extras", "--folder", str(tmp_path), "--table", str(tmp_path / "table.md"),
             "--picture", str(tmp_path / "picture.jpg")]
    assert collapse.main(words) == 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.strip() == capsys.readouterr().out.strip()
    assert "seed 3" in table and "PyTorch" in table
    assert all(table.count(f"| {v.name} |") >= 2 for v in collapse.VARIANTS)
    picture = tmp_path / "picture.jpg"
    assert picture.stat().st_size < 300_000
    assert cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR).shape[1] == 1440
    log = json.loads((tmp_path / "log.json").read_text())
    assert len(log["runs"]) == 8 and len(log["blind"]) == 2
    for run in log["runs"]:
        assert [record["epoch"] for record in run["epochs"]] == [1, 2]
        wanted = {"total", "val_total", "regression", "existence", "curvature", "error_px", "constant_error_px",
                  "diversity", "f1"}
        wanted |= {"s_regression", "weight_curvature", "pull_curvature"} if run["loss"] == "old" else set()
        assert wanted <= set(run["epochs"][-1])
        if run["loss"] == "ours":
            assert all(record["val_total"] > 0 for record in run["epochs"])
