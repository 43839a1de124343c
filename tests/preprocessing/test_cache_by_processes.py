"""The cache as processes fill it: the same to the bit, and nothing left where one of them fails."""

import os
import signal

import cv2
import numpy as np
import pytest
from processes import children, finish, is_alive, needs_kill, needs_proc, start, until

from formats import registry
from formats.base import DataError
from geometry.input_grid import InputGrid
from preprocessing import cache, unreadable

GRID = InputGrid(32, 32)
SCRIPT = """
import signal
import sys
from pathlib import Path
from formats import registry
from geometry.input_grid import InputGrid
from preprocessing import cache
from runtime import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
cache.processes_for, cache.FIT_CHUNK = lambda images: 2, 8
samples = list(registry.list_samples(sys.argv[1])) * 3000
cli.run(lambda: cache.open_cache(samples, InputGrid(320, 160), 6, Path(sys.argv[1]).parent / "cache", 10.0) and None)
"""


@pytest.fixture
def folder(images):
    """Eleven images of noise, with up to two lanes each."""
    rng = np.random.default_rng(0)
    for i in range(11):
        cv2.imwrite(str(images / f"{i}.png"), rng.integers(0, 256, (36, 64, 3), np.uint8))
        (images / f"{i}.lines.txt").write_text(f"{20 + i} 35 25 25 {30 + i} 15\n" * (i % 3))
    return images


def opened(folder, monkeypatch, count, name="cache"):
    monkeypatch.setattr(cache, "processes_for", lambda images: count)
    monkeypatch.setattr(cache, "FIT_CHUNK", 4)
    return cache.open_cache(registry.list_samples(folder), GRID, 6, folder.parent / name, 1.0)


@pytest.mark.slow
@pytest.mark.process
def test_processes_and_threads_write_the_same_files(folder, monkeypatch):
    paths = [opened(folder, monkeypatch, count, name).folder for count, name in ((0, "a"), (2, "b"))]
    for name in (*(f"{name}.npy" for name in cache.FILES), "meta.json"):
        one, other = ((path / name).read_bytes() for path in paths)
        assert one == other and one, name


@pytest.mark.slow
@pytest.mark.process
def test_the_first_broken_image_is_named_and_no_half_cache_stays(folder, monkeypatch):
    for number in (5, 9):
        (folder / f"{number}.png").write_bytes(b"no image")
    first = min(("5.png", "9.png"), key=list(registry.list_samples(folder).names()).index)
    with pytest.raises(DataError, match=rf"{first}: not an image"):
        opened(folder, monkeypatch, 2)
    assert [path.name for path in (folder.parent / "cache").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.process
def test_a_full_disk_is_one_line_as_threads_say_it(folder, monkeypatch):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # processes inherit it
    try:
        errors = []
        for count in (0, 2):
            with pytest.raises(DataError, match=r"cannot be written \(File too large\).*data\.cache_dir") as caught:
                opened(folder, monkeypatch, count)
            errors.append(str(caught.value))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert errors[0] == errors[1]
    assert [path.name for path in (folder.parent / "cache").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.process
def test_what_cannot_be_read_is_the_same_by_processes(folder, monkeypatch):
    (folder / "5.png").write_bytes(b"no image")
    (folder / "7.lines.txt").write_text("1 2 3\n")
    samples, found = registry.list_samples(folder), []
    monkeypatch.setattr(unreadable, "CHUNK", 3)
    for count in (0, 2):
        monkeypatch.setattr(unreadable, "processes_for", lambda images, count=count: count)
        found.append(unreadable.unreadable(samples, None))
    assert found[0] == found[1] and len(found[0]) == 2


def filling(folder):
    """A script whose two processes are filling a cache of 33,000 images, and their ids."""
    run = start("-c", SCRIPT, folder)
    workers = until(lambda: len(ids := children(run.pid)) == 2 and ids)
    until(lambda: any(path.stat().st_size > 10_000 for path in folder.parent.glob("cache/building-*/images.npy")))
    return run, workers


@pytest.mark.slow
@pytest.mark.process
@needs_proc
@needs_kill
def test_a_killed_process_is_one_line(folder):
    run, workers = filling(folder)
    os.kill(workers[0], signal.SIGKILL)
    assert finish(run) == (1, ["error: a process that reads images was killed (no memory left?); close other programs "
                               "and start again"])
    assert [path.name for path in (folder.parent / "cache").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.process
@needs_proc
@needs_kill
def test_ctrl_c_ends_all_at_once_and_leaves_no_half_cache(folder):
    run, workers = filling(folder)
    os.killpg(run.pid, signal.SIGINT)
    assert finish(run, 10) == (130, [])
    assert not any(map(is_alive, workers))
    assert [path.name for path in (folder.parent / "cache").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.process
@needs_proc
@needs_kill
def test_processes_end_with_a_script_that_is_killed(folder):
    run, workers = filling(folder)
    run.kill()
    finish(run)
    assert until(lambda: not any(map(is_alive, workers)), 10)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("module", ["preprocessing.chunks", "renderer.drive_writer"])
def test_what_a_process_imports_needs_no_pytorch(module):
    run = start("-c", f"import sys, {module}\nassert 'torch' not in sys.modules")
    assert finish(run) == (0, [])
