"""The C++ example, compiled where CMake finds OpenCV: it prints what the Python example prints."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from paths import ROOT
from test_onnx_lanes import printed_lanes

import export_fixed
from renderer.scene import render_scene

pytestmark = [pytest.mark.slow, pytest.mark.process]
SOURCE = ROOT / "examples" / "cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled example."""
    if not shutil.which("cmake"):
        pytest.skip("no CMake here")
    folder = tmp_path_factory.mktemp("cpp")
    configured = subprocess.run(["cmake", "-S", SOURCE, "-B", folder, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"],
                                capture_output=True, text=True)
    if configured.returncode:
        for missing in ("OpenCV", "CMAKE_CXX_COMPILER"):
            if missing in configured.stderr:
                pytest.skip(f"CMake finds no {missing} here")
        raise AssertionError(configured.stderr)
    subprocess.run(["cmake", "--build", folder, "--config", "Release"], check=True, capture_output=True)
    return next(path for path in (folder / "lanes", folder / "Release" / "lanes.exe") if path.exists())


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """ONNX files and images of several shapes, one of which is none."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("lanes")
    for batch in ("1", "2"):
        assert export_fixed.main(["--checkpoint", str(checkpoint), "--output", str(folder / f"{batch}.onnx"),
                                  f"--batch={batch}"]) == 0
    for number, size in enumerate([(1280, 720), (640, 360), (300, 400), (120, 90)]):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(render_scene(number, *size).image, cv2.COLOR_RGB2BGR))
    (folder / "4.png").write_text("no image")
    return folder


def run(folder, *words):
    return subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("threshold", [[], ["--threshold", "0.95"]])
def test_it_prints_what_the_python_example_prints(program, folder, threshold):
    words = ["1.onnx", *(f"{i}.png" for i in range(5)), *threshold]
    ours = run(folder, program, *words)
    expected = run(folder, sys.executable, ROOT / "examples" / "onnx_lanes.py", *words)
    assert ours.returncode == expected.returncode == 1  # one is no image
    assert ours.stderr.count("error: 4.png: not an image") == 1
    assert len(expected.stdout.splitlines()) > 4 and len(ours.stdout.splitlines()) == len(expected.stdout.splitlines())
    lanes, expected_lanes = printed_lanes(ours.stdout), printed_lanes(expected.stdout)
    assert lanes.keys() == expected_lanes.keys() and lanes
    for lane, numbers in expected_lanes.items():
        assert lanes[lane] == pytest.approx(numbers, abs=0.00101), lane  # a step of what is printed
    for line, other in zip(ours.stdout.splitlines(), expected.stdout.splitlines(), strict=True):
        assert line.partition(" (")[0] == other.partition(" (")[0]  # files, samples and lanes in the same order


def test_it_draws_the_lanes(program, folder):
    assert run(folder, program, "1.onnx", "0.png", "1.png", "--save-images", "drawn").returncode == 0
    assert run(folder, sys.executable, ROOT / "examples" / "onnx_lanes.py", "1.onnx", "0.png", "1.png",
               "--save-images", "drawn_by_python").returncode == 0
    for name in ("00001_0.jpg", "00002_1.jpg"):
        ours, other = (cv2.imread(str(folder / drawn / name)) for drawn in ("drawn", "drawn_by_python"))
        assert np.abs(ours.astype(int) - other).mean() < 0.5
        assert np.abs(ours.astype(int) - cv2.imread(str(folder / f"{name[6]}.png"))).mean() > 1


@pytest.mark.parametrize(("words", "message"), [
    (["1.onnx"], "usage: lanes LANES.onnx IMAGE"),
    (["2.onnx", "0.png"], "2.onnx.yaml is missing or not of export_fixed.py --batch 1"),
    (["other.onnx", "0.png"], "other.onnx.yaml is missing"),
    (["1.onnx", "0.png", "--threshold", "much"], "--threshold much: no number"),
])
def test_what_it_cannot_do_is_one_line(program, folder, words, message):
    failed = run(folder, program, *words)
    assert failed.returncode == 1 and f"error: {message}" in failed.stderr and not failed.stdout


def test_it_has_under_a_hundred_lines():
    assert len((SOURCE / "lanes.cpp").read_text(encoding="utf-8").splitlines()) < 100
