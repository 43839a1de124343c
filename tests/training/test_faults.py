"""Damage: full disks, read-only folders, flipped bits. One clear line, nothing lost."""

import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from config import Config, TrainConfig, load_config
from dataset import LaneDataset
from formats import registry
from formats.base import DataError
from geometry.input_grid import InputGrid
from preprocessing import cache
from renderer import dataset_writer
from runtime import checkpoint, cli
from runtime.checkpoint import CheckpointError
from training.run_dir import RunDir, TrainingError
from training.state import TrainProgress, build_state, load_last, restore, to_payload

SMALL = {"a.weight": torch.arange(600.0).reshape(20, 30), "b": torch.arange(7)}


@contextlib.contextmanager
def largest_file(limit):
    """No file may grow beyond so many bytes, as on a full disk: the write fails in the operating system."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def read_only():
    """A folder that this process may read but not write, even as root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def open_cache(images, slots=6):
    return cache.open_cache(registry.list_samples(images), InputGrid(32, 32), slots, images.parent / "cache", 1.0)


def run_dir(folder):
    return RunDir(Config(train=TrainConfig(checkpoint_dir=str(folder))))


def one_line(call, error, *words):
    """The message of the error that the call raises: one line with these words."""
    with pytest.raises(error) as caught:
        call()
    message = cli._one_line(caught.value)
    assert "\n" not in message and len(message) < 1500
    assert all(word in message for word in words), message
    return message


# Disks -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_earlier_checkpoints_are_intact(tmp_path):
    path = tmp_path / "last.pth"
    checkpoint.save_checkpoint(path, Config(), model=SMALL)
    before = path.read_bytes()
    with largest_file(len(before) - 1):
        one_line(lambda: checkpoint.save_checkpoint(path, Config(), model=SMALL), CheckpointError, str(path),
                 "cannot be written (File too large)", "--resume")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_by_everything_else_that_writes(tmp_path, images):
    run = run_dir(tmp_path)
    run.append_log({"epoch": 1, "loss": 0.5})
    before = run.log.read_bytes()
    with largest_file(20):
        one_line(lambda: run.append_log({"epoch": 2, "loss": 0.25}), TrainingError, str(run.log), "too large")
    assert run.log.read_bytes() == before
    with largest_file(5000):
        one_line(lambda: open_cache(images), DataError, str(tmp_path / "cache"), "too large", "data.cache_dir")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
    with largest_file(1000):
        one_line(lambda: dataset_writer.write_dataset(tmp_path / "scenes", 2, 1, 0, 96, 64, workers=1), OSError,
                 str(tmp_path / "scenes" / "clips"), "too large")
    assert open_cache(images) is not None
    dataset_writer.write_dataset(tmp_path / "scenes", 2, 1, 0, 96, 64, workers=1)
    assert dataset_writer.is_complete(tmp_path / "scenes", 2, 1, 0, 96, 64)


def test_a_cache_that_cannot_fit_on_the_disk_is_not_begun(images, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5000, 5000))
    one_line(lambda: open_cache(images), DataError, "MB needed, 0 MB free)", "data.cache=false")
    monkeypatch.undo()
    open_cache(images)
    folder, = (path.parent for path in (images.parent / "cache").glob("*/meta.json"))
    with (folder / "images.npy").open("ab") as file:
        file.write(bytes(3_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5000, 5000))
    one_line(lambda: open_cache(images, slots=5), DataError, "3 MB there are caches of other images or sizes")


def test_a_folder_that_cannot_be_written_is_named(read_only):
    one_line(lambda: run_dir(read_only), TrainingError, str(read_only), "train.checkpoint_dir")
    one_line(lambda: checkpoint.save_checkpoint(read_only / "last.pth", Config()), CheckpointError,
             "Permission denied")
    one_line(lambda: dataset_writer.write_dataset(read_only, 1, 1, 0, workers=1), OSError, str(read_only), "denied")
    one_line(lambda: cache.open_cache([], InputGrid(32, 32), 6, read_only, 1.0), DataError, str(read_only),
             "data.cache_dir")


def test_a_damaged_log_is_named(tmp_path):
    run = run_dir(tmp_path)
    for content in ("{", "[1]\n", "3\n", "\xff"):
        run.log.write_text(content, encoding="latin-1")
        one_line(lambda: run.append_log({"epoch": 2}), TrainingError, f"{run.log}: damaged", "--resume")
        assert run.log.read_text(encoding="latin-1") == content


