"""Exported files against the network they come from, on a tiny network."""

import builtins
import functools
import json
import re

import cv2
import numpy as np
import pytest
import torch
from paths import ROOT

import export_fixed
from config import load_config
from geometry import bezier
from inference import export, export_check
from inference.export import ConvInThrees, ExportedNetwork, ExportError, ExportOptions
from inference.export_check import LIMITS
from inference.predictor import Predictor
from metrics.collapse import REFERENCE_WIDTH_PX
from preprocessing.images import resize
from renderer.scene import render_scene
from runtime.checkpoint import FORMAT, VERSION, CheckpointError, build_model, input_grid, save_checkpoint

SMALL = ["model.width=96", "model.height=72"]  # whose maps have 9, 5 and 3 rows
GRID = input_grid(load_config(None, SMALL))  # 180 fine rows
TOLERANCE = {"rtol": 0, "atol": 1e-5}  # 0.013 px of a 1280 px wide image

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module", autouse=True)
def small_scenes():
    """The scenes that every file is compared on are small here, and each is rendered once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_fixed, "render_scene", functools.cache(lambda seed: render_scene(seed, 320, 180)))
        yield


@pytest.fixture(scope="module")
def images():
    """Five small scenes (5, 3, F, W) uint8."""
    scenes = [resize(render_scene(seed, 320, 180).image, GRID.width, GRID.fine_rows) for seed in range(5)]
    return np.ascontiguousarray(np.stack(scenes).transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def network(images):
    """A network whose random weights are enlarged until its lanes differ: as built, all lie in the middle."""
    torch.manual_seed(0)
    network = build_model(load_config(None, SMALL)).eval().requires_grad_(False)
    for _ in range(40):
        if np.ptp(network_outputs(network, images)[0][..., 0]) > 0.5:
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


@pytest.fixture(scope="module", params=[(1, "uint8"), (3, "float")], ids=lambda case: "-".join(map(str, case)))
def fixed(request, checkpoint, tmp_path_factory):
    """An ONNX file for one size of a batch, with curves; that size, and the type of the pixels."""
    pytest.importorskip("onnxruntime")  # which checks the export
    batch, pixels = request.param
    path = exported(checkpoint, tmp_path_factory.mktemp("fixed") / "lanes.onnx", f"--batch={batch}",
                    f"--pixels={pixels}", "--curves=7", "inference.threshold=0.7")
    return path, batch, np.float32 if pixels == "float" else np.uint8


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


def network_outputs(network, images):
    """Points, confidence and 7 points along each curve, by the network."""
    rows = np.einsum("hf,nfwc->nhwc", GRID.averaging_matrix(), images.transpose(0, 2, 3, 1).astype(np.float64))
    points, logits = network(torch.from_numpy((rows + 0.5).astype(np.uint8)).permute(0, 3, 1, 2))
    return points.numpy(), logits.sigmoid().numpy(), bezier.sample_curve(points, 7).numpy()


def opened(path):
    return pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_equal(outputs, expected):
    for output, value in zip(outputs, expected, strict=True):
        assert output.shape == value.shape
        np.testing.assert_allclose(output, value, **TOLERANCE)


# The files -------------------------------------------------------------------------------------------------------


def test_a_dynamic_onnx_file_gives_what_the_network_gives_at_any_batch(network, dynamic, images):
    session = opened(dynamic)
    assert [output.name for output in session.get_outputs()] == ["points", "confidence", "curves"]
    expected = network_outputs(network, images)
    assert_equal(session.run(None, {"images": images}), expected)
    for i in range(len(images)):
        assert_equal(session.run(None, {"images": images[i:i + 1]}), [value[i:i + 1] for value in expected])


def test_an_onnx_file_of_a_fixed_batch_takes_pixels_of_its_type(network, fixed, images):
    path, batch, pixels = fixed
    session = opened(path)
    (input_,) = session.get_inputs()
    name = {np.float32: "tensor(float)", np.uint8: "tensor(uint8)"}[pixels]
    assert (input_.name, input_.type, input_.shape) == ("images", name, [batch, 3, 180, 96])
    outputs = session.run(None, {"images": images[:batch].astype(pixels)})
    assert_equal(outputs, network_outputs(network, images[:batch]))


def test_the_onnx_file_carries_all_that_its_user_needs(dynamic, fixed):
    for path, threshold, batch in ((dynamic, "0.5", "dynamic"), (fixed[0], "0.7", str(fixed[1]))):
        metadata = opened(path).get_modelmeta().custom_metadata_map
        assert (metadata["format"], metadata["version"]) == (FORMAT, str(VERSION))
        assert [metadata[key] for key in ("width", "height", "slots", "threshold")] == ["96", "180", "6", threshold]
        assert (metadata["batch"], metadata["precision"]) == (batch, "fp32")

    beside = cv2.FileStorage(f"{fixed[0]}.yaml", cv2.FILE_STORAGE_READ)  # for OpenCV, which reads no metadata
    assert [beside.getNode(key).real() for key in ("threshold", "width", "height", "batch")] == [0.7, 96, 180, fixed[1]]
    assert (beside.getNode("format").string(), beside.getNode("precision").string()) == (FORMAT, "fp32")
    assert cv2.FileStorage(f"{dynamic}.yaml", cv2.FILE_STORAGE_READ).getNode("batch").isString()


ENGINES = ("ENGINE_CLASSIC", "ENGINE_NEW")  # of OpenCV 5, which takes the new one by default; before there was one


def test_all_engines_of_opencv_give_what_the_network_gives(network, fixed, images):
    """OpenCV 5.0 calculates kernels of 9x1 wrongly, and says nothing."""
    path, batch, pixels = fixed
    expected = network_outputs(network, images[:batch])
    for engine in [[], *([getattr(cv2.dnn, name)] for name in ENGINES if hasattr(cv2.dnn, name))]:
        net = cv2.dnn.readNetFromONNX(str(path), *engine)
        net.setInput(images[:batch].astype(pixels), "images")
        for output, value in zip(net.forward(["points", "confidence", "curves"]), expected, strict=True):
            np.testing.assert_allclose(output.reshape(value.shape), value, rtol=0, atol=0.1 / REFERENCE_WIDTH_PX)


def test_a_convolution_of_nine_rows_is_three_of_three(network):
    conv, x = network.head.along, torch.randn(2, network.head.along.in_channels, 11, 6)
    torch.testing.assert_close(ConvInThrees(conv)(x), conv(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected \(9, 1\)"):
        ConvInThrees(network.head.columns)


def test_exporting_leaves_the_network_as_it_is(network):
    before = dict(network.state_dict())
    ExportedNetwork(network, GRID, 0)
    assert network.state_dict().keys() == before.keys() and type(network.head.along) is torch.nn.Conv2d


@pytest.mark.parametrize("batch", ["dynamic", pytest.param("2", marks=pytest.mark.slow)])  # a part of the first's way
def test_a_torch_program_goes_to_disk_and_back(network, checkpoint, images, tmp_path, batch, without_onnx, monkeypatch):
    """As it is read for the comparison with the checkpoint: it takes a while."""
    metadata, programs, load = {"metadata.json": ""}, [], torch.export.load
    monkeypatch.setattr(torch.export, "load", lambda file: programs.append(load(file, extra_files=metadata))
                        or programs[-1])
    exported(checkpoint, tmp_path / "lanes.pt2", "--format=torch", f"--batch={batch}", "--curves=7")
    program = programs[0].module()
    assert json.loads(metadata["metadata.json"])["height"] == "180"
    for count in [2] if batch == "2" else [1, 5]:
        outputs = [value.numpy() for value in program(torch.from_numpy(images[:count]))]
        assert_equal(outputs, network_outputs(network, images[:count]))


# The script ------------------------------------------------------------------------------------------------------


def test_it_writes_beside_the_checkpoint_and_prints_how_far_off_the_file_is(checkpoint, rendered, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    copy = tmp_path / "mine.pth"
    copy.write_bytes(checkpoint.read_bytes())
    assert export_fixed.main(["--checkpoint", str(copy), f"data.root={rendered}"]) == 0
    printed = capsys.readouterr().out
    assert "mine.onnx" in printed and "8 validation images" in printed
    assert float(re.search(r"lanes within (\S+) px", printed)[1]) < LIMITS["fp32"].worst_px
    assert {path.name for path in tmp_path.iterdir()} == {"mine.pth", "mine.onnx", "mine.onnx.yaml"}


def test_a_file_that_differs_is_not_written(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    (tmp_path / "lanes.onnx").write_text("an earlier one")
    original = export.read_onnx

    def moved(path):
        run = original(path)
        return lambda images: [run(images)[0] + np.float32(0.2 / REFERENCE_WIDTH_PX), *run(images)[1:]]

    monkeypatch.setattr(export, "read_onnx", moved)
    with pytest.raises(ExportError, match=r"lanes\.onnx: not written: on 16 rendered scenes.*within 0\.2"):
        exported(checkpoint, "lanes.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["lanes.onnx"]
    assert (tmp_path / "lanes.onnx").read_text() == "an earlier one"


@pytest.mark.parametrize("wrong", [np.nan, 0.01])
def test_a_confidence_that_differs_shows_in_any_image(network, images, wrong):
    predictor = Predictor(network, GRID, torch.device("cpu"), torch.float32)
    options = ExportOptions("onnx", "uint8", 2, 0)  # five images fill two batches and a half

    def run(batch):
        points, confidence, _ = network_outputs(network, batch)
        last = (batch == images[4]).all((1, 2, 3))
        return [points, confidence + np.float32(wrong) * last[:, None] if last.any() else confidence]

    errors = export_check.errors(predictor, run, images.transpose(0, 2, 3, 1), options)
    assert errors.worst_px < LIMITS["fp32"].worst_px
    assert errors.confidence == pytest.approx(wrong, abs=1e-5, nan_ok=True)
    assert not errors.within(LIMITS["fp32"])


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
