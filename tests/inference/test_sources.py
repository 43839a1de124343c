"""What inference looks at: files, folders, patterns and videos by any name, photos of every kind; the rest is named."""

import json
import os
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from roads import json_lines, picture, pictures, video

from preprocessing.images import read_image
from visualization.draw import write_image

pytestmark = pytest.mark.usefixtures("elsewhere")


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
    if word == "absent.jpg":
        assert run(word)[:2] == (1, [])  # nothing was looked at, and nothing is said of it
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


def test_images_of_every_depth_and_color_are_read_as_rgb(run):
    color = picture(2)
    cv2.imwrite("deep.png", color[..., ::-1].astype(np.uint16) * 257)
    cv2.imwrite("grey.png", color[..., 0])
    cv2.imwrite("deep grey.png", color[..., 0].astype(np.uint16) * 257)
    cv2.imwrite("clear.png", np.dstack([color[..., ::-1], np.zeros(color.shape[:2], np.uint8)]))
    np.testing.assert_array_equal(read_image("deep.png"), color)
    np.testing.assert_array_equal(read_image("clear.png"), color)
    for name in ("grey.png", "deep grey.png"):
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
