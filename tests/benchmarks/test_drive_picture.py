"""The animation of a drive: its pictures, its size, and what it refuses."""

import drive_picture
import numpy as np
import pytest
from PIL import Image
from refusals import refusal

WORDS = ["--frames", "5", "--width", "160", "--step", "2"]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animation_shows_every_so_many_frames(checkpoint, tmp_path, capsys, suffix):
    path = tmp_path / f"drive{suffix}"
    assert drive_picture.main([str(path), "--checkpoint", str(checkpoint), *WORDS]) == 0
    with Image.open(path) as image:
        assert (image.n_frames, image.size) == (3, (160 + 44, 90)) and image.info["loop"] == 0
        image.seek(1)
        image.load()
        assert image.info["duration"] == 100, "20 frames a second, each second one"
        assert np.ptp(np.asarray(image.convert("RGB"))) > 100
    assert "3 pictures, 0.0" in capsys.readouterr().out


def test_what_is_too_large_or_of_another_kind_is_one_line(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(drive_picture, "MAX_BYTES", 100)
    path = tmp_path / "drive.webp"
    call = [str(path), "--checkpoint", str(checkpoint), *WORDS]
    refusal(lambda: drive_picture.main(call), ValueError, "expected at most 100; lower --frames")
    assert not path.exists()
    refusal(lambda: drive_picture.main(["drive.mp4", "--checkpoint", str(checkpoint)]), ValueError, "ends in .webp")
