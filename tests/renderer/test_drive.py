"""Drives: a world that stays where it is while the camera moves, and lines that keep their number."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest

from formats import registry
from formats.base import DataError
from renderer import drive_writer, rendered_folder
from renderer.drive import FPS, NIGHT, RoadObject, Wave, _draw_objects, render_frame, sample_drive
from renderer.vehicles import draw_vehicle

FRAMES, WIDTH, HEIGHT = 60, 160, 90


@pytest.fixture(scope="module")
def drive():
    """A drive that changes lanes."""
    return sample_drive(0, 0, FRAMES, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("drives")
    drive_writer.write_drives(root, 2, 4, seed=5, width=WIDTH, height=HEIGHT, workers=1)
    return root


def test_a_frame_is_the_same_however_it_is_made(drive):
    again = sample_drive(0, 0, FRAMES, WIDTH, HEIGHT)
    for index in (0, 7):
        a, b = render_frame(drive, index), render_frame(again, index)
        assert (a.image == b.image).all() and a.lane_ids == b.lane_ids
        assert all((x == y).all() for x, y in zip(a.lanes, b.lanes, strict=True))
    assert (render_frame(drive, 1).image != render_frame(drive, 0).image).any()


def test_lanes_come_left_to_right_and_move_little(drive):
    before = {}
    for index in range(8):
        frame = render_frame(drive, index)
        assert frame.lane_ids == sorted(frame.lane_ids) and len(frame.lane_ids) == len(frame.lanes) > 1
        bottom = {number: lane[-1] for number, lane in zip(frame.lane_ids, frame.lanes, strict=True)}
        for number in bottom.keys() & before.keys():
            assert np.abs(bottom[number] - before[number]).max() < 0.06 * WIDTH
        before = bottom


def test_paint_stays_where_it_is_on_the_road(drive):
    for seconds in (0.0, 0.7, 2.0):
        travelled, lateral = drive.speed * seconds, drive.lateral(seconds)
        for line, now in zip(drive.road.lines, drive.road_at(seconds).lines, strict=True):
            assert now.dash_phase - travelled == pytest.approx(line.dash_phase)
            assert now.offset + lateral == pytest.approx(line.offset)


def test_a_lane_change_ends_in_the_lane_beside(drive):
    start, end = drive.lateral(0), drive.lateral(drive.change_start + drive.change_s)
    assert start == 0 and abs(drive.change_m) > 2
    assert end == pytest.approx(drive.change_m, abs=0.5)  # give or take the wandering in a lane
    assert sample_drive(0, 2, FRAMES, WIDTH, HEIGHT).change_m == 0


def test_a_short_drive_stays_in_its_lane():
    assert all(sample_drive(0, index, 20, WIDTH, HEIGHT).change_m == 0 for index in range(6))


def test_the_camera_heads_where_it_goes(drive):
    middle = drive.change_start + drive.change_s / 2
    heading = drive.camera.yaw - drive.camera_at(middle).yaw
    assert heading == pytest.approx((drive.lateral(middle + 0.01) - drive.lateral(middle - 0.01)) / 0.02 / drive.speed,
                                    rel=0.05)


def test_every_fourth_drive_is_at_night():
    assert [sample_drive(3, index, 10, WIDTH, HEIGHT).weather.night for index in range(4)] == [
        index == NIGHT for index in range(4)]


def test_a_waves_rate_and_integral_are_its_own():
    wave, step = Wave(0.3, 2.0, 5.0, 1.0), 1e-4
    assert wave.rate(7.0) == pytest.approx((wave.value(7 + step) - wave.value(7 - step)) / (2 * step), abs=1e-6)
    assert (wave.integral(7 + step) - wave.integral(7 - step)) / (2 * step) == pytest.approx(wave.value(7.0), abs=1e-6)
    assert wave.integral(0.0) == 0


# Files -------------------------------------------------------------------------------------------------------


def test_a_folder_of_drives_is_a_data_set_with_a_label_of_every_frame(folder):
    samples = registry.list_samples(folder)
    assert [sample.name for sample in samples][:5] == [
        *(f"clips/drive_000/{i:06}.jpg" for i in (1, 2, 3, 4)), "clips/drive_001/000001.jpg"]
    labels = [registry.read_label(sample) for sample in samples]
    assert all(len(label.lane_ids) == len(label.lanes) for label in labels) and len(labels) == 8
    assert any(label.lane_ids for label in labels)
    request = json.loads((folder / "drives.json").read_text())
    assert request["fps"] == FPS and request["drives"] == 2 and not list(folder.rglob("*.txt"))


def test_drives_are_rendered_once_and_anew_for_another_request(folder, tmp_path):
    before = (folder / "test_label.json").stat().st_mtime_ns
    drive_writer.write_drives(folder, 2, 4, seed=5, width=WIDTH, height=HEIGHT)
    assert (folder / "test_label.json").stat().st_mtime_ns == before
    drive_writer.write_drives(tmp_path, 1, 4, seed=5, width=WIDTH, height=HEIGHT)
    drive_writer.write_drives(tmp_path, 1, 3, seed=5, width=WIDTH, height=HEIGHT)
    assert len(list((tmp_path / "clips").rglob("*.jpg"))) == 3


def test_what_is_replaced_is_named_and_what_is_of_others_stays(tmp_path, capsys):
    drive_writer.write_drives(tmp_path, 1, 3, seed=5, width=WIDTH, height=HEIGHT)
    others = [tmp_path / "clips" / name for name in ("synthetic/20.jpg", "drive_home/my.mp4", "drive_000.mp4")]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"precious")
    drive_writer.write_drives(tmp_path, 1, 4, seed=6, width=WIDTH, height=HEIGHT)
    assert "rendered anew, in place of what is there (frames 3 -> 4, seed 5 -> 6)" in capsys.readouterr().err
    assert all(other.read_bytes() == b"precious" for other in others)


def test_a_lost_frame_is_noticed(tmp_path):
    request = (tmp_path, 1, 3, 5, WIDTH, HEIGHT, 1)
    drive_writer.write_drives(*request)
    lost = tmp_path / "clips" / "drive_000" / "000002.jpg"
    content = lost.read_bytes()
    lost.unlink()
    drive_writer.write_drives(*request)
    assert lost.read_bytes() == content


def test_of_two_processes_one_renders_the_drives(tmp_path, monkeypatch):
    """The other one waits for the lock, and finds the work done."""
    request = (tmp_path, 1, 3, 5, WIDTH, HEIGHT, 1)

    @contextlib.contextmanager
    def lock(root, work):
        monkeypatch.undo()
        drive_writer.write_drives(*request)
        monkeypatch.setattr(drive_writer, "render_frame", None)
        yield

    monkeypatch.setattr(rendered_folder, "lock", lock)
    drive_writer.write_drives(*request)
    assert len(list((tmp_path / "clips").rglob("*.jpg"))) == 3


def test_a_vehicle_that_overtakes_comes_into_view_bit_by_bit():
    """A car of 7 m/s more in the lane beside, from behind the camera: a share of it more with every frame."""
    drive = sample_drive(0, 0, 80, 320, 180)
    car = RoadObject(-12.0, drive.speed + 7, draw_vehicle, drive.lateral(0) + 3.5)
    pixels = []
    for seconds in np.arange(70) / FPS:
        without, image = (np.full((180, 320, 3), 90, np.uint8) for _ in range(2))
        for objects, canvas in (((), without), ((car,), image)):
            _draw_objects(replace(drive, objects=objects), canvas, drive.camera_at(seconds), drive.road_at(seconds),
                          seconds)
        pixels.append(int((image != without).any(-1).sum()))
    assert pixels[0] == 0 and max(pixels) > 500
    assert max(np.abs(np.diff(pixels))) < 0.35 * max(pixels)


@pytest.mark.parametrize("name", ["label_data_train.json", "clips/highway.mp4", "drives.json"])
def test_another_data_set_is_left_alone(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="holds another data set"):
        drive_writer.write_drives(tmp_path, 1, 3, 0, WIDTH, HEIGHT)
    assert path.read_text() == "{}\n"


def test_drives_that_were_cut_short_are_rendered_anew(tmp_path, monkeypatch):
    def render(*arguments):
        raise KeyboardInterrupt

    request = (tmp_path, 1, 3, 5, WIDTH, HEIGHT, 1)
    with monkeypatch.context() as patch:
        patch.setattr(drive_writer, "render_frame", render)
        with pytest.raises(KeyboardInterrupt):
            drive_writer.write_drives(*request)
    drive_writer.write_drives(*request)
    assert len(list((tmp_path / "clips").rglob("*.jpg"))) == 3


@pytest.mark.parametrize("request_", [(0, 9, 0, 160, 90), (1, 2, 0, 160, 90), (1, 9, -1, 160, 90), (1, 9, 0, 10, 90)])
def test_impossible_numbers_are_refused(request_):
    with pytest.raises(ValueError, match=r"is -?\d+, expected at least \d+"):
        drive_writer.drive_manifest(*request_)


@pytest.mark.parametrize("ids", [[1], [1, 1], ["a", "b"], [True, False], 7])
def test_wrong_lane_ids_are_named(tmp_path, ids):
    record = {"raw_file": "a.jpg", "lanes": [[1, 2], [3, 4]], "h_samples": [10, 20], "lane_ids": ids}
    (tmp_path / "test_label.json").write_text(json.dumps(record) + "\n")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"test_label\.json:1: .*lane_ids"):
        registry.list_samples(tmp_path)
