"""Sources and their frames: files, folders, patterns and videos by any name, photos of every kind; and errors."""

import itertools
import json
import os
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from roads import Camera, json_lines, picture, write_pictures, write_video

from inference import inputs
from inference.sources import Source, list_sources, total_frames
from preprocessing.images import read_image
from visualization.draw import write_image

pytestmark = pytest.mark.usefixtures("elsewhere")


# Inputs ------------------------------------------------------------------------------------------------------


def test_inputs_of_all_kinds_come_in_the_order_given(run):
    write_pictures("photos", "b.jpg", "a.png", "deep/c.PNG", ".hidden.jpg", "glob/1.jpg", "glob/2.jpg")
    (Path("photos") / "notes.txt").write_text("no image")
    write_video("drive.avi", 3)
    status, out, err = run("drive.avi", Path("photos/b.jpg"), "photos", "photos/gl*/*.jpg", "photos/b.jpg")
    names = [line for line in out if not line.startswith(("Sample", "The"))]
    photos = [str(Path("photos") / name) for name in ("a.png", "b.jpg", "deep/c.PNG", "glob/1.jpg", "glob/2.jpg")]
    assert names == ["drive.avi frame 1", "drive.avi frame 2", "drive.avi frame 3", photos[1], *photos, *photos[3:],
                     photos[1]]
    assert {int(line.split()[1].rstrip(":")) for line in out if line.startswith("Sample")} == set(range(1, 13))
    assert (status, err) == (0, ["photos: passed over: 1 that are hidden or the system's; "
                                 "1 that are no images and no videos (.txt)"])


def test_a_file_named_like_a_pattern_or_a_number_is_a_file(run):
    write_pictures(".", "[1].png", "0.png")
    Path("0.png").rename("0")
    status, out, err = run("[1].png", "0")
    assert [line for line in out if not line.startswith(("Sample", "The"))] == ["[1].png", "0"]
    assert (status, err) == (0, [])


def test_folders_named_like_images_are_folders(run):
    write_pictures("road.jpg", "a.png", "b.png")
    write_pictures("outer/inner.png", "c.png")
    assert sum(line.endswith(".png") for line in run("road.jpg", "outer")[1]) == 3


def test_a_video_that_is_named_twice_is_read_twice(run):
    write_video("drive.avi", 3)
    run("drive.avi", "drive.avi", "--save-images", "out", "--json", "out.jsonl")
    assert len(list(Path("out").iterdir())) == 2
    records = json_lines("out.jsonl")
    assert [record["frame"] for record in records] == [1, 2, 3] * 2
    assert [record["lanes"] for record in records[:3]] == [record["lanes"] for record in records[3:]]


def test_a_stream_knows_how_many_frames_a_file_has():
    write_video("drive.avi", 3, fps=25.0)
    stream = Source("http://server/drive.avi", "drive.avi", "camera", frames=None)
    frames = list(inputs.read_frames([stream], lambda image: image, True, 1))
    assert [(frame.index, frame.source.frames, frame.source.fps) for frame in frames] == [
        (index, 3, 25.0) for index in (1, 2, 3)]


def test_names_with_spaces_and_letters_beyond_ascii(run):
    write_pictures("Fahrt nach Köln", "Straße 1.jpg", "道路.png")
    write_video("Fahrt nach Köln/трасса 2.avi", 2)
    status, out, err = run("Fahrt nach Köln", "--save-images", "Bilder größer", "--json", "öä.json")
    assert status == 0 and len(err) == 1 and "трасса 2.mp4: 2 frames" in err[0]
    assert sum("Straße 1.jpg" in line or "道路.png" in line for line in out) == 2
    assert sorted(path.name for path in Path("Bilder größer").iterdir()) == [
        "00001_Straße 1.jpg", "00002_трасса 2.mp4", "00004_道路.jpg"]
    assert json_lines("öä.json")[0]["image"].endswith("Straße 1.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a name be no text")
def test_a_name_that_is_no_text_ends_nothing(run):
    name = os.fsdecode(b"caf\xe9")
    write_video("drive.avi", 2).rename(f"{name}.avi")
    write_image(Path(f"{name}.png"), picture())
    for stream in (sys.stdout, sys.stderr):  # as cli.run and Python itself do
        stream.reconfigure(errors="backslashreplace")
    status, _, err = run(".", "--save-images", "out")
    assert status == 1 and len(err) == 1 and "not a video that OpenCV can decode" in err[0]
    assert [path.name for path in Path("out").iterdir()] == ["00002_caf?.jpg"]


