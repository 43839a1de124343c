"""The cache of pixels: the same as from the files, never stale, never half built."""

import os

import cv2
import numpy as np
import pytest
import torch

from dataset import LaneDataset
from formats import registry
from formats.base import DataError
from geometry.input_grid import InputGrid
from preprocessing import cache
from preprocessing.lane_fit import LaneProblems
from preprocessing.loader import loader


def write_image(path, gray, size=(64, 36)):
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), gray, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three gray images with one lane each, and their samples."""
    root = tmp_path / "images"
    root.mkdir()
    for i in range(3):
        write_image(root / f"{i}.png", 40 * i + 20)
        (root / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n")
    return root


def opened(root, width=32, height=32, slots=6, limit_gb=1.0):
    samples, grid = registry.list_samples(root), InputGrid(width, height)
    return cache.open_cache(samples, grid, slots, root.parent / "cache", limit_gb)


def grays(pixels):
    return pixels.images[:, 5, 5, 0].tolist()


def touch_later(path):
    """Move the time of change on, as a clock of coarse steps might not."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_the_cache_holds_what_reading_gives(folder):
    pixels = opened(folder)
    assert pixels.images.shape == (3, 32, 32, 3) and grays(pixels) == [20, 60, 100]
    assert pixels.exists.sum(1).tolist() == [1, 1, 1]
    assert pixels.sizes_px.tolist() == [[64, 36]] * 3
    assert pixels.problems == LaneProblems()


def test_images_that_are_read_and_fitted_in_chunks_are_in_their_places(folder, monkeypatch):
    for i in range(3, 11):
        write_image(folder / f"{i}.png", 30 + 20 * i)
        (folder / f"{i}.lines.txt").write_text(f"{20 + i} 35 25 25 {30 + i} 15\n" * (i % 3) + "5 5\n")
    whole = opened(folder)
    monkeypatch.setattr(cache, "READ_CHUNK", 2)
    monkeypatch.setattr(cache, "FIT_CHUNK", 3)
    samples, grid = registry.list_samples(folder), InputGrid(32, 32)
    parts = cache.open_cache(samples, grid, 6, folder.parent / "other", 1.0)
    for name in ("images", "points", "exists", "sizes_px", "sums"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
    assert whole.problems == parts.problems == LaneProblems(too_short=8) and len(set(whole.sums.tolist())) == 11
    images, target = LaneDataset(samples, grid, 6)[[10, 0, 7]]  # without a cache
    assert np.array_equal(images.permute(0, 2, 3, 1), whole.images[[10, 0, 7]])
    np.testing.assert_allclose(target.points, whole.points[[10, 0, 7]], atol=1e-6)
    assert np.array_equal(target.exists, whole.exists[[10, 0, 7]])


def test_the_second_time_nothing_is_decoded(folder, monkeypatch):
    opened(folder)

    def decodes(*_):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(cache, "read_images", decodes)
    assert grays(opened(folder)) == [20, 60, 100]


def test_a_changed_image_is_read_again(folder):
    opened(folder)
    write_image(folder / "1.png", 200)
    touch_later(folder / "1.png")
    assert grays(opened(folder)) == [20, 200, 100]


def test_a_changed_label_is_read_again(folder):
    first = opened(folder)
    (folder / "2.lines.txt").write_text("20 35 25 25 30 15\n50 35 45 25 40 15\n")
    second = opened(folder)
    assert first.exists.sum() == 3 and second.exists.sum() == 4


def test_other_sizes_slots_and_images_have_their_own_cache(folder):
    opened(folder)
    assert opened(folder, width=64).images.shape == (3, 32, 64, 3)
    assert opened(folder, height=64).images.shape == (3, 64, 32, 3)
    assert opened(folder, slots=4).exists.shape == (3, 4)
    write_image(folder / "3.png", 220)
    (folder / "3.lines.txt").write_text("20 35 25 25 30 15\n")
    assert grays(opened(folder)) == [20, 60, 100, 220]
    (folder / "0.lines.txt").unlink()
    assert grays(opened(folder)) == [60, 100, 220]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), DataError("x: broken")])
