"""The example that runs an ONNX file alone: its lanes are those of inference, and it needs nothing of ours."""

import ast
import importlib.util
import re
import sys

import cv2
import numpy as np
import pytest
import torch
from paths import ROOT

import export_fixed
import inference_fixed
from geometry.bezier import CONTROL_POINTS, control_points_from_x
from geometry.decode import lane_nms
from preprocessing.images import resize
from renderer.scene import render_scene

EXAMPLE = ROOT / "examples" / "onnx_lanes.py"

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("onnx_lanes", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def onnx_file(checkpoint, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("onnx") / "lanes.onnx"
    assert export_fixed.main(["--checkpoint", str(checkpoint), "--output", str(path), "--batch=dynamic"]) == 0
    return path


def printed_lanes(text):
    """{(sample, lane): numbers} of the lines that inference prints."""
    lines = re.findall(r"^Sample (\d+): Lane (\d+) (.*)$", text, re.MULTILINE)
    return {(int(n), int(lane)): [float(v) for v in re.findall(r"\d\.\d+", rest)] for n, lane, rest in lines}


def test_it_prints_the_lanes_that_inference_prints(checkpoint, example, onnx_file, tmp_path, capsys):
    for seed in range(3):
        pixels = render_scene(seed, 320, 180 + seed).image
        cv2.imwrite(f"{seed}.png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    (tmp_path / "text.png").write_text("no image")
    names = ["0.png", "1.png", "2.png"]
    inference_fixed.main([*names, "--checkpoint", str(checkpoint), "train.device=cpu", "train.precision=fp32"])
    expected = printed_lanes(capsys.readouterr().out)
    assert example.main([str(onnx_file), *names, "text.png", "--save-images", "drawn"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: text.png: not an image")
    lanes = printed_lanes(printed.out)
    assert lanes.keys() == expected.keys() and len(expected) >= 4
    for lane, numbers in expected.items():
        assert len(numbers) == 1 + 2 * CONTROL_POINTS  # confidence, x and y
        assert lanes[lane][0] == pytest.approx(numbers[0], abs=0.0101), lane  # a step of what is printed
        assert lanes[lane][1:] == pytest.approx(numbers[1:], abs=0.0011), lane
    for number, name in enumerate(names, start=1):
        assert (cv2.imread(f"drawn/{number:05}_{name[:-4]}.jpg") != cv2.imread(name)).any()


@pytest.mark.parametrize("size", [(200, 350), (96, 160), (30, 20), (200, 20)])
def test_it_resizes_as_training_does(example, size):
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    np.testing.assert_array_equal(example.resize(image, (96, 160)), resize(image, 96, 160))


def test_it_drops_the_same_double_lanes(example):
    torch.manual_seed(0)
    far = torch.rand(300, 6) * 0.6
    near = far + 0.05 + torch.rand(300, 6) * 0.35  # some neighbours share no row
    points, confidence = control_points_from_x(torch.rand(300, 6, 6) * 0.02, far, near), torch.rand(300, 6)
    points[..., 0] += points[..., 1] * torch.randn(300, 1, 1) + torch.randn(300, 6, 1) * 0.03  # bundles of six
    keep = lane_nms(points, confidence, 0.3)
    assert 50 < ((confidence >= 0.3) & ~keep).sum() < 500
    for i in range(300):
        slots = example.lane_nms(points[i].numpy(), confidence[i].numpy(), 0.3)
        assert slots == keep[i].nonzero()[:, 0].tolist(), i


def test_it_needs_three_packages_and_nothing_of_ours():
    nodes = list(ast.walk(ast.parse(EXAMPLE.read_text(encoding="utf-8"))))
    names = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"cv2", "numpy", "onnxruntime"}
