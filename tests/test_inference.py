"""Looking at images with a trained model: inputs of every kind, what is printed, written and drawn, and what is not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from roads import picture, pictures, video

import checkpoints
import inference_fixed
import submission
from bezier import sample
from dataset import preprocess, read_image
from detector import LaneDetector
from formats import entries
from lanes import keep_lanes
from visualize import write_image

ROOT = Path(__file__).parent.parent
PAIR = r"\(-?\d\.\d{3}, -?\d\.\d{3}\)"
LINE = re.compile(rf"Sample \d+: Lane [1-6] \([01]\.\d\d\): P0={PAIR}"
                  + "".join(rf" P{i}={PAIR}" for i in range(1, 6)))
EXACT = ["train.device=cpu", "train.precision=fp32"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, so that no default path meets the repository."""
    monkeypatch.chdir(tmp_path)


def json_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# The detector ------------------------------------------------------------------------------------------------


def test_three_lines_of_python_give_lanes(checkpoint):
    write_image(Path("road.jpg"), picture())
    lanes = LaneDetector(checkpoint, device="cpu")(read_image("road.jpg"))
    assert [lane.slot for lane in lanes] == sorted({lane.slot for lane in lanes}) and lanes
    for lane in lanes:
        assert 0.5 <= lane.confidence <= 1
        assert isinstance(lane.points, np.ndarray) and lane.points.shape == (6, 2)
        assert np.all(np.diff(lane.points[:, 1]) > 0) and np.abs(lane.points).max() < 3


def test_the_detector_answers_as_the_network_itself_does(checkpoint):
    images = [picture(seed, *size) for seed, size in enumerate([(160, 96), (333, 77), (90, 160), (1, 1)])]
    found = LaneDetector(checkpoint, "cpu", threshold=0.96, precision="fp32").batch(images)
    model, config, _ = checkpoints.load_model(checkpoint, torch.device("cpu"))
    raster = checkpoints.raster_of(config)
    with torch.inference_mode():
        for i, image in enumerate(images):
            points, logits = model(torch.from_numpy(preprocess(image, raster)).permute(2, 0, 1)[None])
            torch.testing.assert_close(found.points[i:i + 1], points, atol=1e-4, rtol=0)
            torch.testing.assert_close(found.confidence[i:i + 1], logits.sigmoid(), atol=1e-4, rtol=0)
    assert torch.equal(found.keep, keep_lanes(found.points, found.confidence, 0.96))
    assert found.keep.any() and not found.keep.all()


@pytest.mark.parametrize("image", [picture()[..., 0], picture() / 255, picture()[:0], np.zeros((9, 9, 4), np.uint8)],
                         ids=["grey", "float", "empty", "rgba"])
def test_what_is_no_rgb_image_is_refused(checkpoint, image):
    with pytest.raises(ValueError, match=r"expected RGB uint8 \(height, width, 3\)"):
        LaneDetector(checkpoint, "cpu")(image)


# What is printed ---------------------------------------------------------------------------------------------


def test_lanes_are_printed_in_their_form(rendered, run):
    status, out, err = run(f"data.root={rendered}", "--threshold", "0")
    lanes = [line for line in out if "Lane" in line]
    assert len(lanes) > 8 and all(LINE.fullmatch(line) for line in lanes), lanes[0]
    assert {int(line.split()[1].rstrip(":")) for line in lanes} == set(range(1, 9))
    slots = [int(line.split()[3]) for line in lanes if line.startswith("Sample 1:")]
    assert slots == sorted(slots)
    assert sum(line.endswith(".jpg") for line in out) == 8
    assert re.fullmatch(r"The predictions differ between the 8 images: .* \d+\.\d px .*", out[-1])
    assert (status, err) == (0, [])


def test_what_is_printed_is_what_the_detector_answers(checkpoint, run):
    pictures("a", "1.png", "2.png", "3.png")
    _, out, _ = run("a", "inference.batch_size=2", "--threshold", "0")
    expected = []
    for number, path in enumerate(sorted(Path("a").iterdir()), start=1):
        expected.append(str(path))
        for lane in LaneDetector(checkpoint, "cpu", 0, "fp32")(read_image(path)):
            points = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(lane.points))
            expected.append(f"Sample {number}: Lane {lane.slot} ({lane.confidence:.2f}): {points}")

    def numbers(lines):
        return [[float(v) for v in re.findall(r"-?\d\.\d+", line)] for line in lines]

    def words(lines):
        return [re.sub(r"-?\d\.\d+", "", line) for line in lines]

    assert words(out[:-1]) == words(expected)
    for found, wanted in zip(numbers(out[:-1]), numbers(expected), strict=True):
        assert found == pytest.approx(wanted, abs=0.0011)  # a batch sums in another order


