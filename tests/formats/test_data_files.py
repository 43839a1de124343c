"""Which files below a folder are data: one rule for all that searches folders."""

import os
import sys
from pathlib import Path

import pytest

from formats import files
from formats.files import PassedOver, Tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")


def made(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def walked(root):
    """The files below a folder by name, and what was passed over: (name, reason, count)."""
    passed_over: list[PassedOver] = []
    names = [path.relative_to(root).as_posix() for path in Tree(root, passed_over.append).files()]
    return names, [(p.path.relative_to(root).as_posix(), p.reason, p.count) for p in passed_over]


def test_files_are_in_the_order_of_their_paths(tmp_path):
    names = ["b.jpg", "a/x.jpg", "a-/x.jpg", "a.k.jpg", "a.jpg", "a/b/x.jpg", "A.jpg"]
    assert walked(made(tmp_path, *names))[0] == [p.as_posix() for p in sorted(map(Path, names))]


@pytest.mark.parametrize("name", [
    ".Trash-1000/files/0.jpg", ".ipynb_checkpoints/0.jpg", "__MACOSX/._0.jpg", "a/@eaDir/0.jpg", "._0.jpg",
    "$RECYCLE.BIN/0.jpg", "System Volume Information/0.jpg", "lost+found/0.jpg", ".0.JPG.swp.jpg", "#recycle/0.jpg"])
def test_hidden_and_system_files_are_passed_over_and_counted(tmp_path, name):
    names, passed_over = walked(made(tmp_path, "0.jpg", "a/1.jpg", name))
    assert names == ["0.jpg", "a/1.jpg"]
    assert [entry[1:] for entry in passed_over] == [(files.HIDDEN, 1)]


def test_hidden_files_that_are_no_data_are_not_worth_a_word(tmp_path):
    made(tmp_path, "0.jpg", ".DS_Store", "Thumbs.db", ".git/objects/1", ".gitignore")
    assert walked(tmp_path) == (["0.jpg"], [])


def test_linked_folders_and_files_are_followed(tmp_path):
    elsewhere = made(tmp_path / "elsewhere", "b/0.jpg", "b/c/1.jpg", "2.jpg")
    root = made(tmp_path / "mine", "a/0.jpg")
    (root / "b").symlink_to(elsewhere / "b")
    (root / "2.jpg").symlink_to(elsewhere / "2.jpg")
    assert walked(root) == (["2.jpg", "a/0.jpg", "b/0.jpg", "b/c/1.jpg"], [])


def test_a_folder_is_read_once_however_many_links_lead_to_it(tmp_path):
    elsewhere = made(tmp_path / "elsewhere", "b/0.jpg")
    root = made(tmp_path / "mine", "a/0.jpg")
    for name, target in (("x", elsewhere), ("y", elsewhere), ("z", elsewhere / "b"), ("0", root / "a")):
        (root / name).symlink_to(target)
    names, passed_over = walked(root)
    assert names == ["a/0.jpg", "z/0.jpg"], "the links of a folder are taken before what is in them"
    assert sorted(passed_over) == [(name, files.READ_ANYWAY, 1) for name in ("0", "x/b", "y")]


@pytest.mark.parametrize("target", [".", "..", "a", "../mine/a"])
def test_links_in_a_circle_end(tmp_path, target):
    root = made(tmp_path / "mine", "a/0.jpg")
    (root / "a" / "again").symlink_to(root / "a" / target)
    (root / "itself").symlink_to("itself")
    names, passed_over = walked(root)
    assert names == ["a/0.jpg"] and ("itself", files.BROKEN_LINK, 1) in passed_over


def test_links_between_outer_folders_end(tmp_path):
    one, two = made(tmp_path / "one", "1.jpg"), made(tmp_path / "two", "2.jpg")
    (one / "to").symlink_to(two)
    (two / "fro").symlink_to(one)
    root = made(tmp_path / "mine", "0.jpg")
    (root / "link").symlink_to(one)
    assert walked(root)[0] == ["0.jpg", "link/1.jpg", "link/to/2.jpg"]


def test_a_link_into_a_hidden_store_of_the_root_is_followed(tmp_path):
    root = made(tmp_path / "mine", ".store/7f/0.jpg")
    (root / "images").symlink_to(".store/7f")
    assert walked(root) == (["images/0.jpg"], [(".store", files.HIDDEN, 1)])


def test_a_root_that_is_a_link_or_lies_in_a_hidden_folder(tmp_path):
    hidden = made(tmp_path / ".data", "a/0.jpg")
    (tmp_path / "link").symlink_to(hidden)
    assert walked(hidden) == walked(tmp_path / "link") == (["a/0.jpg"], [])


def test_pipes_and_links_to_nothing_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    assert walked(tmp_path) == ([], [("gone.jpg", files.BROKEN_LINK, 1)])


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"\xb3\xb5\xb5\xc00.jpg")
    assert walked(made(tmp_path, name))[0] == [name]
