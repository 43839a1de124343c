"""One command tells whether a checkpoint looks at the image: evaluation and inference say the same of it."""

import cv2
import numpy as np
import pytest
import torch

import evaluate_fixed
import inference_fixed
from config import load_config
from runtime import checkpoint

SMALL = ["model.width=128", "model.height=96", "train.device=cpu", "train.precision=fp32"]


@pytest.fixture
def blind(tmp_path):
    """A checkpoint of a whole run whose network lets nothing of the image through."""
    torch.manual_seed(0)
    config = load_config(None, SMALL)
    model = checkpoint.build_model(config)
    with torch.no_grad():
        model.head.exists[-1].bias += 3  # it is sure of its lanes
        for name, weight in model.trunk.named_parameters():
            if name.endswith("weight"):
                weight.zero_()
    path = tmp_path / "blind.pth"
    checkpoint.save_checkpoint(path, config, model=model.state_dict(), scores={"steps": 2000})
    return path


def words(blind, tmp_path, root):
    return [*SMALL[2:], f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}", "--checkpoint", str(blind)]


def test_evaluation_and_inference_both_name_a_collapsed_model(blind, rendered, tmp_path, capsys):
    assert evaluate_fixed.main(words(blind, tmp_path, rendered)) == 1
    assert "\ncollapsing: the same lanes for every image (diversity 0.000" in capsys.readouterr().out
    assert inference_fixed.main(words(blind, tmp_path, rendered)) == 1
    assert "verdict: collapsing: " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("count", [1, 3])
def test_images_without_lanes_raise_no_alarm_for_a_model_that_sees_none(blind, count, tmp_path, capsys):
    payload = torch.load(blind, weights_only=True)
    payload["model"]["head.exists.2.bias"] -= 20
    torch.save(payload, blind)
    root = tmp_path / "meadow"
    root.mkdir()
    for i in range(count):
        cv2.imwrite(str(root / f"{i}.jpg"), np.full((96, 128, 3), (40, 160, 60 + 20 * i), np.uint8))
        (root / f"{i}.lines.txt").write_text("")
    assert evaluate_fixed.main([*words(blind, tmp_path, root), "data.split=all"]) == 0
    assert "\ncannot tell: too few lanes were labelled or found" in capsys.readouterr().out
    assert inference_fixed.main([str(root), *words(blind, tmp_path, root)]) == 0
    assert "verdict: cannot tell" in capsys.readouterr().out.splitlines()[-1]