# Checkpoints -------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_refused_or_harmless(tmp_path):
    path = tmp_path / "best_model.pth"
    checkpoint.save_checkpoint(path, Config(), model=SMALL, scores={"f1": 0.5})
    original, whole = path.read_bytes(), checkpoint.load_checkpoint(path)
    rng, refused = random.Random(0), 0
    for bit in (rng.randrange(8 * len(original)) for _ in range(500)):
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            payload = checkpoint.load_checkpoint(path)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
        else:  # padding and dates, which nothing reads
            assert payload["config"] == whole["config"] and payload["scores"] == whole["scores"]
            assert all(torch.equal(payload["model"][name], SMALL[name]) for name in SMALL)
    assert refused > 250


def test_a_bit_among_the_weights_is_named_as_damage(tmp_path):
    path = tmp_path / "best_model.pth"
    checkpoint.save_checkpoint(path, Config(), model=SMALL)
    data = bytearray(path.read_bytes())
    data[data.index(SMALL["a.weight"].numpy().tobytes()) + 1000] ^= 4
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["model"]["a.weight"].shape == (20, 30), "PyTorch alone does not notice"
    one_line(lambda: checkpoint.load_checkpoint(path), CheckpointError, "damaged: the checksum of its part", "data/0")


def test_a_structure_that_holds_itself_a_billion_times_is_read_once(tmp_path):
    knot, bomb = [1], [1]
    knot.append(knot)
    for _ in range(60):
        bomb = [bomb, bomb]
    for content in (knot, bomb, {"config": bomb, "format": checkpoint.FORMAT, "version": 1},
                    {"config": {"data": {"root": bomb}}, "format": checkpoint.FORMAT, "version": 1}):
        torch.save(content, tmp_path / "a.pth")
        one_line(lambda: checkpoint.load_checkpoint(tmp_path / "a.pth"), ValueError, "a.pth")


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    """The configuration of a run, its state, what it saves of it, and where; it is resumed from there."""
    config, path = load_config(None, ["model.width=64", "model.height=64"]), tmp_path_factory.mktemp("run") / "last.pth"
    state = build_state(checkpoint.build_model(config), config, 10, torch.device("cpu"), torch.float32)
    payload = to_payload(state, TrainProgress(epoch=2))
    checkpoint.save_checkpoint(path, config, **payload)
    assert restore(state, load_last(path, config), path).epoch == 2
    return config, state, payload, path


@pytest.mark.parametrize("change", [
    {"progress": None}, {"progress": {"epoch": "x"}}, {"progress": {"best": 3}}, {"optimizer": {}},
    {"progress": {"speed": 1}}, {"optimizer": {"param_groups": [3], "state": 1}}, {"schedule": []}, {"scaler": {}},
    {"ema": 3}, {"model": {3: 4}}, {"model": None}], ids=str)
def test_a_run_with_parts_of_another_shape_is_not_resumed(saved_run, change):
    config, state, payload, path = saved_run
    assert payload.keys() >= change.keys()
    checkpoint.save_checkpoint(path, config, **(payload | change))
    one_line(lambda: restore(state, load_last(path, config), path), CheckpointError, str(path))


# The cache ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in cache.FILES), "meta.json"])
def test_every_flipped_bit_of_a_cache_is_noticed(images, name, capsys):
    whole = open_cache(images)
    expected, counts = [np.array(a) for a in whole[:5]], whole[5:7]
    path = whole.folder / name
    original, rng = path.read_bytes(), random.Random(0)
    for bit in (rng.randrange(8 * len(original)) for _ in range(15)):
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        pixels = open_cache(images)  # built again, or, for what lies in an image, opened
        try:
            pixels.batch(list(range(7)))
        except DataError as error:
            assert name == "images.npy" and "delete this folder" in str(error) and str(whole.folder) in str(error)
            path.write_bytes(original)
        else:
            assert all(np.array_equal(a, b) for a, b in zip(expected, pixels[:5], strict=True))
            assert pixels[5:7] == counts
            assert "is damaged; it is built again" in capsys.readouterr().err or name == "images.npy"


def test_an_image_is_checked_when_it_is_first_read(images):
    pixels = open_cache(images)
    data = LaneDataset(registry.list_samples(images), InputGrid(32, 32), 6, pixels)
    path = pixels.folder / "images.npy"
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x07")  # the last byte of the last image
    assert data[[5, 0]][0].shape == (2, 3, 32, 32)
    one_line(lambda: data[[0, 6]], DataError, "image 6 of the cache is damaged", str(pixels.folder))
