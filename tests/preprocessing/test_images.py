"""Reading images: RGB pixels, or one line that names the file; absurd sizes are refused before they cost anything."""

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest

from formats.base import DataError
from geometry.input_grid import InputGrid, RowWarp
from preprocessing import images
from preprocessing.images import image_size, preprocess, read_image, resize

# Reading -----------------------------------------------------------------------------------------------------


def refusal(path):
    """The message with which an image is refused: one short line that begins with the path."""
    with pytest.raises(DataError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


def test_images_are_read_as_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 6, 3), (0, 0, 255), np.uint8))  # OpenCV writes BGR
    image = read_image(tmp_path / "red.png")
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [255, 0, 0]


def test_gray_images_and_names_beyond_ascii_are_read(tmp_path):
    path = tmp_path / "Straße 1.png"
    cv2.imwrite(str(path), np.full((4, 6), 90, np.uint8))
    assert read_image(path)[0, 0].tolist() == [90, 90, 90]


@pytest.mark.parametrize("content", [None, b"", b"text", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_what_is_no_image_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    assert ("no such image" if content is None else "not an image that can be decoded") in refusal(path)


@pytest.mark.parametrize("size", [(640, 360), (160, 96), (80, 40), (640, 40)])
def test_preprocessing_keeps_positions(size):
    """A bright spot stays where it is in [0, 1], whether the image shrinks, grows, or neither."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4:height // 2, width // 2:3 * width // 4] = 200
    small = preprocess(image, InputGrid(160, 96))[..., 0].astype(float)
    assert small.shape == (96, 160)
    rows, columns = np.indices(small.shape) + 0.5
    assert abs((small * rows).sum() / small.sum() / 96 - 0.375) < 0.02
    assert abs((small * columns).sum() / small.sum() / 160 - 0.625) < 0.02


# Headers -----------------------------------------------------------------------------------------------------

SUFFIXES = {".tiff": [], ".jpg": [], ".jpeg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], ".png": [], ".bmp": [], ".webp": [],
            ".webp ": [cv2.IMWRITE_WEBP_QUALITY, 101]}


def resized_whole(image, width, height):
    """The whole image resized by OpenCV alone."""
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    wide, high = image.shape[1] > width, image.shape[0] > height
    if wide or high:
        size = (width if wide else image.shape[1], height if high else image.shape[0])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_enlarged_one_way_is_averaged_the_other(axis):
    stripes = np.zeros((300, 20, 3), np.uint8)
    stripes[::3] = 90  # a sampled row would be 0 or 90; the mean of three is 30
    image = stripes if axis == 0 else stripes.transpose(1, 0, 2)
    size = (40, 100) if axis == 0 else (100, 40)
    np.testing.assert_array_equal(resize(image, *size), np.full((*size[::-1], 3), 30))


@pytest.mark.parametrize("grid", [InputGrid(40, 18, RowWarp(0.25, 1.8)), InputGrid(40, 18, RowWarp(0.3, 1.0)),
                                  InputGrid(48, 30, RowWarp(0.4, 2.5)), InputGrid(40, 18)], ids=str)
@pytest.mark.parametrize("width", [1, 3, 37, 40, 41, 80, 96, 160, 161, 240, 333])
def test_rows_that_are_left_out_are_not_resized_and_change_nothing(width, grid):
    heights = {1, 7, *range(grid.fine_rows - 1, 8 * grid.fine_rows, 9), *(n * grid.fine_rows for n in range(1, 9))}
    for height in heights:
        image = np.random.default_rng(height).integers(256, size=(height, width, 3), dtype=np.uint8)
        whole = resized_whole(image, grid.width, grid.fine_rows)
        np.testing.assert_array_equal(resize(image, grid.width, grid.fine_rows), whole)
        np.testing.assert_array_equal(preprocess(image, grid), grid.resample(whole))


def test_rows_that_are_left_out_of_a_usual_image_are_not_resized(monkeypatch):
    sizes = []
    monkeypatch.setattr(images, "resize", lambda image, width, height: sizes.append((*image.shape[:2], height)) or
                        np.zeros((height, width, 3), np.uint8))
    for height in (720, 1080, 719):
        preprocess(np.zeros((height, 1280, 3), np.uint8), InputGrid(320, 144, RowWarp(0.25, 1.8)))
    assert sizes == [(540, 1280, 270), (810, 1280, 270), (719, 1280, 360)]


def encoded(suffix, width=64, height=36):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(suffix.strip(), noise, SUFFIXES[suffix])[1].tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [(64, 36), (301, 7), (1, 700)])
def test_the_size_in_a_header_is_that_of_the_image(suffix, size):
    assert image_size(encoded(suffix, *size)) == size


def test_a_jpeg_with_exif_and_padding_has_its_size():
    data = encoded(".jpg")
    exif = b"\xff\xff\xe1\x00\x12Exif\0\0\xff\xc0\0\x11\x08\xff\xff\xff"
    assert image_size(data[:2] + exif + data[2:]) == (64, 36)
    assert image_size(data[:40]) is None and image_size(b"\xff\xd8" + b"\xff" * 100) is None
    frame = data.index(b"\xff\xc0")
    assert [image_size(data[:frame + length]) for length in range(2, 9)] == [None] * 7


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if not s.startswith((".webp", ".tiff"))])
def test_an_absurd_image_is_refused_before_its_pixels_are_allocated(tmp_path, suffix, monkeypatch):
    data = bytearray(encoded(suffix))
    small, huge = (64, 36) if suffix in (".png", ".bmp") else (36, 64), (30_000, 30_000)
    count, order = {".png": (4, "big"), ".bmp": (4, "little")}.get(suffix, (2, "big"))
    at = data.index(b"".join(v.to_bytes(count, order) for v in small))
    data[at:at + 2 * count] = b"".join(v.to_bytes(count, order) for v in huge)
    if suffix == ".png":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was asked for 2.7 GB"))
    assert "30000x30000 pixels is more than" in refusal(path)


@pytest.mark.parametrize("size", [(10_000, 9_500), (10_001, 10_000), (14_000, 14_000)])
def test_large_images_bring_no_warning_of_pillow(tmp_path, size, monkeypatch):
    """Image.open warns above 89 million pixels and refuses 179 million."""
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<ii", *size)
    (tmp_path / "a.bmp").write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(tmp_path / "a.bmp")
    assert ("pixels is more than" in message) == (size[0] * size[1] > images.MAX_IMAGE_PIXELS)


def test_damaged_exif_data_brings_no_warning_of_pillow(tmp_path, capfd):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0e\0\x02\0\0\xff\xff\0\0\xff\xff"
    data = encoded(".jpg")
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.jpg").shape == (36, 64, 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".pgm", ".jp2"])
def test_other_formats_are_refused(tmp_path, suffix):
    written, data = cv2.imencode(suffix, np.full((36, 64, 1), 90, np.uint8))
    assert written
    (tmp_path / "a.jpg").write_bytes(data.tobytes())
    assert "not an image that can be decoded (JPEG, PNG, BMP, WebP or TIFF" in refusal(tmp_path / "a.jpg")


# Depths and kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_images_are_as_bright_as_their_camera_meant(tmp_path, suffix, bits):
    """16-bit files hold what the camera has: 12 bits of them are not a nearly black image."""
    shallow = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    deep = (shallow.astype(np.uint16) << (bits - 8)) + (1 << (bits - 8)) - 1
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), shallow)


def test_two_images_of_one_camera_are_scaled_alike(tmp_path):
    for name, largest in (("dark", 1100), ("bright", 4095)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.array([[1024, largest]], np.uint16))
    assert read_image(tmp_path / "dark.png")[0, 0, 0] == read_image(tmp_path / "bright.png")[0, 0, 0] == 64


def test_tiff_images_are_read_and_truncated_ones_refused(tmp_path):
    path, image = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    data = cv2.imencode(".tif", image[..., ::-1])[1].tobytes()
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), image)
    path.write_bytes(data[:len(data) // 2])
    assert "is it truncated?" in refusal(path)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_pixels_of_no_known_range_are_refused(tmp_path, kind):
    assert cv2.imwrite(str(tmp_path / "a.tif"), np.full((36, 64, 3), 0.5, kind))
    assert refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_jpeg_is_refused(tmp_path, share):
    data = encoded(".jpg")
    (tmp_path / "a.jpg").write_bytes(data[:int(share * len(data))])
    assert "is it truncated?" in refusal(tmp_path / "a.jpg")


def test_an_image_file_of_absurd_length_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(images.MAX_IMAGE_BYTES + 1)  # sparse
    assert "400 MB is more than" in refusal(tmp_path / "a.jpg")
