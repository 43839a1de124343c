"""Random labels, lists and splits: whatever they contain, it is used or refused in one line of ours."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from random_input import fuzz, mutated, nested, number, outcome, text

from formats import registry, splits
from formats.base import DataError, Sample
from formats.parsing import CONTROL
from formats.sample_index import SampleIndex
from preprocessing.targets import lanes_in_slots

LABEL_KEYS = ["raw_file", "lanes", "h_samples", "Lines", "x", "y", "markers", "lane_id", "pixel_start", "pixel_end",
              "world_start", "z", "shapes", "points", "shape_type", "label", "imagePath", "images", "annotations",
              "categories", "id", "image_id", "file_name", "keypoints", "segmentation", "name", "labels", "poly2d",
              "vertices", "types", "frames", "objects", "lane", "lane_lines", "uv", "sequences", "set"]
FILES = {  # of which each data set is read: lists and labels
    "tusimple": ["label_data_0313.json"], "culane": ["list/test.txt", "drive/a.lines.txt"],
    "curvelanes": ["train/train.txt", "train/labels/x.lines.json"], "llamas": ["labels/valid/drive/1_2.json"],
    "folder": ["day/one.lines.txt"], "vil100": ["Json/0_Road/00000.jpg.json", "data/db_info.yaml"],
    "openlane": ["lane3d_300/training/segment-1/1.json"], "labelme": ["day/a.json"], "cvat": ["annotations.xml"],
    "coco": ["annotations/train.json"], "bdd100k": ["labels/lane_train.json"]}
json_value = nested(st.one_of(number, text, st.booleans(), st.none()), LABEL_KEYS)
lanes = st.lists(st.lists(number, max_size=6), max_size=4)
records = st.one_of(
    json_value,
    st.fixed_dictionaries({"raw_file": st.one_of(text, json_value), "lanes": lanes, "h_samples": st.lists(number)}),
    st.fixed_dictionaries({"Lines": st.lists(st.lists(st.fixed_dictionaries({"x": number | text, "y": number})))}),
    st.fixed_dictionaries({"lanes": st.lists(st.fixed_dictionaries({"lane_id": text, "markers": st.lists(
        st.fixed_dictionaries({"pixel_start": st.fixed_dictionaries({"x": number, "y": number}),
                               "pixel_end": st.fixed_dictionaries({"x": number | text, "y": number}),
                               "world_start": st.fixed_dictionaries({"z": number})}), max_size=4)}), max_size=4)}))


def printable(value) -> bytes:
    """JSON of a value whose integers may have more digits than Python prints."""
    try:
        return json.dumps(value).encode()
    except ValueError:
        return b'{"lanes": [[1' + b"0" * 5000 + b"]]}"


numbers_of_text = st.lists(st.lists(number | text, max_size=6), max_size=5).map(
    lambda rows: "\n".join(" ".join(map(str, row)) for row in rows).encode("utf-8", "surrogatepass"))


def contents(original: bytes):
    """Bytes for a file of labels."""
    as_json = st.lists(records, max_size=3).map(lambda values: b"\n".join(map(printable, values)))
    return st.one_of(st.binary(max_size=80), mutated(original), as_json, numbers_of_text)


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
@fuzz
@given(data=st.data())
def test_any_label_is_read_or_refused(tmp_path_factory, name, file, data):
    root = tmp_path_factory.getbasetemp() / f"fuzz-{name}"
    if not root.exists():
        LAYOUTS[name](root)
    path = root / file
    original = path.read_bytes()
    path.write_bytes(data.draw(contents(original)))
    try:
        listing = registry.list_folder(root, data.draw(st.sampled_from([name, "auto"])), stop=False)
        for error in (*listing.errors, *listing.missing_errors.values()):
            assert "\n" not in str(error) and len(str(error)) < 2000, str(error)[:200]
        for sample in listing.samples:
            label = outcome(lambda sample=sample: registry.read_label(sample))
            if label is not None:
                assert all(len(shape) < 100 and "\n" not in shape for shape in label.left_out)
                assert all(np.isfinite(lane).all() and lane.shape[1:] == (2,) for lane in label.lanes)
                target, (problems,) = lanes_in_slots([label], [(320, 180)], 6)
                assert target.points.isfinite().all()
                assert int(target.exists.sum()) + problems.left_out == len(label.lanes)
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, str(error)[:200]
    finally:
        path.write_bytes(original)


@fuzz
@given(rule=text | st.from_regex(r"clip *>= *\d+|0?\.\d+", fullmatch=True), names=st.lists(text.filter(
    lambda name: len(name) < 1000 and not CONTROL.search(name)), min_size=1))
def test_any_split_is_made_or_refused(rule, names):
    samples = SampleIndex(Sample(Path("a.jpg"), Path("a.txt"), f"{name}/20.jpg", ("test.txt",)) for name in names)
    parts = outcome(lambda: splits.split(samples, rule))
    assert parts is None or len(parts[0]) + len(parts[1]) == len(samples)
