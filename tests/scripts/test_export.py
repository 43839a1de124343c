"""Exported files against the network they come from, on a tiny network; the example that runs one alone."""

import ast
import builtins
import importlib.util
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from paths import ROOT

import export_fixed
import inference_fixed
from config import load_config
from export_fixed import ExportError
from geometry import bezier
from geometry.bezier import control_points_from_x
from geometry.decode import lane_nms
from preprocessing.images import resize
from renderer.scene import render_scene
from runtime.checkpoint import FORMAT, VERSION, CheckpointError, build_model, input_grid, save_checkpoint

EXAMPLE = ROOT / "examples" / "onnx_lanes.py"
SMALL = ["model.width=96", "model.height=72"]  # whose maps have 9, 5 and 3 rows
RASTER = input_grid(load_config(None, SMALL))  # 180 fine rows
WITHIN = {"rtol": 0, "atol": 1e-5}  # 0.013 px of a 1280 px wide image


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, so that no default path meets the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def images():
    """Five small scenes (5, 3, F, W) uint8."""
    scenes = [resize(render_scene(seed, 320, 180).image, RASTER.width, RASTER.fine) for seed in range(5)]
    return np.ascontiguousarray(np.stack(scenes).transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def network(images):
    """A network whose random weights are enlarged until its lanes differ: as built, all lie in the middle."""
    torch.manual_seed(0)
    network = build_model(load_config(None, SMALL)).eval().requires_grad_(False)
    for _ in range(40):
        if np.ptp(expected(network, images)[0][..., 0]) > 0.5:
            return network
        for weight in network.parameters():
            weight *= 1.05 if weight.ndim > 1 else 1
    raise AssertionError("lanes that are all alike would prove nothing")


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pth"
    save_checkpoint(path, load_config(None, SMALL), model=network.state_dict())
    return path


@pytest.fixture(scope="module")
def dynamic(checkpoint, tmp_path_factory):
    """An ONNX file for any batch, with curves."""
    pytest.importorskip("onnxruntime")
    return exported(checkpoint, tmp_path_factory.mktemp("dynamic") / "lanes.onnx", "--batch=dynamic", "--curves=7")


@pytest.fixture
def without_onnx(monkeypatch):
    """As on a machine where the packages for ONNX are not installed."""
    original = builtins.__import__

    def refusing(name, *arguments, **named):
        if name.partition(".")[0] in ("onnx", "onnxruntime"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refusing)


def exported(checkpoint, output, *options):
    assert export_fixed.main(["--checkpoint", str(checkpoint), "--output", str(output), *options]) == 0
    return output


def expected(network, images):
    """Points, confidence and 7 points along each curve, by the network."""
    rows = np.einsum("hf,nfwc->nhwc", RASTER.means(), images.transpose(0, 2, 3, 1).astype(np.float64))
    points, logits = network(torch.from_numpy((rows + 0.5).astype(np.uint8)).permute(0, 3, 1, 2))
    return points.numpy(), logits.sigmoid().numpy(), bezier.sample_curve(points, 7).numpy()


def opened(path):
    return pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


def agree(outputs, wanted):
    for output, value in zip(outputs, wanted, strict=True):
        assert output.shape == value.shape
        np.testing.assert_allclose(output, value, **WITHIN)


# The files -------------------------------------------------------------------------------------------------------


def test_a_dynamic_onnx_file_says_what_the_network_says_at_any_batch(network, dynamic, images):
    session = opened(dynamic)
    assert [output.name for output in session.get_outputs()] == ["points", "confidence", "curves"]
    wanted = expected(network, images)
    agree(session.run(None, {"images": images}), wanted)
    for i in range(len(images)):
        agree(session.run(None, {"images": images[i:i + 1]}), [value[i:i + 1] for value in wanted])


@pytest.mark.parametrize("batch", [1, 3])
def test_an_onnx_file_of_float_pixels_and_fixed_batch(network, checkpoint, images, tmp_path, batch):
    pytest.importorskip("onnxruntime")
    session = opened(exported(checkpoint, tmp_path / "lanes.onnx", f"--batch={batch}", "--pixels=float"))
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(float)", [batch, 3, 180, 96])
    agree(session.run(None, {"images": images[:batch].astype(np.float32)}), expected(network, images[:batch])[:2])


def test_the_onnx_file_carries_all_that_its_user_needs(checkpoint, dynamic, tmp_path):
    told = opened(dynamic).get_modelmeta().custom_metadata_map
    assert (told["format"], told["version"]) == (FORMAT, str(VERSION))
    assert (told["width"], told["height"], told["slots"], told["threshold"]) == ("96", "180", "6", "0.5")
    other = exported(checkpoint, tmp_path / "lanes.onnx", "inference.threshold=0.7")
    assert opened(other).get_modelmeta().custom_metadata_map["threshold"] == "0.7"


@pytest.mark.parametrize("batch", ["2", "dynamic"])
def test_a_torch_program_goes_to_disk_and_back(network, checkpoint, images, tmp_path, batch, without_onnx):
    file = exported(checkpoint, tmp_path / "lanes.pt2", "--format=torch", f"--batch={batch}", "--curves=7")
    inside = {"metadata.json": ""}
    program = torch.export.load(file, extra_files=inside).module()
    assert json.loads(inside["metadata.json"])["height"] == "180"
    for count in [2] if batch == "2" else [1, 5]:
        outputs = [value.numpy() for value in program(torch.from_numpy(images[:count]))]
        agree(outputs, expected(network, images[:count]))


# The script ------------------------------------------------------------------------------------------------------


def test_it_writes_beside_the_checkpoint_and_says_how_far_off_the_file_is(checkpoint, rendered, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    copy = tmp_path / "mine.pth"
    copy.write_bytes(checkpoint.read_bytes())
    assert export_fixed.main(["--checkpoint", str(copy), f"data.root={rendered}"]) == 0
    said = capsys.readouterr().out
    assert "mine.onnx" in said and "8 validation images" in said
    assert float(re.search(r"lanes within (\S+) px", said)[1]) < 0.1
    assert {path.name for path in tmp_path.iterdir()} == {"mine.pth", "mine.onnx"}


def test_a_file_that_differs_is_not_written(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    (tmp_path / "lanes.onnx").write_text("an earlier one")
    original = export_fixed.read_onnx

    def moved(path):
        run = original(path)
        return lambda images: [run(images)[0] + np.float32(0.2 / 1280), *run(images)[1:]]

    monkeypatch.setattr(export_fixed, "read_onnx", moved)
    with pytest.raises(ExportError, match=r"lanes\.onnx: not written: on 16 rendered scenes it is up to 0\.2"):
        exported(checkpoint, "lanes.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["lanes.onnx"]
    assert (tmp_path / "lanes.onnx").read_text() == "an earlier one"


@pytest.mark.parametrize("wrong", [np.nan, 0.01])
def test_a_confidence_that_differs_is_seen_in_any_image(network, images, wrong):
    model = export_fixed.Exported(network, RASTER, 0)
    form = export_fixed.Form("onnx", "uint8", 2, 0)  # five images fill two batches and a half
    pictures = images.transpose(0, 2, 3, 1)

    def run(batch):
        points, confidence, _ = expected(network, batch)
        last = (batch == images[4]).all((1, 2, 3))
        return [points, confidence + np.float32(wrong) * last[:, None] if last.any() else confidence]

    lanes_px, confidence = export_fixed.differences(model, run, pictures, form)
    assert lanes_px < 0.1
    assert confidence == pytest.approx(wrong, abs=1e-5, nan_ok=True)


def test_missing_packages_are_one_line_that_says_what_to_install(checkpoint, tmp_path, without_onnx):
    with pytest.raises(ExportError, match=r"pip install -r requirements-export\.txt") as raised:
        exported(checkpoint, "lanes.onnx")
    assert "\n" not in str(raised.value)
    assert (ROOT / "requirements-export.txt").is_file()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_not_there_or_not_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"no\.pth: no checkpoint here"):
        exported("no.pth", "lanes.pt2", "--format=torch")
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(CheckpointError, match=r"bad\.pth: not a checkpoint"):
        exported("bad.pth", "lanes.pt2", "--format=torch")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


def test_an_output_of_the_other_kind_is_refused(checkpoint, tmp_path):
    with pytest.raises(ExportError, match=r"lanes\.onnx: --format torch writes a file whose name ends in \.pt2"):
        exported(checkpoint, "lanes.onnx", "--format=torch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--batch=0", "--batch=two", "--curves=1", "--curves=-3"])
def test_numbers_that_make_no_sense_are_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        export_fixed.main([option])
    assert stopped.value.code == 2
    assert option.partition("=")[2] in capsys.readouterr().err


# The example -----------------------------------------------------------------------------------------------------


def printed_lanes(text):
    """{(sample, lane): numbers} of the lines that inference prints."""
    lines = re.findall(r"^Sample (\d+): Lane (\d+) (.*)$", text, re.MULTILINE)
    return {(int(n), int(lane)): [float(v) for v in re.findall(r"\d\.\d+", rest)] for n, lane, rest in lines}


def test_the_example_prints_the_lanes_that_inference_prints(checkpoint, dynamic, tmp_path, capsys):
    for seed in range(3):
        pixels = render_scene(seed, 320, 180 + seed).image
        cv2.imwrite(f"{seed}.png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    (tmp_path / "text.png").write_text("no image")
    names = ["0.png", "1.png", "2.png"]
    inference_fixed.main([*names, "--checkpoint", str(checkpoint), "train.device=cpu", "train.precision=fp32"])
    wanted = printed_lanes(capsys.readouterr().out)
    done = subprocess.run([sys.executable, EXAMPLE, dynamic, *names, "text.png", "--save-images", "drawn"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: text.png: not an image"), done.stderr
    found = printed_lanes(done.stdout)
    assert found.keys() == wanted.keys() and len(wanted) >= 4
    for lane, numbers in wanted.items():
        assert len(numbers) == 13  # confidence, six x, six y
        assert found[lane][0] == pytest.approx(numbers[0], abs=0.0101), lane  # a step of what is printed
        assert found[lane][1:] == pytest.approx(numbers[1:], abs=0.0011), lane
    for number, name in enumerate(names, start=1):
        assert (cv2.imread(f"drawn/{number:05}_{name[:-4]}.jpg") != cv2.imread(name)).any()


@pytest.fixture
def example():
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("onnx_lanes", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", [(200, 350), (96, 160), (30, 20), (200, 20)])
def test_the_example_resizes_as_training_does(example, size):
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    np.testing.assert_array_equal(example.resized(image, (96, 160)), resize(image, 96, 160))


def test_the_example_drops_the_same_double_lanes(example):
    torch.manual_seed(0)
    far = torch.rand(300, 6) * 0.6
    near = far + 0.05 + torch.rand(300, 6) * 0.35  # some neighbours share no row
    points, confidence = control_points_from_x(torch.rand(300, 6, 6) * 0.02, far, near), torch.rand(300, 6)
    points[..., 0] += points[..., 1] * torch.randn(300, 1, 1) + torch.randn(300, 6, 1) * 0.03  # bundles of six
    kept = lane_nms(points, confidence, 0.3)
    assert 50 < ((confidence >= 0.3) & ~kept).sum() < 500
    for i in range(300):
        found = example.lane_nms(points[i].numpy(), confidence[i].numpy(), 0.3)
        assert found == kept[i].nonzero()[:, 0].tolist(), i


def test_the_example_needs_three_packages_and_nothing_of_ours():
    nodes = list(ast.walk(ast.parse(EXAMPLE.read_text(encoding="utf-8"))))
    names = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"cv2", "numpy", "onnxruntime"}