def test_an_interrupted_cache_is_no_cache(folder, monkeypatch, error):
    read = cache.read_images

    def stops(samples, grid):
        read(samples[:2], grid)
        raise error

    monkeypatch.setattr(cache, "read_images", stops)
    with pytest.raises((KeyboardInterrupt, DataError)):
        opened(folder)
    assert [path.name for path in (folder.parent / "cache").iterdir()] == [".lock"]
    monkeypatch.setattr(cache, "read_images", read)
    assert grays(opened(folder)) == [20, 60, 100]


@pytest.mark.parametrize("name", [f"{name}.npy" for name in cache.FILES] + ["meta.json"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "other", "gone"])
def test_a_damaged_cache_is_built_again_and_that_is_one_line(folder, name, damage, capsys):
    path = opened(folder).folder / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": data[:len(data) // 2], "other": b"[1, 2]"}[damage])
    assert grays(opened(folder)) == [20, 60, 100]
    assert f"{path.parent}: the cache is damaged; it is built again\n" in capsys.readouterr().err


def test_a_cache_over_its_limit_is_not_built(folder, capsys):
    assert opened(folder, limit_gb=1e-6) is None
    assert "data.cache_gb" in capsys.readouterr().err
    assert not (folder.parent / "cache").exists()


def test_a_cache_folder_that_cannot_be_made_is_one_line(folder):
    (folder.parent / "cache").write_text("a file of that name")
    with pytest.raises(DataError, match=r"cannot be written.*data\.cache_dir"):
        opened(folder)


def test_a_broken_image_is_named(folder):
    (folder / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: not an image"):
        opened(folder)


def test_images_preloaded_on_a_device_are_those_of_the_cache(folder):
    samples, grid = registry.list_samples(folder), InputGrid(32, 32)
    plain, preloaded = (LaneDataset(samples, grid, 6, opened(folder)) for _ in range(2))
    plain.preload(torch.device("cpu"), "auto")  # which is for GPUs
    preloaded.preload(torch.device("cpu"), True)
    assert preloaded.preloaded and not plain.preloaded
    batches = [[2], [0, 2, 0], np.array([1], np.int32)]
    pairs = zip(loader(preloaded, batches, 0, True), loader(plain, batches, 0, False), strict=True)
    for (images, target), (others, labels) in pairs:
        assert torch.equal(images, others) and images.stride() == others.stride()
        assert all(map(torch.equal, target, labels))


def test_preloaded_images_are_indexed_where_they_are(folder, monkeypatch):
    dataset = LaneDataset(registry.list_samples(folder), InputGrid(32, 32), 6, opened(folder))
    dataset.preload(torch.device("cpu"), True)
    dataset.preloaded = tuple(part.to("meta") for part in dataset.preloaded)
    monkeypatch.setattr("preprocessing.loader._Loader", None)  # which would take threads and copies
    batches = list(loader(dataset, [[2], [0, 2]], -1, True))
    assert [len(images) for images, _ in batches] == [1, 2]
    assert {part.device.type for images, target in batches for part in (images, *target)} == {"meta"}


def test_a_damaged_image_shows_when_it_is_preloaded(folder):
    pixels = opened(folder)
    with (pixels.folder / "images.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    dataset = LaneDataset(registry.list_samples(folder), InputGrid(32, 32), 6, opened(folder))
    with pytest.raises(DataError, match="image 2 of the cache is damaged"):
        dataset.preload(torch.device("cpu"), True)


def test_without_a_cache_nothing_is_preloaded(folder):
    dataset = LaneDataset(registry.list_samples(folder), InputGrid(32, 32), 6)
    dataset.preload(torch.device("cpu"), True)
    assert not dataset.preloaded


def test_a_name_of_files_is_that_of_their_real_paths(folder):
    real = cache.files_digest(registry.list_samples(folder))
    link = folder.parent / "linked"
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert cache.files_digest(registry.list_samples(link)) == real
    assert cache.files_digest(list(registry.list_samples(folder))) == real
    (folder.parent / "elsewhere").mkdir()
    target = (folder / "1.png").rename(folder.parent / "elsewhere" / "1.png")
    (folder / "1.png").symlink_to(target)
    linked = cache.files_digest(registry.list_samples(folder))
    assert linked != real
    touch_later(target)
    assert cache.files_digest(registry.list_samples(folder)) != linked


def test_a_file_that_has_gone_is_named(folder):
    samples = registry.list_samples(folder)
    (folder / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: cannot be read"):
        cache.files_digest(samples)
