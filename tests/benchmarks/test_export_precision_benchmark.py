"""The benchmark of exported files' precision: its measure in closed form, and its tables on a tiny network."""

import numpy as np
import pytest
import torch

from config import load_config
from geometry.bezier import control_points_from_x
from runtime.checkpoint import build_model, save_checkpoint

pytest.importorskip("onnxruntime")
import export_precision

import export_fixed

pytestmark = pytest.mark.usefixtures("elsewhere")


def straight(x, y_far, y_near):
    """A vertical line (1, P, 2)."""
    return control_points_from_x(torch.full((1, 6), x), torch.tensor([y_far]), torch.tensor([y_near]))


@pytest.mark.parametrize(("second", "gap_px"), [
    (straight(0.51, 0.2, 0.9), 12.8),
    (straight(0.51, 0.4, 1.0), 12.8),  # in the rows that both have
    (straight(0.5, 0.3, 0.8), 0.0),
    (straight(0.5, 0.1, 0.15), np.nan),
])
def test_the_gap_of_two_straight_lanes(second, gap_px):
    assert export_precision.gaps_px(straight(0.5, 0.2, 0.9), second) == pytest.approx(gap_px, abs=1e-3, nan_ok=True)


@pytest.mark.slow
def test_it_prints_its_tables(rendered, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(export_fixed, "CHECKED_IMAGES", 2)
    settings = load_config(None, ["model.width=96", "model.height=72", "inference.threshold=0.1"])
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.pth", settings, model=build_model(settings).state_dict())
    assert export_precision.main(["--checkpoint", "tiny.pth", "--images", str(rendered / "clips"), "--calibration",
                                  str(rendered / "clips"), "--scenes=2", "--rounds=2", f"data.root={rendered}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    errors = [line.split(" | ") for line in lines if "rendered scenes |" in line]
    assert [row[1] for row in errors] == ["fp32", "fp16", "int8"]
    assert float(errors[0][3]) == 0 and float(errors[2][3]) >= float(errors[1][3])  # px
    assert sum("32 images of" in line for line in lines) == 3
    assert sum(line.startswith("| checkpoint | ") and "%" in line for line in lines) == 1
    sizes = {line.split(" | ")[0]: float(line.split(" | ")[1]) for line in lines[-3:]}
    assert sizes["| fp32"] > sizes["| fp16"] > sizes["| int8"] > 0
