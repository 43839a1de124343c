"""OpenLane: its 2-D lanes, without curbsides."""

import shutil

import pytest
from layouts import LANES, label_error, openlane

from formats import registry, splits


def test_lanes_without_curbsides(tmp_path):
    samples = registry.list_samples(openlane(tmp_path))
    assert [sample.name for sample in samples] == ["training/segment-1/1.jpg", "validation/segment-1/1.jpg"]
    label = registry.read_label(samples[0])
    assert [lane.tolist() for lane in label.lanes] == [[list(map(float, p)) for p in lane] for lane in LANES]
    assert label.left_out == ("right curbside",)
    train, val = splits.split(samples, "auto")
    assert len(train) == len(val) == 1 and val.name(0).startswith("validation/")


def test_the_larger_set_is_taken(tmp_path):
    root = openlane(tmp_path)
    shutil.copytree(root / "lane3d_300", root / "lane3d_1000")
    assert {sample.label.relative_to(root).parts[0] for sample in registry.list_samples(root)} == {"lane3d_1000"}


@pytest.mark.parametrize(("content", "message"), [
    ("{}", "'lane_lines' is not a list"), ('{"lane_lines": [3]}', "lane 1 has no uv"),
    ('{"lane_lines": [{"uv": [[1], [1, 2]]}]}', "uv has 1 x but 2 y"),
    ('{"lane_lines": [{"uv": [["a"], [1]]}]}', "not a number")])
def test_a_broken_file_is_named(tmp_path, content, message):
    (openlane(tmp_path) / "lane3d_300" / "training" / "segment-1" / "1.json").write_text(content)
    error = label_error(tmp_path)
    assert "1.json" in error and message in error


def test_a_missing_image_is_named(tmp_path):
    (openlane(tmp_path) / "images" / "training" / "segment-1" / "1.jpg").unlink()
    assert "1.json: its image" in label_error(tmp_path)
