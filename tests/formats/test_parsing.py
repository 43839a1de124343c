"""Labels from strangers: what is absurd is refused in one short line, before it costs anything."""

import json

import cv2
import numpy as np
import pytest
from refusals import refusal

from formats import parsing, registry, tusimple
from formats.base import DataError
from formats.parsing import MAX_BYTES


@pytest.fixture
def image(tmp_path):
    """A folder with an image and its label."""
    cv2.imwrite(str(tmp_path / "0.png"), np.full((36, 64, 3), 90, np.uint8))
    (tmp_path / "0.lines.txt").write_text("20 35 25 25 30 15\n")
    return tmp_path


@pytest.mark.parametrize(("content", "words"), [
    ("1 2 " * 10**6, "not a list of at most"), ("1 2 3 " + "9" * 400, "contains inf"), ("1 2 3 nan", "contains nan"),
    ("1 2 3 -1e300", "contains -1e+300"), ("x" * 10**6, "expected numbers"), ("1 2\n" * 10**6, "1000000 lines"),
    ("1" * (MAX_BYTES + 1), "16 MB")], ids=["million", "huge", "nan", "large", "word", "lines", "bytes"])
def test_absurd_lanes_of_text_are_refused_in_few_words(image, content, words):
    (image / "0.lines.txt").write_text(content)
    refusal(lambda: registry.read_label(registry.list_samples(image)[0]), DataError, "0.lines.txt", words)


@pytest.mark.parametrize(("record", "words"), [
    ({"lanes": [[10**400]]}, "no pixel position"), ({"lanes": [[1] * 10**6]}, "at most 10000 numbers"),
    ({"lanes": [[float("nan")]]}, "contains nan"), ({"lanes": [[1]] * 65}, "at most 64 lanes"),
    ({"lanes": [[{"a": "b" * 10**5}]]}, "not a number"), ({"raw_file": "a\nb.jpg"}, "no name of an image"),
    ({"raw_file": "\ud800.jpg"}, "no name of an image"), ({"raw_file": "x" * 500 + ".jpg"}, "is missing"),
    ({"raw_file": "/etc/hosts"}, "leaves the data folder"), ({"raw_file": "a/../../x.jpg"}, "leaves the data folder"),
    ({"raw_file": "..\\x.jpg"}, "leaves the data folder"), ({"raw_file": "C:\\x.jpg"}, "leaves the data folder"),
])
def test_absurd_json_labels_are_refused_in_few_words(tmp_path, record, words):
    line = {"raw_file": "a.jpg", "lanes": [], "h_samples": [100]} | record
    (tmp_path / "a.jpg").touch()
    (tmp_path / "label_data_1.json").write_text(json.dumps(line) + "\n")
    message = refusal(lambda: registry.list_samples(tmp_path), DataError, "label_data_1.json:1", words)
    assert message.encode("utf-8", "strict")


def test_lines_and_depths_without_an_end_are_refused(tmp_path):
    path = tmp_path / "label_data_1.json"
    for content, words in (("[" * 10**5, "broken JSON"), ('{"lanes": ' + "1" * 5000, "broken JSON"),
                           (" " * 10 + "1" * (MAX_BYTES + 1), "a line of more than 16 MB")):
        path.write_text(content)
        refusal(lambda: registry.list_samples(tmp_path), DataError, str(path), words)


ROW_LISTS = [[[1, 2]], [[1, 2], [3.5, -2]], [[0], [-0.0]], [], [[]], [[1], [1, 2]], [[1, "2"]], [[True, 2]],
             [[1, None]], [(1, 2)], [3], [[float("nan"), 1]], [[1e6, 1]], [[10**400, 1]], [[float("-inf")]],
             [[1] * 10_001]]


@pytest.mark.parametrize("rows", ROW_LISTS, ids=lambda rows: str(rows)[:20])
def test_a_table_of_numbers_is_what_each_list_is(rows):
    table = parsing.number_table(rows)
    try:
        one_by_one = [parsing.numbers(row, "x") for row in rows]
    except DataError:
        one_by_one = []
    is_table = bool(one_by_one) and len(set(map(len, one_by_one))) == 1 and len(one_by_one[0]) > 0
    assert (table is not None) == is_table
    assert not is_table or (np.array_equal(table, one_by_one) and table.dtype == float)


RECORDS = [[[1, 2]], [], [[1, 2], [-2, 5.5]], [[1]], [[1, "x"]], "lanes", [[1, 2]] * 65, [3], [[1, 10**400]]]


@pytest.mark.parametrize("rows", [[100, 110], [], "rows", [100, None]])
@pytest.mark.parametrize("lanes", RECORDS, ids=lambda lanes: str(lanes)[:12])
def test_tusimples_labels_and_errors_are_the_same_list_by_list(lanes, rows, monkeypatch):
    def result():
        try:
            label = tusimple._label({"lanes": lanes, "h_samples": rows}, "f:1")
        except DataError as error:
            return str(error)
        return [lane.tolist() for lane in label.lanes], label.rows.tolist(), label.x_at_rows.tolist()

    at_once = result()
    monkeypatch.setattr(tusimple, "number_table", lambda lists: None)
    assert at_once == result()
