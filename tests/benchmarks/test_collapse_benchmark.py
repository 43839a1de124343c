"""The benchmark of the collapse: its old loss, head and order of lanes, and a tiny run of all of it."""

import ast
import json
import math
import shutil

import collapse
import collapse_picture
import collapse_records
import collapse_report
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
EXISTS = torch.ones(1, 1, dtype=torch.bool)


def test_the_old_terms_by_hand():
    loss = old_way.UncertaintyLoss()
    with torch.no_grad():
        loss.log_vars.copy_(torch.tensor([0.5, -1.0, 2.0]))
    terms = loss(BENT, torch.zeros(1, 1), LaneTarget(STRAIGHT, EXISTS))
    regression, existence, curvature = 0.2 / 12, math.log(2), 0.2 / 8
    assert terms.regression.item() == pytest.approx(regression, rel=1e-5)
    assert terms.existence.item() == pytest.approx(existence)
    assert terms.curvature.item() == pytest.approx(curvature, rel=1e-5)
    total = (math.exp(-0.5) * regression + 0.5 + math.e * existence - 1 + math.exp(-2) * curvature + 2) / 2
    assert terms.total.item() == pytest.approx(total, rel=1e-5)


def test_curvature_of_old_asks_for_straight_lanes_whatever_the_label_says():
    target = LaneTarget(BENT, EXISTS)
    assert old_way.bend_loss(STRAIGHT, target) < 1e-6 < old_way.bend_loss(BENT, target)
    assert old_way.control_point_loss(BENT, target) == 0 < old_way.control_point_loss(STRAIGHT, target)


def test_absent_lanes_cost_nothing_but_confidence():
    terms = old_way.UncertaintyLoss()(BENT, torch.full((1, 1), -30.0), LaneTarget(STRAIGHT, ~EXISTS))
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


def test_a_constant_prediction_for_roads_all_alike_has_a_total_of_minus_infinity():
    """Existence then costs nothing without the image; straight lanes alone do the same."""
    points = torch.cat((BENT, curve(0.3, 0.3, 0.3, 0.3, 0.3, 0.4)))
    terms = old_way.blind_terms(points, torch.ones(2, 1, dtype=torch.bool), points[0])
    assert terms[0] > 0 and terms[2] > 0 and terms[1] == 0
    mixed = old_way.blind_terms(points, torch.tensor([[True], [False]]), STRAIGHT[0])
    assert mixed[1].item() == pytest.approx(math.log(2)) and mixed[2] < 1e-6


def test_without_curvature_the_bend_is_measured_and_not_paid_for():
    loss = old_way.UncertaintyLoss(curvature=False)
    with torch.no_grad():
        loss.log_vars[2] = -3.0
    terms = loss(BENT, torch.zeros(1, 1), LaneTarget(BENT, EXISTS))
    assert terms.curvature > 0
    assert terms.total.item() == pytest.approx(math.log(2) / 2)


def test_fixed_log_variances_are_not_trained():
    assert old_way.UncertaintyLoss().log_vars.requires_grad
    assert not old_way.UncertaintyLoss(learned=False).log_vars.requires_grad


def test_file_order_keeps_the_lanes_and_not_their_slots():
    generator = torch.Generator().manual_seed(5)
    exists = torch.rand(40, 6, generator=generator) < 0.6
    points = torch.rand(40, 6, 6, 2, generator=generator) * exists[..., None, None]
    listed = old_way.as_listed(LaneTarget(points, exists))
    shuffled = old_way.as_listed(LaneTarget(points, exists), torch.Generator().manual_seed(0))
    for target in (listed, shuffled):
        assert (target.exists == (torch.arange(6) < exists.sum(1, keepdim=True))).all()  # no slot left out
    for i in range(40):
        lanes, count = points[i][exists[i]], exists[i].sum()
        torch.testing.assert_close(listed.points[i, :count], lanes)
        same = (shuffled.points[i, :count, None] == lanes[None]).all((2, 3))
        assert (same.sum(0) == 1).all() and (same.sum(1) == 1).all()
    assert not torch.equal(listed.points, shuffled.points)
    again = old_way.as_listed(LaneTarget(points, exists), torch.Generator().manual_seed(0))
    assert torch.equal(again.points, shuffled.points)


