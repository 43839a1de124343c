"""CurveLanes: its parts with their lists, and its labels with numbers as text."""

import pytest
from layouts import curvelanes, label_error

from formats import registry, splits


def test_parts_are_listed_with_and_without_their_lists(tmp_path):
    samples = registry.list_samples(curvelanes(tmp_path))
    assert [sample.name for sample in samples] == ["train/images/x.jpg", "valid/images/x.jpg"]
    assert registry.read_label(samples[0]).lanes[0].tolist() == [[100, 170.5], [140, 120.5], [170, 80.5]]
    train, val = splits.split(samples, "auto")
    assert list(train.names()) == ["train/images/x.jpg"] and list(val.names()) == ["valid/images/x.jpg"]
    assert registry.detect(tmp_path / "valid") == "curvelanes"
    assert len(registry.list_samples(tmp_path / "valid")) == 1, "one part alone"
    (tmp_path / "train" / "train.txt").unlink()
    assert len(registry.list_samples(tmp_path)) == 2, "without its list"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"Lines": 3}', '{"Lines": [3]}', '{"Lines": [[{"x": "1"}]]}',
                                     '{"Lines": [[{"x": "1", "y": "nan"}]]}', '{"Lines": [[{"x": "1", "y": "?"}]]}'])
def test_broken_label_is_named(tmp_path, content):
    (curvelanes(tmp_path) / "train" / "labels" / "x.lines.json").write_text(content)
    assert "x.lines.json" in label_error(tmp_path)


def test_missing_label_and_empty_list_are_named(tmp_path):
    root = curvelanes(tmp_path)
    (root / "train" / "labels" / "x.lines.json").unlink()
    assert "train.txt:1: the label" in label_error(root)
    (root / "train" / "train.txt").write_text("\n")
    assert "train.txt: the list is empty" in label_error(root)
