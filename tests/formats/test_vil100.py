"""VIL-100: a JSON file a frame, and videos divided by data/db_info.yaml."""

import pytest
from layouts import LANES, label_error, vil100

from formats import registry, splits


def test_frames_and_their_parts(tmp_path):
    samples = registry.list_samples(vil100(tmp_path))
    assert [sample.name for sample in samples] == [f"JPEGImages/{n}_Road/00000.jpg" for n in (0, 1)]
    label = registry.read_label(samples[0])
    assert [lane.tolist() for lane in label.lanes] == [[list(map(float, p)) for p in lane] for lane in LANES]
    assert label.size_px == (320, 180)
    train, val = splits.split(samples, "test")
    assert (list(train.names()), list(val.names())) == ([samples[0].name], [samples[1].name])
    (tmp_path / "data" / "db_info.yaml").unlink()
    assert registry.list_samples(tmp_path).list_names() == ["train"]


@pytest.mark.parametrize(("file", "content", "message"), [
    ("Json/0_Road/00000.jpg.json", "{}", "'lane' is not a list"),
    ("Json/0_Road/00000.jpg.json", '{"annotations": {"lane": [3]}}', "lane 1 is not an object"),
    ("Json/0_Road/00000.jpg.json", '{"annotations": {"lane": [{}]}}', "lane 1: points is not a list"),
    ("data/db_info.yaml", "a: [", "expected 'sequences'"),
    ("data/db_info.yaml", "sequences: 3", "expected 'sequences'")])
def test_a_broken_file_is_named(tmp_path, file, content, message):
    (vil100(tmp_path) / file).write_text(content)
    error = label_error(tmp_path)
    assert file.rpartition("/")[2] in error and message in error


def test_a_missing_image_is_named(tmp_path):
    (vil100(tmp_path) / "JPEGImages" / "0_Road" / "00000.jpg").unlink()
    assert "00000.jpg.json: its image" in label_error(tmp_path)
