"""TuSimple: the places of its label files and images, its labels, and what is refused."""

import json
import pickle

import pytest
from layouts import label_error, tusimple

from formats import registry
from formats.base import MissingFile
from formats.tusimple import TuSimple


@pytest.mark.parametrize(("list_name", "images"), [
    ("label_data_0313.json", "."), ("train_set/label_data_0313.json", "train_set"), ("test_label.json", "test_set"),
    ("test_set/test_label.json", "test_set")])
def test_layouts_as_unpacked_and_as_guides_move_the_files(tmp_path, list_name, images):
    root = tusimple(tmp_path, list_name=list_name, images=images)
    assert registry.detect(root) == "tusimple"
    samples = registry.list_samples(root)
    assert len(samples) == 2 and all(sample.image.is_file() for sample in samples)
    label = registry.read_label(samples[1])
    assert [len(lane) for lane in label.lanes] == [8, 0]
    assert label.lanes[0][0].tolist() == [100, 100]
    assert label.x_at_rows.shape == (2, 12) and label.rows.tolist() == list(range(60, 180, 10))


def test_a_label_file_copied_out_of_train_set_counts_once(tmp_path):
    tusimple(tmp_path)
    tusimple(tmp_path, list_name="train_set/label_data_0313.json")
    assert len(registry.list_samples(tmp_path)) == 2


def test_labels_without_images_are_listed_on_request(tmp_path):
    root = tusimple(tmp_path)
    (root / "clips" / "1" / "20.jpg").unlink()
    missing, sample = TuSimple().list_samples(root)
    assert isinstance(missing, MissingFile) and missing.sample.name == "clips/1/20.jpg"
    copy = pickle.loads(pickle.dumps(missing))
    assert (str(copy), copy.sample, copy.is_image) == (str(missing), missing.sample, missing.is_image)
    assert sample.name == "clips/2/20.jpg"
    assert "20.jpg is missing" in label_error(root)


@pytest.mark.parametrize(("line", "words"), [
    ('{"raw_file": "clips/1/20.jpg", "lanes": [[1, 2', [":3", "broken JSON", "at character"]),
    ("[1]", [":3", "expected a JSON object"]),
    ('{"lanes": [], "h_samples": [1]}', [":3", "raw_file"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [[1, 2]], "h_samples": [1]}', [":3", "lane 1 has 2 points"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [[NaN]], "h_samples": [1]}', [":3", "nan"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [["1"]], "h_samples": [1]}', [":3", "not a number"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [], "h_samples": []}', [":3", "h_samples is empty"]),
    ('{"raw_file": "clips/9/20.jpg", "lanes": [], "h_samples": [1]}', [":3", "missing"]),
    ('{"raw_file": "/etc/hosts.jpg", "lanes": [], "h_samples": [1]}', [":3", "leaves the data folder"]),
    ('{"raw_file": "clips/../../x.jpg", "lanes": [], "h_samples": [1]}', [":3", "leaves the data folder"]),
    ('{"raw_file": "C:/x.jpg", "lanes": [], "h_samples": [1]}', [":3", "leaves the data folder"]),
])
def test_broken_line_is_named(tmp_path, line, words):
    path = tusimple(tmp_path) / "label_data_0313.json"
    path.write_text(path.read_text() + line + "\n")
    message = label_error(tmp_path)
    assert all(word in message for word in ["label_data_0313.json", *words]), message


def test_empty_label_file_is_named(tmp_path):
    (tusimple(tmp_path) / "label_data_0313.json").write_text("\n")
    assert "label_data_0313.json: the label file is empty" in label_error(tmp_path)


def test_a_point_at_the_left_border_is_a_point(tmp_path):
    path = tusimple(tmp_path) / "label_data_0313.json"
    lanes = [[-2, 0, 5], [-2, -2, -2]]
    path.write_text(json.dumps({"raw_file": "clips/1/20.jpg", "lanes": lanes, "h_samples": [60, 70, 80]}) + "\n")
    sample, = registry.list_samples(tmp_path)
    assert [lane.tolist() for lane in registry.read_label(sample).lanes] == [[[0, 70], [5, 80]], []]
