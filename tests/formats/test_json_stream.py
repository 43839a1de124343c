"""JSON files read value by value: the same values as in one piece, each with the byte where it begins."""

import json

import pytest

from formats import json_stream
from formats.base import DataError

ITEMS = [{"name": "a.jpg", "n": [1, 2.5, -3e7]}, {"name": "ü\u8f66.jpg", "text": "]}\",\\"}, 12345678901, "x", None, [],
         {}]


def written(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture(params=[1, 7, 1 << 16])
def chunk(request, monkeypatch):
    """Chunks in which the file is read, down to one byte."""
    monkeypatch.setattr(json_stream, "CHUNK", request.param)


@pytest.mark.parametrize("text", [json.dumps(ITEMS), json.dumps(ITEMS, ensure_ascii=False, indent=2),
                                  "\ufeff  " + json.dumps(ITEMS, ensure_ascii=False)])
def test_items_of_a_list_and_where_they_begin(tmp_path, chunk, text):
    path = written(tmp_path, text)
    items = list(json_stream.list_items(path))
    assert [value for _, value in items] == ITEMS
    assert [json_stream.value_at(path, offset) for offset, _ in items] == ITEMS
    assert json_stream.first_char(path) == "["


def test_items_of_the_lists_of_an_object(tmp_path, chunk):
    record = {"info": {"images": [1]}, "images": ITEMS, "licenses": [[]], "annotations": ITEMS[:2], "other": 3}
    path = written(tmp_path, json.dumps(record, ensure_ascii=False))
    items = list(json_stream.object_items(path, ("images", "annotations", "categories")))
    assert [(key, value) for key, _, value in items] == [
        *(("images", item) for item in ITEMS), *(("annotations", item) for item in ITEMS[:2])]
    assert all(json_stream.value_at(path, offset) == value for _, offset, value in items)


@pytest.mark.parametrize(("text", "message"), [
    ("", r"expected \[ at byte 0"), ("{}", r"expected \[ at byte 0"), ("[1, 2", "expected , at byte 5"),
    ("[1 2]", "expected , at byte 3"), ("[1, tru]", "Expecting value at byte 4"), ('["a', "Unterminated string"),
    ("[" * 100_000, "broken JSON at byte"), ("[" + "9" * 5000 + "]", "broken JSON at byte 1"),
    (b'["\xff"]', "broken JSON at byte 1"), ("[1,]", "Expecting value at byte 3")])
def test_broken_json_is_named_with_its_byte(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        list(json_stream.list_items(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_value_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_BYTES", 100)
    path = written(tmp_path, json.dumps([1, "x" * 300_000]))
    with pytest.raises(DataError, match="a value of more than 0 MB, at byte 4"):
        list(json_stream.list_items(path))


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.json: cannot be read \(No such file"):
        json_stream.first_char(tmp_path / "gone.json")
