"""Frames as they come: read in the background, from videos and cameras, drawn into videos and shown in a window."""

import itertools
import os
import re
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from roads import VideoCapture, film, picture, pictures, video

from inference import inputs, writers
from inference.predictor import LaneDetector
from preprocessing.images import read_image
from runtime.prefetch import prefetch


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, so that no default path meets the repository."""
    monkeypatch.chdir(tmp_path)


# Reading in the background -----------------------------------------------------------------------------------


def test_frames_keep_their_order_and_are_read_only_so_far_ahead(monkeypatch):
    pictures("a", *(f"{i:02}.png" for i in range(20)))
    begun = []

    def counted(path):
        begun.append(path)
        return read_image(path)

    monkeypatch.setattr(inputs, "read_image", counted)
    found = inputs.list_sources(["a"])
    stream = inputs.read_frames(found, lambda image: image, False, 4)
    for number, frame in enumerate(itertools.islice(stream, 10), start=1):
        np.testing.assert_array_equal(frame.pixels, read_image(found[number - 1].path))
        assert frame.image is None and number <= len(begun) <= number + 4
    stream.close()
    assert len(begun) <= 14


class Camera:
    """What OpenCV's reader does with a camera that shows five images and is then unplugged."""

    def __init__(self):
        self.reads = 0

    def open(self, index):
        return index == 0

    def set(self, *_):
        return True

    def get(self, what):
        return {cv2.CAP_PROP_FPS: 30.0}.get(what, -1.0)

    def read(self):
        self.reads += 1
        return (True, picture(self.reads)[..., ::-1].copy()) if self.reads <= 5 else (False, None)

    def release(self):
        pass


def test_a_camera_is_asked_only_when_its_image_is_wanted(monkeypatch, run):
    camera = Camera()
    monkeypatch.setattr(cv2, "VideoCapture", lambda: camera)
    stream = inputs.read_frames(inputs.list_sources(["0"]), lambda image: image, True, 8)
    for number, batch in enumerate(itertools.islice(inputs.batches(stream, 16), 3), start=1):
        assert [frame.name for frame in batch] == [f"camera 0 frame {number}"] and camera.reads == number
        np.testing.assert_array_equal(batch[0].image, picture(number))
    stream.close()
    camera.reads = 0
    status, out, err = run("0")
    assert status == 1 and err == ["error: camera 0: breaks off after frame 5"]
    assert [line for line in out if line.startswith("camera")] == [f"camera 0 frame {i}" for i in range(1, 6)]


def test_frames_of_files_come_in_batches():
    pictures("a", *(f"{i}.png" for i in range(5)))
    video("a/z.avi", 4)
    stream = inputs.read_frames(inputs.list_sources(["a"]), lambda image: image, False, 2)
    assert [[frame.index for frame in batch] for batch in inputs.batches(stream, 4)] == [[1] * 4, [1, 1, 2, 3], [4]]


# Annotated videos --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_px", [(160, 96), (320, 180)])
def test_a_video_becomes_an_annotated_video(run, size_px):
    video("drive.avi", 10, size_px)
    _, images = film("drive.avi")
    status, _, err = run("drive.avi", "--save-images", "out", "--threshold", "0")
    assert status == 0 and len(err) == 1
    assert re.fullmatch(rf"{Path('out/00001_drive.mp4')}: 10 frames in \d+\.\d s, \d+\.\d frames/s", err[0])
    assert [path.name for path in Path("out").iterdir()] == ["00001_drive.mp4"]
    fps, drawn = film("out/00001_drive.mp4")
    assert fps == pytest.approx(12.5) and len(drawn) == 10
    assert {image.shape[1::-1] for image in drawn} == {size_px}
    plain = [np.abs(a.astype(int) - b).max(-1) > 60 for a, b in zip(images, drawn, strict=True)]
    assert all(0.01 < changed.mean() < 0.7 for changed in plain), "lanes are drawn on each, and only lanes"


def test_two_videos_and_images_between_them_are_kept_apart(run):
    video("a.avi", 3)
    video("b.avi", 4, (320, 180))
    pictures(".", "c.png")
    run("a.avi", "c.png", "b.avi", "a.avi", "--save-images", "out")
    assert {path.name: len(film(path)[1]) for path in Path("out").iterdir()} == {
        "00001_a.mp4": 3, "00004_c.jpg": 1, "00005_b.mp4": 4, "00009_a.mp4": 3}


def test_an_interrupted_run_leaves_nothing_half_written(run, monkeypatch):
    video("drive.avi", 30)
    calls, answers = [], LaneDetector.answers

    def interrupted(self, pixels):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return answers(self, pixels)

    monkeypatch.setattr(LaneDetector, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("drive.avi", "--save-images", "out", "--json", "a.json", "--tusimple", "b.json", "--sheet", "c.png")
    assert len(calls) == 3 and list(Path("out").iterdir()) == []
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["drive.avi"]


def test_a_camera_is_ended_by_an_interrupt_and_its_video_kept(run, monkeypatch):
    camera = Camera()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *name: VideoCapture(*name) if name else camera)
    answers = LaneDetector.answers

    def interrupted(self, pixels):
        if camera.reads == 4 and not stopped:
            stopped.append(os.kill(os.getpid(), signal.SIGINT))
        return answers(self, pixels)

    stopped = []
    monkeypatch.setattr(LaneDetector, "answers", interrupted)
    status, out, err = run("0", "--save-images", "out")
    assert status == 0 and "camera 0 frame 4" in out and "camera 0 frame 5" not in out
    assert len(err) == 1 and len(film("out/00001_camera0.mp4")[1]) == 4


def test_a_video_that_cannot_be_written_is_an_error_and_leaves_nothing(run, monkeypatch):
    video("drive.avi", 6)
    monkeypatch.setattr(writers.VideoWriter, "write", lambda self, image: setattr(self, "frames", self.frames + 1))
    with pytest.raises(OSError, match=r"00001_drive\.mp4: only 0 of 6 frames could be written"):
        run("drive.avi", "--save-images", "out")
    assert list(Path("out").iterdir()) == []


# A window ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there may be a display whatever the environment says")
def test_without_a_display_the_rest_goes_on(run, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    pictures(".", "a.png", "b.png")
    status, out, err = run("a.png", "b.png", "--show")
    assert status == 0 and "a.png" in out
    assert len(err) == 1 and err[0].startswith("--show: no display here")


@pytest.mark.parametrize(("key", "seen"), [(ord(" "), 3), (ord("q"), 1), (27, 1)])
def test_a_window_shows_each_image_until_a_key_is_pressed(run, monkeypatch, key, seen):
    pictures("a", "1.png", "2.png", "3.png")
    shown, keys = [], itertools.cycle([-1, key])
    monkeypatch.setattr(writers, "can_show", lambda: True)
    for name in ("namedWindow", "resizeWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    status, _, err = run("a", "--show", "--threshold", "1", "inference.batch_size=1")
    assert (status, err) == (0, [])
    assert len(shown) == seen
    np.testing.assert_array_equal(shown[0], picture(0)[..., ::-1])


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_who_reads_lets_the_network_go_first():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = list(prefetch([lambda: os.getpriority(os.PRIO_PROCESS, 0)] * 5, 2, 3, low_priority=True))
    assert found == [min(19, before + 10)] * 5 and os.getpriority(os.PRIO_PROCESS, 0) == before
