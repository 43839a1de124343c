"""export_fixed.py --format checkpoint: half the size, the same lanes."""

import pytest
import torch

import export_fixed
from inference.export import ExportError
from inference.predictor import Predictor
from metrics.collapse import REFERENCE_WIDTH_PX
from renderer.scene import render_scene


def test_a_checkpoint_of_half_the_size_gives_the_lanes(checkpoint, tmp_path, elsewhere):
    half = tmp_path / "half.pth"
    assert export_fixed.main(["--checkpoint", str(checkpoint), "--output", str(half), "--format=checkpoint"]) == 0
    assert half.stat().st_size < 0.55 * checkpoint.stat().st_size
    before, after = (Predictor.load(path, "cpu", precision="fp32") for path in (checkpoint, half))
    for seed in range(3):
        image = render_scene(seed, 320, 180).image
        expected, result = before(image), after(image)
        assert torch.equal(result.keep, expected.keep) and expected.keep.any()
        assert (result.points - expected.points)[expected.keep].abs().mean() < 1 / REFERENCE_WIDTH_PX


def test_the_state_of_a_run_is_shared_by_the_average_that_was_validated(checkpoint, elsewhere):
    payload = torch.load(checkpoint, weights_only=True)
    average = {f"module.{name}": value for name, value in payload["model"].items()}
    raw = {name: value + 1 if value.is_floating_point() else value for name, value in payload["model"].items()}
    torch.save(payload | {"model": raw, "ema": average}, "last.pth")
    export_fixed.main(["--checkpoint", "last.pth", "--format", "checkpoint", "--output", "shared.pth"])
    shared = torch.load("shared.pth", weights_only=True)["model"]
    assert all(torch.equal(shared[name], value.half()) for name, value in payload["model"].items()
               if value.is_floating_point())


def test_a_checkpoint_is_not_written_over_itself_however_it_is_spelled(checkpoint, elsewhere, monkeypatch):
    before = checkpoint.read_bytes()
    monkeypatch.chdir(checkpoint.parent)
    with pytest.raises(ExportError, match="this is the checkpoint itself; name another file with --output"):
        export_fixed.main(["--checkpoint", str(checkpoint), "--format", "checkpoint", "--output", checkpoint.name])
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(("option", "value"), [("--pixels", "float"), ("--batch", "4"), ("--curves", "5")])
def test_what_is_of_other_formats_is_refused(checkpoint, elsewhere, option, value):
    with pytest.raises(ExportError, match=rf"{option} is of ONNX files and programs; leave out --format checkpoint"):
        export_fixed.main(["--checkpoint", str(checkpoint), "--format", "checkpoint", "--output", "half.pth", option,
                           value])


def test_a_checkpoint_is_not_written_over_itself(checkpoint, elsewhere):
    before = checkpoint.read_bytes()
    with pytest.raises(ExportError, match="this is the checkpoint itself; name another file with --output"):
        export_fixed.main(["--checkpoint", str(checkpoint), "--format=checkpoint"])
    assert checkpoint.read_bytes() == before
