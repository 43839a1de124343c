"""Random bytes as image files: they have a size or none, and never an error of Pillow's own."""

from hypothesis import given
from hypothesis import strategies as st
from random_input import fuzz, mutated

from preprocessing.images import image_size


@fuzz
@given(data=st.binary(max_size=60) | mutated(
    b"\xff\xd8\xff\xe0\0\x08JFIF\0\0\xff\xc0\0\x11\x08\0\x10\0\x20" + b"\3" * 20))
def test_any_bytes_have_a_size_or_none(data):
    size_px = image_size(data)
    assert size_px is None or all(isinstance(v, int) and v >= 0 for v in size_px)
