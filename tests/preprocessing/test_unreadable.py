"""Images and labels that cannot be read: found once, left out and said where data.on_error=skip."""

import pytest

import preprocessing.unreadable
from config import load_config
from dataset import split_from_config, validation_samples
from formats import registry
from formats.base import DataError
from preprocessing.samples import why_unreadable
from preprocessing.unreadable import unreadable


@pytest.fixture
def broken(images):
    """Seven images, of which one is no image and one has half a point in its label."""
    (images / "2.png").write_bytes(b"no image")
    (images / "6.lines.txt").write_text("1 2 3\n")
    return images


def settings(root, tmp_path, *more):
    return load_config(None, [f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}", *more])


def test_what_cannot_be_read_is_found_once(broken, tmp_path, monkeypatch):
    samples = registry.list_samples(broken)
    first = unreadable(samples, tmp_path / "cache")
    assert list(first) == [2, 6] and "2.png" in first[2] and "6.lines.txt:1" in first[6]
    again = []
    monkeypatch.setattr(preprocessing.unreadable, "why_unreadable",
                        lambda sample: again.append(sample.name) or why_unreadable(sample))
    assert unreadable(samples, tmp_path / "cache") == first and sorted(again) == ["2.png", "6.png"]
    monkeypatch.undo()
    (broken / "2.png").write_bytes((broken / "1.png").read_bytes())
    assert list(unreadable(samples, tmp_path / "cache")) == [6], "the file has changed"
    assert list(unreadable(samples, None)) == [6]


@pytest.mark.parametrize("content", ["", "{", "[null]", "3"])
def test_a_damaged_result_is_found_anew(broken, tmp_path, content):
    samples = registry.list_samples(broken)
    first = unreadable(samples, tmp_path / "cache")
    next((tmp_path / "cache").glob("unreadable-*.json")).write_text(content)
    assert unreadable(samples, tmp_path / "cache") == first


def test_what_can_be_read_again_is_left_out_no_longer(broken, tmp_path, monkeypatch):
    """A disk that was away, or rights that were missing, change neither size nor time of a file."""
    samples = registry.list_samples(broken)
    with monkeypatch.context() as patch:
        patch.setattr(preprocessing.unreadable, "why_unreadable",
                      lambda sample: "Permission denied" if sample.name == "4.png" else why_unreadable(sample))
        assert list(unreadable(samples, tmp_path / "cache")) == [2, 4, 6]
    assert list(unreadable(samples, tmp_path / "cache")) == [2, 6]


def test_skip_goes_on_without_them_and_says_so(broken, tmp_path):
    split = split_from_config(settings(broken, tmp_path, "data.on_error=skip", "data.split=0.3"))
    assert list(split.all_train().names()) == ["0.png", "1.png", "3.png", "4.png"]
    assert list(split.val.names()) == ["5.png"]
    assert len(split.notes) == 2 and "1 of 5 images are left out, which cannot be read, such as" in split.notes[0]
    assert "6.lines.txt:1: 3 numbers" in split.notes[1]


def test_an_evaluation_says_what_is_left_out(broken, tmp_path, capsys):
    samples = validation_samples(settings(broken, tmp_path, "data.on_error=skip", "data.split=all"))
    assert len(samples) == 5 and "2 of 7 images are left out" in capsys.readouterr().err


def test_stop_lists_them_for_the_reader_to_stop_at(broken, tmp_path):
    split = split_from_config(settings(broken, tmp_path, "data.split=0.3"))
    assert len(split.all_train()) + len(split.val) == 7 and split.notes == []
    with pytest.raises(DataError, match=r"6\.lines\.txt:1"):
        registry.read_label(split.val[-1])


@pytest.mark.parametrize(("broken_rows", "purpose"), [((6,), "validation has 1 images"), (range(6), "training has 6")])
def test_nothing_that_can_be_read_is_said_with_the_reason(images, tmp_path, broken_rows, purpose):
    for row in broken_rows:
        (images / f"{row}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"{purpose}.* of which none can be read, such as .*{broken_rows[0]}\.png: "):
        split_from_config(settings(images, tmp_path, "data.on_error=skip"))
