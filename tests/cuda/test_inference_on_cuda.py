"""Inference on a GPU: the CPU's lanes, recorded or not; nothing that is kept is overwritten; one wait a batch."""

import contextlib
import json
import statistics
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from roads import picture, write_pictures

import evaluate_fixed
import export_fixed
import inference_fixed
from inference.batch_runner import padded_size, to_batch
from inference.cudnn import FusedConv, can_fuse
from inference.predictor import Detections, Predictor
from metrics.collapse import REFERENCE_WIDTH_PX
from runtime.checkpoint import load_model

DEVICE = "cuda"
COUNTS = (1, 16, 7, 16, 3, 8, 1, 15)  # of images in a batch


@pytest.fixture
def exact():
    """float32 as a CPU multiplies it: TensorFloat-32, the default of convolutions, keeps 11 bits of a factor."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def batches(predictor):
    return [[predictor.preprocess(picture(seed)) for seed in range(count)] for count in COUNTS]


def difference_px(a, b):
    """|a - b| of the x of control points, in px of the reference width."""
    return (a.points - b.points)[..., 0].abs() * REFERENCE_WIDTH_PX


@contextlib.contextmanager
def syncs():
    """A list of the block's waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    waits = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield waits
        waits += [str(warning.message) for warning in caught if "synchroniz" in str(warning.message)]
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Lanes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [True, False], ids=["CUDA graphs", "eager"])
@pytest.mark.usefixtures("exact")
def test_lanes_of_float32_are_those_of_the_cpu(checkpoint, graphs):
    on_cpu = Predictor.load(checkpoint, "cpu", precision="fp32")
    on_gpu = Predictor.load(checkpoint, DEVICE, precision="fp32", cuda_graphs=graphs)
    for pixels in batches(on_cpu):
        expected, detections = on_cpu.detect(pixels), on_gpu.detect(pixels)
        assert detections.points.device.type == "cpu"
        assert difference_px(detections, expected).max() < 0.05
        torch.testing.assert_close(detections.confidence, expected.confidence, atol=1e-4, rtol=0)
    assert bool(on_gpu.runner.recorded) == graphs


@pytest.mark.parametrize(("precision", "share"), [("fp32", 0.5), ("bf16", 1.5), ("fp16", 0.5)])
def test_lanes_of_each_precision_are_near_those_of_the_cpu(trained, precision, share):
    """As near as those of the CPU's own bfloat16, of 8 bits; TensorFloat-32 and float16 have 11."""
    path = trained / "best_model.pth"
    on_cpu, rounded = (Predictor.load(path, "cpu", precision=own) for own in ("fp32", "bf16"))
    on_gpu = Predictor.load(path, DEVICE, precision=precision)
    differences_px, usual_px = [], []
    for pixels in batches(on_cpu):
        expected = on_cpu.detect(pixels)
        differences_px.append(difference_px(on_gpu.detect(pixels), expected).flatten())
        usual_px.append(difference_px(rounded.detect(pixels), expected).flatten())
    assert torch.cat(differences_px).mean() < share * torch.cat(usual_px).mean()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_graph_gives_what_the_same_kernels_give_one_by_one(checkpoint, precision):
    """On batches padded alike: those of another size may be summed in another order."""
    recorded = Predictor.load(checkpoint, DEVICE, precision=precision)
    eager = Predictor.load(checkpoint, DEVICE, precision=precision, cuda_graphs=False)
    for pixels in batches(recorded):
        blank = [np.zeros_like(pixels[0])] * (padded_size(len(pixels)) - len(pixels))
        expected = Detections(*(part[:len(pixels)] for part in eager.detect([*pixels, *blank])))
        assert difference_px(recorded.detect(pixels), expected).max() < 0.01
    assert set(recorded.runner.recorded) == {1, 4, 8, 16} and not eager.runner.recorded


def test_what_is_kept_is_not_overwritten(checkpoint):
    predictor = Predictor.load(checkpoint, DEVICE)
    inputs = batches(predictor)
    kept = [predictor.detect(pixels) for pixels in inputs]
    on_device = [predictor.forward(to_batch(pixels).to(DEVICE)) for pixels in inputs]
    copies = [prediction.points.clone() for prediction in on_device]
    predictor.detect(inputs[1][::-1])
    for pixels, detections, prediction, copy in zip(inputs, kept, on_device, copies, strict=True):
        again = predictor.detect(pixels)
        assert torch.equal(detections.points, again.points)
        assert torch.equal(prediction.points, copy) and torch.equal(copy.cpu(), again.points)


