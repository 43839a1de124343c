"""JPEG files damaged in their middle are refused by name; whole ones are read, however they were written."""

import cv2
import numpy as np
import pytest

from formats.base import DataError
from preprocessing import jpeg
from preprocessing.images import read_image

WRITERS = {"plain": [], "optimized": [cv2.IMWRITE_JPEG_OPTIMIZE, 1], "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 9],
           "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], "coarse": [cv2.IMWRITE_JPEG_QUALITY, 20]}


def encoded(image, writer="plain"):
    return cv2.imencode(".jpg", image, WRITERS[writer])[1].tobytes()


def noise(width=320, height=180):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


PICTURES = {
    "noise": noise(), "black": np.zeros((180, 320, 3), np.uint8), "gray": np.full((33, 17, 3), 128, np.uint8),
    "framed": cv2.copyMakeBorder(noise(), 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(128, 128, 128)),
    "one channel": noise()[..., 0], "tiny": noise()[:5, :6], "one pixel": noise()[:1, :1],
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("picture", PICTURES)
def test_whole_files_are_read(tmp_path, picture, writer):
    (tmp_path / "a.jpg").write_bytes(encoded(PICTURES[picture], writer))
    assert read_image(tmp_path / "a.jpg", thorough=True).shape[:2] == PICTURES[picture].shape[:2]


DAMAGES = {
    "cut": lambda data, start, stop: data[:(start + stop) // 2] + jpeg.EOI,
    "a hole of zeros": lambda data, start, stop: overwritten(data, start, stop, bytes(300)),
    "a hole of ones": lambda data, start, stop: overwritten(data, start, stop, b"\xff" * 300),
}


def overwritten(data, start, stop, content):
    middle = (start + stop) // 2
    return data[:middle] + content + data[middle + len(content):]


@pytest.mark.parametrize(("damage", "writer"), [
    *((damage, writer) for damage in DAMAGES for writer in ("plain", "optimized", "coarse")),
    ("cut", "progressive"), ("cut", "restarts"), ("a hole of zeros", "restarts"),
])
def test_a_damaged_file_is_named_and_refused(tmp_path, damage, writer):
    data = encoded(noise(), writer)
    (tmp_path / "a.jpg").write_bytes(DAMAGES[damage](data, *jpeg.pixel_data(data)))
    with pytest.raises(DataError, match=r"a\.jpg: a damaged JPEG: .*; copy it anew, or take it out$"):
        read_image(tmp_path / "a.jpg")


def test_lost_bytes_show_in_a_thorough_look(tmp_path):
    """What is left of these pixel data fills the image before it ends."""
    data = encoded(noise())
    start, stop = jpeg.pixel_data(data)
    text = (b"<html>no such page" * 40)[:600]
    damaged = overwritten(data, start, stop, text)
    assert not jpeg.damage(data, start, stop)
    assert jpeg.damage(damaged, start, stop) == "its pixel data do not fit its size"
    missing = encoded(noise(), "restarts")
    first = missing.index(b"\xff\xd1")
    missing = missing[:first] + missing[missing.index(b"\xff\xd2"):]
    assert jpeg.damage(missing, *jpeg.pixel_data(missing)) == "a part of its pixel data is missing"


@pytest.mark.parametrize("fill", [1, 2, 7])
@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xd9"])
def test_fill_bytes_before_a_marker_are_legal(tmp_path, marker, fill):
    data = encoded(noise(64, 36))
    at = data.rindex(marker)
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\xff" * fill + data[at:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", thorough=True),
                                  cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


@pytest.mark.parametrize("padding", [bytes(40), b"\xff" * 40, bytes(1)])
def test_pixel_data_may_be_padded_and_followed_by_more(tmp_path, padding):
    """Some cameras fill up blocks; a phone appends a second picture."""
    data = encoded(noise(64, 36))
    (tmp_path / "a.jpg").write_bytes(data[:-2] + padding + data[-2:] + bytes(100) + encoded(noise(16, 16)))
    assert read_image(tmp_path / "a.jpg").shape == (36, 64, 3)


def test_a_hole_in_a_second_picture_is_no_damage_of_the_first(tmp_path):
    data, second = encoded(noise(64, 36)), encoded(noise(16, 16))
    second = second[:-100] + bytes(98) + second[-2:]
    (tmp_path / "a.jpg").write_bytes(data + second)
    assert jpeg.looks_damaged(data + second, *jpeg.pixel_data(data)[:1], len(data + second), noise(64, 36))
    assert read_image(tmp_path / "a.jpg").shape == (36, 64, 3)


def test_an_end_marker_in_a_preview_is_not_the_end(tmp_path):
    data = encoded(noise(64, 36))
    preview = encoded(noise(16, 16))
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    (tmp_path / "a.jpg").write_bytes((data[:2] + segment + data[2:])[:-2])
    with pytest.raises(DataError, match="is it truncated"):
        read_image(tmp_path / "a.jpg")