def test_no_lane_is_said(run):
    pictures(".", "a.png")
    assert "Sample 1: no lane" in run("a.png", "--threshold", "1")[1]


def test_a_collapsed_model_is_called_that(checkpoint, rendered, capsys):
    payload = torch.load(checkpoint, weights_only=True)
    for name, value in payload["model"].items():
        if name.startswith("trunk.") and name.endswith("weight"):
            value.zero_()  # nothing of the image comes through
    payload["scores"]["steps"] = 1000
    torch.save(payload, "dead.pth")
    assert inference_fixed.main([f"data.root={rendered}", "--checkpoint", "dead.pth", *EXACT]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The predictions hardly differ between the 8 images: lanes spread by 0.0 px")
    assert "follow 0 % of the way" in last and "verdict: collapsing: the lanes stay where they are" in last


def test_one_image_is_enough_to_see_a_collapse(checkpoint, run, capsys):
    """A new model's answers depend on the image, but its lanes do not follow: no collapse in its first steps only."""
    pictures(".", "a.png")
    assert run("a.png")[0] == 0
    payload = torch.load(checkpoint, weights_only=True)
    payload["model"]["head.columns.weight"].zero_()  # the same column for every image, in the middle
    payload["scores"]["steps"] = 1000
    torch.save(payload, "dead.pth")
    assert inference_fixed.main(["a.png", "--checkpoint", "dead.pth", *EXACT]) == 1
    assert "verdict: collapsing: " in capsys.readouterr().out.splitlines()[-1]


def test_the_same_image_twice_says_nothing_of_collapse(run):
    pictures(".", "a.png")
    status, out, _ = run("a.png", "./a.png")
    assert out[-1].startswith("1 different image(s)") and status == 0


# Inputs ------------------------------------------------------------------------------------------------------


def test_inputs_of_all_kinds_come_in_the_order_given(run):
    pictures("photos", "b.jpg", "a.png", "deep/c.PNG", ".hidden.jpg", "glob/1.jpg", "glob/2.jpg")
    (Path("photos") / "notes.txt").write_text("no image")
    video("drive.avi", 3)
    status, out, err = run("drive.avi", Path("photos/b.jpg"), "photos", "photos/gl*/*.jpg", "photos/b.jpg")
    names = [line for line in out if not line.startswith(("Sample", "The"))]
    inside = [str(Path("photos") / name) for name in ("a.png", "b.jpg", "deep/c.PNG", "glob/1.jpg", "glob/2.jpg")]
    assert names == ["drive.avi frame 1", "drive.avi frame 2", "drive.avi frame 3", inside[1], *inside, *inside[3:],
                     inside[1]]
    assert {int(line.split()[1].rstrip(":")) for line in out if line.startswith("Sample")} == set(range(1, 13))
    assert (status, err) == (0, [])


def test_a_file_whose_name_looks_like_a_pattern_or_a_number_is_a_file(run):
    pictures(".", "[1].png", "0.png")
    Path("0.png").rename("0")
    status, out, err = run("[1].png", "0")
    assert [line for line in out if not line.startswith(("Sample", "The"))] == ["[1].png", "0"]
    assert (status, err) == (0, [])


def test_folders_named_like_images_are_folders(run):
    pictures("road.jpg", "a.png", "b.png")
    pictures("outer/inner.png", "c.png")
    assert sum(line.endswith(".png") for line in run("road.jpg", "outer")[1]) == 3


def test_names_with_spaces_and_letters_beyond_ascii(run):
    pictures("Fahrt nach Köln", "Straße 1.jpg", "道路.png")
    video("Fahrt nach Köln/трасса 2.avi", 2)
    status, out, err = run("Fahrt nach Köln", "--save-images", "Bilder größer", "--json", "öä.json")
    assert status == 0 and len(err) == 1 and "трасса 2.mp4: 2 frames" in err[0]
    assert sum("Straße 1.jpg" in line or "道路.png" in line for line in out) == 2
    assert sorted(path.name for path in Path("Bilder größer").iterdir()) == [
        "00001_Straße 1.jpg", "00002_трасса 2.mp4", "00004_道路.jpg"]
    assert json_lines("öä.json")[0]["image"].endswith("Straße 1.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a name be no text")
def test_a_name_that_is_no_text_ends_nothing(run):
    name = os.fsdecode(b"caf\xe9")
    video("drive.avi", 2).rename(f"{name}.avi")
    write_image(Path(f"{name}.png"), picture())
    for stream in (sys.stdout, sys.stderr):  # as runtime.run and Python itself do
        stream.reconfigure(errors="backslashreplace")
    status, _, err = run(".", "--save-images", "out")
    assert status == 1 and len(err) == 1 and "not a video that OpenCV can decode" in err[0]
    assert [path.name for path in Path("out").iterdir()] == ["00002_caf?.jpg"]


@pytest.mark.parametrize(("word", "why"), [
    ("text.jpg", "text.jpg: not an image"), ("empty.png", "empty.png: not an image"), ("half.jpg", "half.jpg: not an"),
    ("absent.jpg", "absent.jpg: no such image or folder"), ("nothing", "nothing: no image in this folder"),
    ("*.nix", "*.nix: no file fits this pattern"), ("text.mp4", "text.mp4: not a video that OpenCV can decode"),
    ("no.avi", "no.avi: not a video that OpenCV can decode, or empty"), ("cut.avi", "cut.avi: breaks off after frame"),
    ("63", "camera 63: no camera that answers"),
])
def test_what_cannot_be_read_is_named_in_one_line_and_the_rest_goes_on(run, word, why):
    pictures(".", "a.png", "b.png", "half.jpg")
    Path("half.jpg").write_bytes(Path("half.jpg").read_bytes()[:-2000])
    Path("text.jpg").write_text("text")
    Path("text.mp4").write_text("text")
    Path("empty.png").touch()
    Path("nothing").mkdir()
    video("no.avi", 0)
    whole = video("cut.avi", 40).read_bytes()
    Path("cut.avi").write_bytes(whole[:len(whole) // 2])
    status, out, err = run("a.png", word, "b.png")
    assert status == 1
    assert len(err) == 1 and err[0].startswith(f"error: {why}"), err
    assert "a.png" in out and "b.png" in out
    if word == "cut.avi":
        count = int(re.search(r"after frame (\d+) of 40$", err[0])[1])
        assert 10 < count < 30 and f"cut.avi frame {count}" in out and f"cut.avi frame {count + 1}" not in out


# Images of unusual kinds -------------------------------------------------------------------------------------


def with_orientation(jpeg, orientation):
    """A JPEG with an Exif segment that says how the camera was held."""
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + (8 + len(tiff)).to_bytes(2, "big") + b"Exif\0\0" + tiff + jpeg[2:]


@pytest.mark.parametrize(("orientation", "turned"), [
    (1, lambda image: image), (3, lambda image: image[::-1, ::-1]), (6, lambda image: np.rot90(image, -1)),
    (8, np.rot90), (2, lambda image: image[:, ::-1]),
])
def test_photos_are_shown_upright(tmp_path, run, orientation, turned):
    image = cv2.resize(picture(3, 16, 12), (160, 120))  # smooth, so that the JPEG is near it
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    Path("turned.jpg").write_bytes(with_orientation(jpeg, orientation))
    expected = turned(image)
    found = read_image("turned.jpg")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4
    run("turned.jpg", "--save-images", "out", "--json", "a.json", "--threshold", "1")
    assert np.abs(read_image("out/00001_turned.jpg").astype(int) - expected).mean() < 6
    assert json.loads(Path("a.json").read_text())["size"] == [expected.shape[1], expected.shape[0]]


def test_images_of_every_depth_and_colour_are_read_as_rgb(run):
    colour = picture(2)
    cv2.imwrite("deep.png", colour[..., ::-1].astype(np.uint16) * 257)
    cv2.imwrite("grey.png", colour[..., 0])
    cv2.imwrite("deep grey.png", colour[..., 0].astype(np.uint16) * 257)
    cv2.imwrite("clear.png", np.dstack([colour[..., ::-1], np.zeros(colour.shape[:2], np.uint8)]))
    np.testing.assert_array_equal(read_image("deep.png"), colour)
    np.testing.assert_array_equal(read_image("clear.png"), colour)
    for name in ("grey.png", "deep grey.png"):
        np.testing.assert_array_equal(read_image(name), np.repeat(colour[..., :1], 3, axis=2))
    cv2.imwrite("portrait.jpg", np.rot90(picture(1, 400, 200)))
    cv2.imwrite("dot.png", np.full((1, 1, 3), 200, np.uint8))
    cv2.imwrite("line.png", np.full((1, 300, 3), 200, np.uint8))
    cv2.imwrite("pole.png", np.full((300, 1, 3), 200, np.uint8))
    status, _, err = run(".", "--save-images", "out", "--sheet", "sheet.png", "--json", "a.json", "--tusimple", "t")
    assert (status, err) == (0, [])
    sizes = {Path(line["image"]).name: line["size"] for line in json_lines("a.json")}
    assert len(sizes) == 8 and sizes["dot.png"] == [1, 1] and sizes["portrait.jpg"] == [200, 400]
    assert sorted(read_image(path).shape[1::-1] for path in Path("out").iterdir()) == sorted(map(tuple, sizes.values()))
    assert read_image("sheet.png").shape[1] == 4 * 480


def test_cmyk_photos_are_read_in_their_colours():
    images = pytest.importorskip("PIL.Image")
    colours = np.repeat(np.array([[(220, 30, 40), (30, 200, 50), (40, 60, 210)]], np.uint8), 20, axis=1)
    colours = np.repeat(colours, 40, axis=0)
    images.fromarray(colours).convert("CMYK").save("print.jpg", quality=95)
    assert np.abs(read_image("print.jpg").astype(int) - colours)[:, 5:55:20].max() < 6


# What is written ---------------------------------------------------------------------------------------------


def test_json_says_what_is_printed_in_pixels_too(run, capsys):
    pictures(".", "a.png")
    video("drive.avi", 3, (320, 180))
    _, text, _ = run("a.png", "drive.avi", "--json", "a.json", "--threshold", "0.95")
    records = json_lines("a.json")
    assert [(r["image"], r.get("frame")) for r in records] == [("a.png", None), *(("drive.avi", i) for i in (1, 2, 3))]
    assert [r["size"] for r in records] == [[160, 90]] + [[320, 180]] * 3
    printed = [line for line in text if "Lane" in line]
    lanes = [(number, lane, r["size"]) for number, r in enumerate(records, start=1) for lane in r["lanes"]]
    assert len(lanes) == len(printed) > 0
    for line, (number, lane, size) in zip(printed, lanes, strict=True):
        assert line.startswith(f"Sample {number}: Lane {lane['slot']} ({lane['confidence']:.2f}): P0=(")
        points = re.findall(r"P\d=\(([-.\d]+), ([-.\d]+)\)", line)
        np.testing.assert_allclose(np.array(points, float), lane["control_points"], atol=0.00051)
        curve = sample(torch.tensor(lane["control_points"]), len(lane["points_px"])).numpy() * size
        np.testing.assert_allclose(lane["points_px"], curve, atol=0.02)


def test_json_on_stdout_is_alone_there(run):
    pictures(".", "a.png", "b.png")
    _, out, err = run("a.png", "b.png", "--json", "-")
    assert [json.loads(line)["image"] for line in out] == ["a.png", "b.png"]
    assert len(err) == 1 and err[0].startswith("The predictions ")


def test_a_tusimple_submission_is_one_that_can_be_scored(rendered, run):
    run(f"data.root={rendered}", "--tusimple", "below/answer.json")
    listed = [e for e in entries(rendered) if "label_data_val.json" in e.lists]
    rows = [np.array(line["h_samples"]) for line in json_lines("below/answer.json")]
    lanes, _ = submission.read_tusimple(Path("below/answer.json"), listed, rows)
    assert len(lanes) == 8 and sum(map(len, lanes)) > 0
    labels = json_lines(rendered / "label_data_val.json")
    assert [list(r) for r in rows] == [label["h_samples"] for label in labels]


def test_a_submission_for_a_folder_names_images_below_it(run):
    pictures("set", "clips/1/20.jpg", "clips/2/20.jpg")
    run("set", "--tusimple", "answer.json")
    records = json_lines("answer.json")
    assert [r["raw_file"] for r in records] == ["clips/1/20.jpg", "clips/2/20.jpg"]
    assert all(len(r["h_samples"]) == 56 and max(r["h_samples"]) < 90 for r in records)


def test_overlays_of_files_with_one_name_do_not_overwrite_each_other(run):
    pictures(".", "a/20.jpg", "b/20.jpg", "b/20.png")
    run("a", "b", "--save-images", "out")
    assert sorted(p.name for p in Path("out").iterdir()) == ["00001_20.jpg", "00002_20.jpg", "00003_20.jpg"]
    assert len({path.read_bytes() for path in Path("out").iterdir()}) == 3


def test_what_is_no_file_is_not_replaced_by_one(run):
    pictures(".", "a.png")
    run("a.png", "--json", os.devnull)
    assert not Path(os.devnull).is_file()


# As a process ------------------------------------------------------------------------------------------------


def test_a_reader_that_stops_reading_gets_no_traceback(rendered, checkpoint):
    command = [sys.executable, str(ROOT / "inference_fixed.py"), *[str(rendered)] * 8, "--threshold", "0",
               "--checkpoint", str(checkpoint), *EXACT]  # more than a pipe holds
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout.readline().endswith(".jpg\n")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
