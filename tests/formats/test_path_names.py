"""Names of images as people write them: every spelling of a path is one name, and none leads out of the folder."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from formats.base import DataError
from formats.parsing import image_name

ROOT = Path("/data/own set")
PARTS = st.text(st.characters(codec="utf-8", exclude_categories=("C",), exclude_characters="/\\:"), min_size=1,
                max_size=12).filter(lambda part: part not in (".", ".."))
NAMES = st.lists(PARTS, min_size=1, max_size=5)


def name_of(text):
    return image_name(text, "list.txt:1", ROOT)


@given(NAMES, st.data())
def test_every_spelling_of_a_path_is_one_name(parts, data):
    written = []
    for part in parts:
        written += data.draw(st.sampled_from([[], ["."], ["", ""], ["detour", ".."]]))
        written.append(part)
    start = data.draw(st.sampled_from(["", "./", "/", f"{ROOT}/"]))
    text = start + data.draw(st.sampled_from("/\\")).join(written)
    assert name_of(text) == "/".join(parts)


@given(NAMES, st.integers(1, 6))
def test_a_path_that_climbs_out_of_the_folder_is_refused(parts, more):
    text = "/".join([*parts, *[".."] * (len(parts) + more), "x.jpg"])
    try:
        name = name_of(text)
    except DataError as error:
        assert "leaves the data folder" in str(error) and "\n" not in str(error)
    else:
        raise AssertionError(f"{text} is read as {name}")


@given(st.text(max_size=60) | st.text("./\\:C ", max_size=20))
def test_any_text_is_a_name_below_the_folder_or_refused_in_one_line(text):
    try:
        name = name_of(text)
    except DataError as error:
        assert "\n" not in str(error) and str(error).startswith("list.txt:1")
    else:
        parts = name.split("/")
        assert name and not name.startswith("/") and ".." not in parts and "." not in parts and "\\" not in name
