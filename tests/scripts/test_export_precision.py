"""Files in half precision and in 8-bit integers, of a small network that has learned nothing."""

import builtins

import cv2
import numpy as np
import pytest
import torch
from paths import ROOT

import export_fixed
from config import load_config
from inference import export, export_check
from inference.export import ExportError
from inference.export_check import Errors
from runtime.checkpoint import build_model, save_checkpoint

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("elsewhere")

CHECKED_IMAGES = export_fixed.CHECKED_IMAGES
SMALL = ["model.width=96", "model.height=72"]
LAYERS = {  # convolutions by the start of their names, and the types of their weights
    "fp16": {"trunk.0/trunk.0.0": "float16", "trunk": "float16", "neck": "float16", "head": "float16"},
    "int8": {"trunk.0/trunk.0.0": "float32", "trunk": "int8", "neck": "int8", "head/mix": "int8", "head": "float32"},
}


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """Files are compared on three images, and calibrated on four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_fixed, "CHECKED_IMAGES", 3)
        patch.setattr(export_fixed, "CALIBRATION_IMAGES", 4)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pth"
    save_checkpoint(path, load_config(None, SMALL), model=build_model(load_config(None, SMALL)).state_dict())
    return path


@pytest.fixture(scope="module")
def files(checkpoint, rendered, tmp_path_factory):
    """A file of each precision, of one image each."""
    folder = tmp_path_factory.mktemp("files")
    return {precision: exported(checkpoint, rendered, folder / f"{precision}.onnx", precision)
            for precision in ("fp32", "fp16", "int8")}


def exported(checkpoint, rendered, output, precision, *options):
    calibration = ["--calibration", str(rendered / "clips")] if precision == "int8" else []
    assert export_fixed.main(["--checkpoint", str(checkpoint), "--output", str(output), "--precision", precision,
                              f"data.root={rendered}", *calibration, *options]) == 0
    return output


def weight_types(file):
    """{name of a convolution: the type of its weights}."""
    graph = onnx.load(file).graph
    weights = {item.name: onnx.numpy_helper.to_array(item).dtype.name for item in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    return {node.name: weights[node.input[1]] if node.input[1] in weights else weights[makers[node.input[1]].input[0]]
            for node in graph.node if node.op_type == "Conv"}


def outputs(file, images):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert {value.type for value in session.get_outputs()} == {"tensor(float)"}
    return session.run(None, {"images": images})


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_layers_have_their_types_and_the_file_says_so(files, precision):
    for layer, kind in weight_types(files[precision]).items():
        module = next(module for module in LAYERS[precision] if layer.startswith(f"/network/{module}"))
        assert kind == LAYERS[precision][module], layer
    metadata = {prop.key: prop.value for prop in onnx.load(files[precision]).metadata_props}
    assert metadata["precision"] == precision
    assert files[precision].stat().st_size < 0.6 * files["fp32"].stat().st_size


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_its_lanes_are_almost_those_of_float32(files, precision):
    image = np.random.default_rng(0).integers(256, size=(1, 3, 180, 96), dtype=np.uint8)
    for output, expected in zip(outputs(files[precision], image), outputs(files["fp32"], image), strict=True):
        assert 0 < np.abs(output - expected).max() < (0.001 if precision == "fp16" else 0.02)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_any_batch_and_pixels_go_with_it(checkpoint, rendered, files, tmp_path, precision):
    image = np.random.default_rng(0).integers(256, size=(1, 3, 180, 96), dtype=np.uint8)
    file = exported(checkpoint, rendered, tmp_path / "lanes.onnx", precision, "--batch=dynamic", "--pixels=float",
                    "--curves=5")
    results = outputs(file, np.concatenate([image, 255 - image, image]).astype(np.float32))
    assert [result.shape[0] for result in results] == [3, 3, 3]
    for result, expected in zip(results[:2], outputs(files[precision], image), strict=True):
        np.testing.assert_allclose(result[[0, 2]], expected[[0, 0]], rtol=0, atol=1e-5)


def test_opencv_reads_int8_with_both_engines_and_half_with_the_new_one(files):
    if not hasattr(cv2.dnn, "ENGINE_NEW"):
        pytest.skip("OpenCV before 5 has one engine, which reads neither")
    image = np.random.default_rng(0).integers(256, size=(1, 3, 180, 96), dtype=np.uint8)
    for precision, engine in [("int8", cv2.dnn.ENGINE_CLASSIC), ("int8", cv2.dnn.ENGINE_NEW),
                              ("fp16", cv2.dnn.ENGINE_NEW)]:
        net = cv2.dnn.readNetFromONNX(str(files[precision]), engine)
        net.setInput(image, "images")
        for output, expected in zip(net.forward(["points", "confidence"]), outputs(files[precision], image),
                                    strict=True):
            np.testing.assert_allclose(output.reshape(expected.shape), expected, rtol=0, atol=0.01)


def test_int8_calibrates_on_scenes_where_no_folder_is_given(checkpoint, rendered, tmp_path):
    assert export_fixed.main(["--checkpoint", str(checkpoint), "--output", "lanes.onnx", "--precision=int8",
                              f"data.root={rendered}"]) == 0
    assert "int8" in weight_types(tmp_path / "lanes.onnx").values()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_file_over_the_limit_of_its_precision_is_refused(checkpoint, rendered, tmp_path, monkeypatch, precision):
    monkeypatch.setitem(export_check.LIMITS, precision, Errors(1e-9, 1e-9, 1))
    advice = {"fp16": "--precision fp32", "int8": "--calibration"}[precision]
    with pytest.raises(ExportError, match=rf"lanes\.onnx: not written: on 3 validation images .*{advice}"):
        exported(checkpoint, rendered, "lanes.onnx", precision)
    assert not list(tmp_path.iterdir())


# What cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [
    (["--format=torch", "--precision=int8"], "--precision int8 is of ONNX files"),
    (["--calibration=photos"], "--calibration is for --precision int8 alone"),
    (["--precision=int8", "--calibration=photos"], "photos: no such folder"),
    (["--precision=int8", "--calibration=empty"], "empty: no image in it"),
])
def test_options_that_do_not_go_together_are_one_line(checkpoint, rendered, tmp_path, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ExportError, match=message) as raised:
        export_fixed.main(["--checkpoint", str(checkpoint), f"data.root={rendered}", *options])
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", "notes.txt"]


def test_an_image_of_the_calibration_that_is_none_is_named(checkpoint, rendered, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        export_fixed.main(["--checkpoint", str(checkpoint), f"data.root={rendered}", "--precision=int8",
                           "--calibration=photos"])


def test_int8_without_the_quantization_of_onnxruntime(monkeypatch):
    original = builtins.__import__

    def refusing(name, *arguments, **named):
        if name == "onnxruntime.quantization":
            raise ModuleNotFoundError("No module named 'sympy'", name="sympy")
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ExportError, match=r"sympy.*pip install -r requirements-export\.txt"):
        export.require_onnx("int8")
    export.require_onnx("fp16")


def test_a_precision_that_there_is_none(capsys):
    with pytest.raises(SystemExit) as stopped:
        export_fixed.main(["--precision=int4"])
    assert stopped.value.code == 2 and "int4" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])  # int8 takes a minute, and has wide limits
def test_the_model_of_the_repository_can_be_exported(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(export_fixed, "CHECKED_IMAGES", CHECKED_IMAGES)
    output = tmp_path / "lanes.onnx"
    assert export_fixed.main(["--checkpoint", str(ROOT / "models" / "rendered_roads.pth"), "--output", str(output),
                              "--precision", precision]) == 0
    assert output.is_file()
