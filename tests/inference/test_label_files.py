"""--labels: predictions as label files of labelme, which are a data set to correct and to train on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from roads import json_lines, write_pictures, write_video
from trainings import SHORT

import check_dataset
import train_fixed
from formats.registry import list_samples, read_label
from geometry.bezier import sample_curve
from inference.label_files import TOLERANCE_PX, label_lanes

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_predictions_of_images_and_videos_are_a_data_set(run, capsys):
    write_pictures("in", "a.png", "deep/b.jpg")
    write_video("in/drive.avi", 2, (320, 180))
    _, _, err = run("in", "--labels", "out", "--json", "out.json")
    assert "out: 4 label files; correct them in labelme, then train with data.root=out" in err
    samples = list_samples("out")
    names = ["a.png", "deep/b.jpg", "drive/000001.jpg", "drive/000002.jpg"]
    assert samples.formats() == ["labelme"] and list(samples.names()) == names
    assert Path("out/a.png").read_bytes() == Path("in/a.png").read_bytes()

    predicted = {(record["image"], record.get("frame")): record for record in json_lines("out.json")}
    keys = [("in/a.png", None), ("in/deep/b.jpg", None), ("in/drive.avi", 1), ("in/drive.avi", 2)]
    for sample, key in zip(samples, keys, strict=True):
        label, record = read_label(sample), predicted[key]
        assert label.size_px == tuple(record["size"]) and 0 < len(label.lanes) <= len(record["lanes"])
        curves = [np.array(lane["points_px"]) for lane in record["lanes"]]
        for lane in label.lanes:
            distances = [np.abs(np.interp(lane[:, 1], curve[:, 1], curve[:, 0]) - lane[:, 0]).max() for curve in curves]
            assert min(distances) <= 3, "between the 32 points of the JSON lines"
            assert (lane >= 0).all() and (lane <= label.size_px).all()
    assert check_dataset.main(["out"]) == 0 and "labelme layout, 4 labelled images" in capsys.readouterr().out


def test_images_of_one_name_do_not_overwrite_each_other(run):
    write_pictures(".", "a/20.jpg", "b/20.jpg", "b/20.png")
    run("a", "b", "--labels", "out")
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "20.jpg", "20.json", "20_1.jpg", "20_1.json", "20_2.json", "20_2.png"]
    assert [Path("out", name).read_bytes() for name in ("20.jpg", "20_1.jpg", "20_2.png")] == [
        Path(name).read_bytes() for name in ("a/20.jpg", "b/20.jpg", "b/20.png")]
    assert json.loads(Path("out/20_1.json").read_text())["imagePath"] == "20_1.jpg"


@pytest.mark.parametrize("kind", ["relative", "absolute", "list"])
def test_nothing_is_written_outside_the_folder(run, monkeypatch, kind):
    write_pictures(".", "photos/a.png", "project/photos/a.png")
    write_video("trip.avi", 1, (320, 180))
    Path("project/list.txt").write_text("../photos/a.png\n../trip.avi\n")
    before = {path.absolute(): path.read_bytes() for path in Path().rglob("*.*")}
    monkeypatch.chdir("project")
    inputs = ["../photos/a.png", "../trip.avi"]
    run(*{"list": ["list.txt"], "absolute": [str(Path(name).resolve()) for name in inputs]}.get(kind, inputs),
        "photos/a.png", "--labels", "out")
    after = {path: path.read_bytes() for path in Path("..").resolve().rglob("*.*") if "out" not in path.parts}
    assert after == before
    assert len({sample.image.read_bytes() for sample in list_samples("out")}) == 3


def test_corrected_labels_are_not_overwritten(run):
    write_pictures(".", "a.png")
    run("a.png", "--labels", "out")
    Path("out/a.json").write_text("corrected by hand")
    with pytest.raises(ValueError, match="out: is there and not empty; name a new folder"):
        run("a.png", "--labels", "out")
    assert Path("out/a.json").read_text() == "corrected by hand"


def test_labels_are_not_written_where_images_are_searched(run):
    write_pictures("in", "a.png")
    with pytest.raises(ValueError, match=r"--labels in/new: lies in in, where its images would be read again"):
        run("in", "--labels", "in/new")
    assert [path.name for path in Path("in").iterdir()] == ["a.png"]


def test_an_image_that_cannot_be_read_has_no_label(run):
    write_pictures(".", "a.png")
    Path("b.png").write_bytes(b"no image")
    status, _, err = run("a.png", "b.png", "--labels", "out")
    assert status == 1 and "out: 1 label files" in err[-1]
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.json", "a.png"]


def test_lanes_have_few_points_on_their_curve_and_end_at_the_border():
    t = torch.linspace(0, 1, 6)
    straight = torch.stack((0.2 + 0.5 * t, t), 1)
    leaving = torch.stack((0.4 - 0.8 * t ** 2, 0.3 + 0.7 * t), 1)  # at the left, well above the bottom
    outside = torch.stack((torch.full((6,), 1.5), t), 1)
    lanes = label_lanes(torch.stack((straight, leaving, outside)), (1280, 720))
    assert len(lanes) == 2
    assert lanes[0] == pytest.approx(np.float32([[0.7 * 1280, 720], [0.2 * 1280, 0]]), abs=TOLERANCE_PX)
    assert lanes[1][0, 0] == pytest.approx(0, abs=0.01) and lanes[1][0, 1] < 700 and 3 <= len(lanes[1]) < 20
    assert label_lanes(torch.zeros(0, 6, 2), (1280, 720)) == []


def test_few_points_are_within_a_pixel_of_the_curve():
    x = torch.tensor([0.3, 0.35, 0.45, 0.45, 0.35, 0.3])
    curve = torch.stack((x, torch.linspace(0.3, 1, 6)), 1)
    lane, = label_lanes(curve[None], (1280, 720))
    dense = sample_curve(curve, 200).numpy() * (1280, 720)
    off = np.interp(dense[:, 1], lane[::-1, 1], lane[::-1, 0]) - dense[:, 0]
    assert np.abs(off).max() < 1 and len(lane) < 32


@pytest.mark.slow
def test_a_model_trains_on_corrected_labels(run, capsys):
    """From predictions to label files, a lane moved by hand, and an epoch on them."""
    write_pictures("in", *(f"{i}.png" for i in range(4)))
    run("in", "--labels", "mine")
    record = json.loads(Path("mine/0.json").read_text())
    record["shapes"] = [record["shapes"][0] | {"points": [[40, 89], [75, 40]]}]
    Path("mine/0.json").write_text(json.dumps(record))
    assert read_label(list_samples("mine")[0]).lanes[0].tolist() == [[40, 89], [75, 40]]
    assert train_fixed.main([*SHORT, "data.root=mine", "train.epochs=1", "train.checkpoint_dir=trained"]) == 0
    assert Path("trained/last.pth").is_file()
