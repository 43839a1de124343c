"""Videos: what a reader makes of a container's numbers, and annotated videos, written whole or not at all."""

import math
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from roads import Camera, VideoCapture, read_video, write_pictures, write_video

from inference.predictor import Predictor
from inference.video import DEFAULT_FPS, VideoReader, video_writer

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_reader_gives_the_images_and_then_none():
    write_video("drive.avi", 3)
    reader, (fps, expected) = VideoReader(Path("drive.avi")), read_video("drive.avi")
    assert (reader.frames, reader.fps) == (3, fps)
    for image in expected:
        np.testing.assert_array_equal(reader.read(), image)
    assert reader.read() is None
    reader.close()


def test_a_time_lapse_has_its_own_rate(tmp_path):
    path = tmp_path / "slow.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 0.5, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert VideoReader(path).fps == pytest.approx(0.5)


@pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf, 1e12])
def test_numbers_that_make_no_sense_are_unknown(monkeypatch, value):
    camera = Camera()
    monkeypatch.setattr(camera, "get", lambda _: value)
    monkeypatch.setattr(cv2, "VideoCapture", lambda: camera)
    reader = VideoReader(0)
    assert (reader.frames, reader.fps) == (None, DEFAULT_FPS)


@pytest.mark.parametrize("size_px", [(160, 96), (320, 180)])
def test_a_video_becomes_an_annotated_video(run, size_px):
    write_video("drive.avi", 10, size_px)
    _, images = read_video("drive.avi")
    status, _, err = run("drive.avi", "--save-images", "out", "--threshold", "0")
    assert status == 0 and len(err) == 1
    assert re.fullmatch(rf"{Path('out/00001_drive.mp4')}: 10 frames in \d+\.\d s, \d+\.\d frames/s", err[0])
    assert [path.name for path in Path("out").iterdir()] == ["00001_drive.mp4"]
    fps, drawn = read_video("out/00001_drive.mp4")
    assert fps == pytest.approx(12.5) and len(drawn) == 10
    assert {image.shape[1::-1] for image in drawn} == {size_px}
    changes = [np.abs(a.astype(int) - b).max(-1) > 60 for a, b in zip(images[:5], drawn[:5], strict=True)]
    assert all(0.01 < changed.mean() < 0.7 for changed in changes), "lanes are drawn on each, and only lanes"


def test_a_video_of_odd_size_loses_no_pixel():
    image = np.zeros((97, 161, 3), np.uint8)
    image[-9:], image[:, -9:] = (255, 0, 0), (0, 0, 255)
    with video_writer(Path("odd.mp4"), 12.5, (161, 97), 0.0) as append:
        append(image)
    _, (written,) = read_video("odd.mp4")
    assert written.shape == (98, 162, 3)
    assert np.abs(written[:97, :161].astype(int) - image).mean() < 10
    assert written[50, -1, 2] > 200 and written[-1, 50, 0] > 200


def test_two_videos_and_images_between_them_are_kept_apart(run):
    write_video("a.avi", 3)
    write_video("b.avi", 4, (320, 180))
    write_pictures(".", "c.png")
    run("a.avi", "c.png", "b.avi", "a.avi", "--save-images", "out")
    assert {path.name: len(read_video(path)[1]) for path in Path("out").iterdir()} == {
        "00001_a.mp4": 3, "00004_c.jpg": 1, "00005_b.mp4": 4, "00009_a.mp4": 3}


def test_a_camera_is_ended_by_an_interrupt_and_its_video_kept(run, monkeypatch):
    camera, sent, detect = Camera(), [], Predictor.detect
    monkeypatch.setattr(cv2, "VideoCapture", lambda *name: VideoCapture(*name) if name else camera)

    def interrupted(self, pixels):
        if camera.reads == 4 and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        return detect(self, pixels)

    monkeypatch.setattr(Predictor, "detect", interrupted)
    status, out, err = run("0", "--save-images", "out")
    assert status == 0 and "camera 0 frame 4" in out and "camera 0 frame 5" not in out
    assert len(err) == 1 and len(read_video("out/00001_camera0.mp4")[1]) == 4


def test_a_full_disk_is_an_error_and_leaves_nothing(run, monkeypatch):
    write_video("drive.avi", 6)
    original = cv2.VideoWriter

    def full_disk(*arguments):
        writer = original(*arguments)
        return SimpleNamespace(isOpened=writer.isOpened, write=lambda image: None, release=writer.release)

    monkeypatch.setattr(cv2, "VideoWriter", full_disk)
    with pytest.raises(OSError, match=r"00001_drive\.mp4: only 0 of 6 frames could be written"):
        run("drive.avi", "--save-images", "out")
    assert list(Path("out").iterdir()) == []


def test_a_video_that_cannot_be_opened_is_an_error_and_leaves_nothing():
    with (pytest.raises(OSError, match=r"out\.mp4: OpenCV cannot write this video"),
          video_writer(Path("out.mp4"), 25.0, (0, 0), 0.0)):
        raise AssertionError("the block does not begin")
    assert list(Path().iterdir()) == []