def test_the_pooled_head_has_the_same_outputs_and_ignores_position():
    model = old_way.PooledNet().eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        prediction, rows = model(images, with_rows=True)
        assert rows is None
        assert prediction.points.shape == (2, 6, 6, 2) and prediction.logits.shape == (2, 6)
        assert (prediction.points > 0).all() and (prediction.points < 1).all()
        model.trunk = torch.nn.ModuleList([torch.nn.Conv2d(3, 192, 1)])
        torch.testing.assert_close(model(images).points, model(images.flip(3)).points)


def test_the_eight_variants_are_all_combinations():
    parts = [(v.loss, v.head, v.slots) for v in collapse.VARIANTS]
    assert len(set(parts)) == 8 and {word for variant in parts for word in variant} == {"old", "ours"}
    assert parts[0] == ("old",) * 3 and parts[-1] == ("ours",) * 3


def test_nothing_that_trains_for_use_imports_the_old_way():
    packages = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    files = [*ROOT.glob("*.py"), *(path for package in packages for path in package.glob("*.py"))]
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} | {"benchmarks"}
    assert len(files) > 50 and {"old_way", "collapse_train"} < benchmarks
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in imported} & benchmarks, path
    assert "log_var" not in (ROOT / "config.yaml").read_text(encoding="utf-8")


def test_roads_alike_have_one_set_of_lanes(rendered, tmp_path):
    shutil.copytree(rendered, tmp_path / "24-8-seed3")
    settings = collapse_records.Settings(scenes=6, val_scenes=2, width=64, height=64)
    train_set, val_set = collapse_train.datasets(settings, 3, True, tmp_path)
    exists = np.concatenate([train_set.pixels.exists, val_set.pixels.exists])
    assert 1 <= len(train_set) <= 6 and len(train_set.samples) == len(train_set.pixels.images)
    assert (exists == exists[0]).all()


@pytest.fixture(scope="module")
def tiny_run(rendered, tmp_path_factory):
    """The folder of a run of two epochs of all eight variants, and its command line."""
    folder = tmp_path_factory.mktemp("collapse")
    shutil.copytree(rendered, folder / "24-8-seed3")
    words = ["--seeds", "3", "--scenes", "24", "--val-scenes", "8", "--epochs", "2", "--width", "64", "--height", "64",
             "--processes", "1", "--no-extras", "--folder", str(folder), "--table", str(folder / "table.md"),
             "--picture", str(folder / "picture.jpg")]
    assert collapse.main(words) == 0
    return folder


def picture_size(path):
    """(height, width) of a picture."""
    assert path.stat().st_size < 300_000
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR).shape[:2]


@pytest.mark.slow
def test_a_tiny_run_writes_the_table_the_log_and_the_picture(tiny_run):
    table = (tiny_run / "table.md").read_text(encoding="utf-8")
    assert "Seed 3:" in table and "PyTorch" in table and "±" not in table
    assert all(table.count(f"| {v.name} |") >= 2 for v in collapse.VARIANTS)
    assert picture_size(tiny_run / "picture.jpg")[1] == 1440
    log = json.loads((tiny_run / "log-seed3.json").read_text())
    assert len(log["runs"]) == 8 and len(log["blind"]) == 2 and len(log["labels"]) == 8
    for run in log["runs"]:
        assert [record["epoch"] for record in run["epochs"]] == [1, 2] and len(run["lanes"]) == 8
        keys = {"total", "val_total", "regression", "existence", "curvature", "error_px", "constant_error_px",
                "diversity", "f1"}
        keys |= {"s_regression", "weight_curvature", "pull_curvature"} if run["loss"] == "old" else set()
        assert keys <= set(run["epochs"][-1])
        if run["loss"] == "ours":
            assert all(record["val_total"] > 0 for record in run["epochs"])


