"""Frames that processes read: those of threads, in order, with errors in their place."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from processes import children, needs_kill, needs_proc
from roads import write_pictures

from geometry.input_grid import InputGrid, RowWarp
from inference import inputs
from inference.frames import READ_CHUNK
from inference.sources import list_sources
from preprocessing.images import preprocess
from runtime.processes import ProcessKilled

pytestmark = pytest.mark.usefixtures("elsewhere")
PREPROCESS = partial(preprocess, grid=InputGrid(32, 16, RowWarp(0.25, 1.8)))


def frames(sources, monkeypatch, count, keep_images=False):
    monkeypatch.setattr(inputs, "processes_for", lambda images: count)
    return inputs.read_frames(sources, PREPROCESS, keep_images, 4, by_processes=True)


@pytest.mark.slow
@pytest.mark.process
def test_processes_and_threads_give_the_same_frames(monkeypatch):
    write_pictures("a", *(f"{i:02}.png" for i in range(2 * READ_CHUNK + 3)))
    Path("a/05.png").write_text("no image")
    sources = list_sources(["a", "absent", "a/01.png"])
    by_threads, by_processes = (list(frames(sources, monkeypatch, count)) for count in (0, 2))
    assert [frame.error for frame in by_threads if frame.error] == [
        by_threads[5].error, "absent: no such image or folder, video or camera"]
    for one, other in zip(by_threads, by_processes, strict=True):
        assert one._replace(pixels=None) == other._replace(pixels=None)
        np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.slow
@pytest.mark.process
@needs_kill
@needs_proc
def test_a_killed_process_ends_the_run_in_one_line(monkeypatch):
    write_pictures("a", "1.png", "2.png")
    reading = frames(list_sources(["a"]) * 500, monkeypatch, 1)
    next(reading)
    for child in children(os.getpid()):
        os.kill(child, signal.SIGKILL)
    with pytest.raises(ProcessKilled, match="a process that reads images was killed"):
        list(reading)


@pytest.mark.parametrize(("count", "keep_images", "world"), [(0, False, 1), (2, True, 1), (2, False, 2)],
                         ids=["few images", "images are kept", "several ranks"])
def test_threads_read_where_processes_do_not_pay(monkeypatch, count, keep_images, world):
    write_pictures("a", "1.png", "2.png")
    monkeypatch.setattr(inputs, "in_processes", lambda *_: pytest.fail("a process was asked for"))
    monkeypatch.setattr(inputs.distributed, "world_size", lambda: world)
    assert len(list(frames(list_sources(["a"]), monkeypatch, count, keep_images))) == 2


@pytest.mark.slow
@pytest.mark.process
def test_what_reads_frames_needs_no_pytorch():
    root = Path(inputs.__file__).parents[1]
    words = [sys.executable, "-c", "import sys, inference.frames; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(words, cwd=root).returncode == 0