@pytest.mark.parametrize(("argument", "reason"), [
    ("text.jpg", "text.jpg: not an image"), ("empty.png", "empty.png: not an image"), ("half.jpg", "half.jpg: not an"),
    ("absent.jpg", "absent.jpg: no such image or folder"), ("nothing", "nothing: no image in this folder"),
    ("*.nix", "*.nix: no file fits this pattern"), ("text.mp4", "text.mp4: not a video that OpenCV can decode"),
    ("no.avi", "no.avi: not a video that OpenCV can decode, or empty"), ("cut.avi", "cut.avi: breaks off after frame"),
    ("63", "camera 63: no camera that answers"),
])
def test_what_cannot_be_read_is_named_in_one_line_and_the_rest_goes_on(run, argument, reason):
    write_pictures(".", "a.png", "b.png", "half.jpg")
    Path("half.jpg").write_bytes(Path("half.jpg").read_bytes()[:-2000])
    Path("text.jpg").write_text("text")
    Path("text.mp4").write_text("text")
    Path("empty.png").touch()
    Path("nothing").mkdir()
    write_video("no.avi", 0)
    if argument == "cut.avi":
        whole = write_video(argument, 40).read_bytes()
        Path(argument).write_bytes(whole[:len(whole) // 2])
    status, out, err = run("a.png", argument, "b.png")
    assert status == 1
    assert len(err) == 1 and err[0].startswith(f"error: {reason}"), err
    assert "a.png" in out and "b.png" in out
    if argument == "absent.jpg":
        assert run(argument)[:2] == (1, [])  # nothing was read, and nothing is reported of it
    if argument == "cut.avi":
        count = int(re.search(r"after frame (\d+) of 40$", err[0])[1])
        assert 10 < count < 30 and f"cut.avi frame {count}" in out and f"cut.avi frame {count + 1}" not in out


# Frames ------------------------------------------------------------------------------------------------------


def test_frames_keep_their_order_and_are_read_only_so_far_ahead(monkeypatch):
    write_pictures("a", *(f"{i:02}.png" for i in range(20)))
    begun = []

    def counted(path):
        begun.append(path)
        return read_image(path)

    monkeypatch.setattr(inputs, "read_image", counted)
    sources = list_sources(["a"])
    frames = inputs.read_frames(sources, lambda image: image, False, 4)
    for number, frame in enumerate(itertools.islice(frames, 10), start=1):
        np.testing.assert_array_equal(frame.pixels, read_image(sources[number - 1].path))
        assert frame.image is None and number <= len(begun) <= number + 4
    frames.close()
    assert len(begun) <= 14


def test_a_camera_is_read_only_when_its_image_is_needed(monkeypatch, run):
    camera = Camera()
    monkeypatch.setattr(cv2, "VideoCapture", lambda: camera)
    frames = inputs.read_frames(list_sources(["0"]), lambda image: image, True, 8)
    for number, batch in enumerate(itertools.islice(inputs.batches(frames, 16), 3), start=1):
        assert [frame.name for frame in batch] == [f"camera 0 frame {number}"] and camera.reads == number
        np.testing.assert_array_equal(batch[0].image, picture(number))
    frames.close()
    camera.reads = 0
    status, out, err = run("0")
    assert status == 1 and err == ["error: camera 0: breaks off after frame 5"]
    assert [line for line in out if line.startswith("camera")] == [f"camera 0 frame {i}" for i in range(1, 6)]


def test_frames_of_files_come_in_batches():
    write_pictures("a", *(f"{i}.png" for i in range(5)))
    write_video("a/z.avi", 4)
    frames = inputs.read_frames(list_sources(["a"]), lambda image: image, False, 2)
    assert [[frame.index for frame in batch] for batch in inputs.batches(frames, 4)] == [[1] * 4, [1, 1, 2, 3], [4]]


def test_batches_are_numbered_from_one():
    write_pictures("a", *(f"{i}.png" for i in range(3)))
    write_video("drive.avi", 3)
    sources = list_sources(["a", "drive.avi", "absent", "a/0.png"])
    batches = inputs.shard_batches(sources, lambda image: image, False, 2)
    assert [(first, len(batch)) for first, batch in batches] == [(1, 2), (3, 1), (4, 2), (6, 2), (8, 1)]


def test_frames_with_the_same_pixels_have_the_same_checksum():
    write_pictures("a", "1.png", "2.png")
    sources = list_sources(["a", "a/1.png"])
    checksums = [frame.checksum for frame in inputs.read_frames(sources, lambda image: image, False, 2)]
    assert checksums[0] == checksums[2] != checksums[1]


def test_the_total_is_unknown_where_one_source_does_not_tell():
    sources = [Source("a", Path("a")), Source("b", Path("b"), "video", frames=7)]
    assert total_frames(sources) == 8
    assert total_frames([*sources, Source("camera 0", 0, "camera", frames=None)]) is None


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
    image = read_image("turned.jpg")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4
    run("turned.jpg", "--save-images", "out", "--json", "a.json", "--threshold", "1")
    assert np.abs(read_image("out/00001_turned.jpg").astype(int) - expected).mean() < 6
    assert json.loads(Path("a.json").read_text())["size"] == [expected.shape[1], expected.shape[0]]


def test_images_of_every_depth_and_color_are_read_as_rgb(run):
    color = picture(2)
    cv2.imwrite("deep.png", color[..., ::-1].astype(np.uint16) * 257)
    cv2.imwrite("gray.png", color[..., 0])
    cv2.imwrite("deep gray.png", color[..., 0].astype(np.uint16) * 257)
    cv2.imwrite("clear.png", np.dstack([color[..., ::-1], np.zeros(color.shape[:2], np.uint8)]))
    np.testing.assert_array_equal(read_image("deep.png"), color)
    np.testing.assert_array_equal(read_image("clear.png"), color)
    for name in ("gray.png", "deep gray.png"):
        np.testing.assert_array_equal(read_image(name), np.repeat(color[..., :1], 3, axis=2))
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


def test_cmyk_photos_are_read_in_their_colors():
    images = pytest.importorskip("PIL.Image")
    colors = np.repeat(np.array([[(220, 30, 40), (30, 200, 50), (40, 60, 210)]], np.uint8), 20, axis=1)
    colors = np.repeat(colors, 40, axis=0)
    images.fromarray(colors).convert("CMYK").save("print.jpg", quality=95)
    assert np.abs(read_image("print.jpg").astype(int) - colors)[:, 5:55:20].max() < 6