@pytest.mark.slow
def test_tables_and_picture_are_made_from_logs_alone(tiny_run, tmp_path, capsys):
    words = ["--from-logs", str(tiny_run / "log-seed3.json"), "--table", str(tmp_path / "table.md"), "--picture",
             str(tmp_path / "picture.jpg")]
    assert collapse.main(words) == 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table == (tiny_run / "table.md").read_text(encoding="utf-8")
    assert table.strip() == capsys.readouterr().out.strip()
    assert (tmp_path / "picture.jpg").read_bytes() == (tiny_run / "picture.jpg").read_bytes()


def record(epoch, **figures):
    """An epoch of a run with the old loss; figures replace those of a collapsed model."""
    terms = {f"{kind}_{name}": value for kind, value in (("val", 0.2), ("s", -2.0), ("weight", 7.4), ("pull", 1.0))
             for name in ("regression", "existence", "curvature")}
    return {"epoch": epoch, "total": -3.0, "val_total": -3.1, "error_px": 310.0, "constant_error_px": 301.0,
            "diversity": 0.01, "f1": 0.02, "accuracy": 0.35, "sensitivity": 0.0, "verdict": "collapsing", **terms,
            **figures}


def earlier_log(path, *epochs):
    """A log as the program wrote it before it had seeds and lanes: one run, whose s are held at 0."""
    variant = {"name": "(a), s held at 0", "loss": "held", "head": "old", "slots": "old", "alike": False, "s_rate": 30}
    blind = [{"slots": "old", "alike": False, "regression": 0.1, "existence": 0.2, "curvature": 0.0,
              "total": -math.inf, "error_px": 300.0, "f1": 0.1, "accuracy": 0.4}]
    path.write_text(json.dumps({"runs": [{**variant, "seconds": 30.0, "epochs": epochs}], "blind": blind}))
    return path


def test_seeds_are_a_mean_half_of_the_range_and_all_verdicts(tmp_path):
    paths = [earlier_log(tmp_path / "0.json", record(1, val_total=0.5), record(2, val_total=-1.0, f1=0.1)),
             earlier_log(tmp_path / "1.json", record(1, val_total=0.4), record(2, val_total=-1.5, f1=0.2)),
             earlier_log(tmp_path / "2.json", record(1, val_total=-0.3),
                         record(2, val_total=-2.0, f1=0.6, verdict="learning"))]
    logs = collapse_records.read_logs(paths)
    assert [log.seed for log in logs] == [0, 1, 2]
    text = collapse_report.tables(logs, "how they were made")
    assert ("| (a), s fixed at 0 | old, s fixed at 0 | pooled | shuffled | -3.00 ± 0.00 | -1.50 ± 0.50 | 310 ± 0 (301) "
            "| 0.01 ± 0.00 | 0.00 ± 0.00 | 30 ± 25 | 35 ± 0 | 2 collapsing, 1 learning |") in text
    assert "| (a), s fixed at 0 | 0.20 | -1.50 | 2, 2, 1 | 0.01 0.01 |" in text
    assert "| shuffled | 0.1000 | 0.2000 | 0.0000 | -∞ | 300 ± 0 | 10 ± 0 | 40 ± 0 |" in text
    assert text.splitlines()[2] == "how they were made"


def test_a_picture_without_lanes_has_the_charts_alone(tmp_path):
    paths = [earlier_log(tmp_path / f"{seed}.json", record(1), record(2, diversity=0.5)) for seed in range(2)]
    logs = collapse_records.read_logs(paths)
    variant = collapse.VARIANTS[0]
    logs = [log._replace(runs=[run._replace(variant=variant) for run in log.runs]) for log in logs]
    alone = collapse_picture.picture(logs, 1.5)
    with_lanes = [log._replace(labels=[[[[0.5, 0.4 + 0.1 * i] for i in range(6)]]],
                               runs=[run._replace(lanes=[[]]) for run in log.runs]) for log in logs]
    both = collapse_picture.picture(with_lanes, 1.5)
    assert both.shape[1] == alone.shape[1] and both.shape[0] == alone.shape[0] + 32 + 480


def test_logs_of_other_variants_are_refused(tmp_path):
    logs = collapse_records.read_logs([earlier_log(tmp_path / "0.json", record(1))])
    with pytest.raises(ValueError, match=r"not every log has a run of: \(a\), s fixed at 0"):
        collapse_report.tables([*logs, logs[0]._replace(runs=[])], "")