def test_a_recording_follows_new_weights(checkpoint):
    predictor = Predictor.load(checkpoint, DEVICE)
    pixels = batches(predictor)[1]
    before = predictor.detect(pixels)
    model, _, _ = load_model(checkpoint, torch.device(DEVICE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.02)
    predictor.load_weights(model)
    after = predictor.detect(pixels)
    fresh = Predictor(model, predictor.grid, predictor.device, predictor.dtype)
    assert difference_px(after, before).max() > 0.5
    assert difference_px(after, fresh.detect(pixels)).max() < 0.01
    assert len(predictor.runner.recorded) == 1


def test_threads_that_share_a_predictor_get_their_own_lanes(checkpoint):
    predictor, results = Predictor.load(checkpoint, DEVICE), {}
    pixels = batches(predictor)[1]
    expected = [predictor.detect(pixels[i:i + 4]).points for i in range(4)]

    def work(i):
        results[i] = [predictor.detect(pixels[i:i + 4]).points for _ in range(50)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(points, expected[i]) for i in range(4) for points in results[i]) and len(results) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_fused_convolution_is_a_convolution_a_sum_and_relu(dtype):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(24, 32, 3, stride=2, padding=1).to(DEVICE, dtype, memory_format=torch.channels_last)
    x, addend = torch.randn(3, 24, 10, 14), torch.randn(3, 32, 5, 7)
    x, addend = (t.to(DEVICE, dtype, memory_format=torch.channels_last) for t in (x, addend))
    tolerance = {torch.float32: 2e-3, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]  # of TensorFloat-32, too
    assert can_fuse(x.device, dtype)
    with torch.inference_mode():
        for more in ([], [addend]):
            expected = (conv.float()(x.float()) + sum(more)).relu()
            actual = FusedConv(conv.to(dtype))(x, *more)
            assert actual.dtype == dtype and actual.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(actual.float(), expected, atol=tolerance, rtol=tolerance)


def test_the_networks_convolutions_are_fused(checkpoint):
    predictor = Predictor.load(checkpoint, DEVICE)
    assert sum(isinstance(module, FusedConv) for module in predictor.model.modules()) == 18


# Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [True, False], ids=["CUDA graphs", "eager"])
def test_a_batch_waits_for_the_gpu_once_at_most(checkpoint, graphs):
    predictor = Predictor.load(checkpoint, DEVICE, cuda_graphs=graphs)
    pixels = batches(predictor)[1]
    pinned, on_device = to_batch(pixels).pin_memory(), to_batch(pixels).to(DEVICE)
    for count in (16, 7):
        predictor.detect(pixels[:count])
        predictor.forward(on_device[:count])
        with syncs() as waits:
            predictor.detect(pixels[:count])
        assert len(waits) == (1 if graphs else 2), waits  # eager images come from memory that is not pinned
        with syncs() as waits:
            predictor.forward(on_device[:count])
            predictor.forward(pinned[:count])
        assert waits == []


def test_a_graph_is_faster_than_its_kernels_one_by_one(checkpoint):
    times = {}
    for graphs in (True, False):
        predictor = Predictor.load(checkpoint, DEVICE, cuda_graphs=graphs)
        pixels = batches(predictor)[0]
        times[graphs] = []
        for _ in range(60):
            began = time.perf_counter()
            predictor.detect(pixels)
            times[graphs].append(time.perf_counter() - began)
    assert statistics.median(times[True][10:]) < statistics.median(times[False][10:])


# Scripts ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("exact", "elsewhere")
def test_evaluation_scores_as_on_the_cpu(checkpoint, rendered):
    scores = {}
    for device in ("cpu", DEVICE):
        evaluate_fixed.main([f"data.root={rendered}", "--checkpoint", str(checkpoint), f"train.device={device}",
                             "train.precision=fp32", "data.cache_dir=cache", "--json", f"{device}.json",
                             "inference.batch_size=5"])
        with open(f"{device}.json") as file:
            scores[device] = json.load(file)
    assert scores["cpu"].keys() == scores[DEVICE].keys()
    for name, value in scores["cpu"].items():
        if isinstance(value, float):
            assert scores[DEVICE][name] == pytest.approx(value, abs=0.02, rel=0.02, nan_ok=True), name


@pytest.mark.usefixtures("exact", "elsewhere")
def test_inference_prints_the_cpus_lanes(checkpoint, capsys):
    write_pictures("a", *(f"{i}.png" for i in range(7)))
    printed = {}
    for device in ("cpu", DEVICE):
        inference_fixed.main(["a", "--checkpoint", str(checkpoint), f"train.device={device}", "train.precision=fp32",
                              "inference.batch_size=4", "--json", "-"])
        printed[device] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed["cpu"]) == len(printed[DEVICE]) == 7
    for expected, actual in zip(printed["cpu"], printed[DEVICE], strict=True):
        assert [lane["slot"] for lane in expected["lanes"]] == [lane["slot"] for lane in actual["lanes"]]
        for a, b in zip(expected["lanes"], actual["lanes"], strict=True):
            np.testing.assert_allclose(a["control_points"], b["control_points"], atol=1e-4)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("file_format", ["onnx", "torch"])
def test_a_checkpoint_is_exported_beside_a_gpu(checkpoint, file_format, capsys):
    pytest.importorskip("onnxruntime" if file_format == "onnx" else "torch")
    Predictor.load(checkpoint, DEVICE).detect([np.zeros((96, 160, 3), np.uint8)])  # constants are on the GPU as well
    output = "lanes.onnx" if file_format == "onnx" else "lanes.pt2"
    assert export_fixed.main(["--checkpoint", str(checkpoint), "--format", file_format, "--output", output]) == 0
    assert "compared on" in capsys.readouterr().out
