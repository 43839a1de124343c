"""Atomic writes, and the lock between processes."""

import errno
import json
import math
import os
import re
import signal
import threading
import time

import pytest
from processes import finish, needs_kill, start

from runtime import files

LOCKED_BLOCK = """
import os, sys, time
from pathlib import Path
from runtime.files import lock
with lock(Path(sys.argv[1]), "at work"):
    print("inside", flush=True)
    {}
"""

# Atomic writes -----------------------------------------------------------------------------------------------


def test_a_file_is_written_in_a_new_folder_and_replaced_later(tmp_path):
    path = tmp_path / "a" / "b" / "file.json"
    files.write_text(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    files.write_bytes(path, b"second")
    assert path.read_bytes() == b"second" and os.listdir(path.parent) == ["file.json"]


def test_a_name_that_is_no_unicode_is_escaped(tmp_path):
    files.write_text(tmp_path / "file", "\udcff")
    assert (tmp_path / "file").read_text() == r"\udcff"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), ValueError("x")])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.csv"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, files.atomic_write(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".csv" and temporary != path
        temporary.write_text("half")
        raise error
    assert caught.value is error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.csv"]


def test_the_file_keeps_its_old_content_until_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_two_threads_write_one_file_each_whole(tmp_path):
    """The later one wins; neither writes into what the other has."""
    path = tmp_path / "a.txt"
    with files.atomic_write(path) as first:
        first.write_text("first")
        thread = threading.Thread(target=files.write_text, args=(path, "second"))
        thread.start()
        thread.join()
        assert path.read_text() == "second" and first.read_text() == "first"
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_of_a_link_the_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "target.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "target.txt")
    files.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "there" / "target.txt").read_text() == "new"


def test_an_unfinished_file_is_hidden_from_whoever_lists_the_folder(tmp_path):
    """A killed process leaves it: it must be no label file and no image to the next run."""
    with files.atomic_write(tmp_path / "label_data_train.json") as temporary:
        temporary.write_text("half")
        assert temporary.name.startswith(".") and not list(tmp_path.glob("label_data_*.json"))


@pytest.mark.parametrize("letter", ["n", "\u8def"])
def test_names_as_long_as_the_file_system_takes_are_written(tmp_path, letter):
    name = letter * (250 // len(letter.encode())) + ".txt"
    files.write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_error_of_opening_or_renaming_the_temporary_file_names_the_other(tmp_path):
    path = tmp_path / "a.txt"
    names_it = pytest.raises(OSError, match=re.escape(repr(str(path))) + "$")
    with names_it, files.atomic_write(path) as temporary:
        temporary.read_text()
    with names_it, files.atomic_write(path) as temporary:
        temporary.write_text("text")
        path.mkdir()


def test_the_error_of_a_write_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught:
        files.write_bytes(tmp_path, b"")
    assert caught.value.filename == str(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:
        files.write_text(tmp_path / "file" / "below", "")
    assert caught.value.filename == str(tmp_path / "file" / "below")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_written_as_it_is(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    files.write_bytes(path, b"through")
    reader.join(10)
    assert received == [b"through"] and path.is_fifo() and os.listdir(tmp_path) == ["pipe"]


# Locks -------------------------------------------------------------------------------------------------------


def test_threads_enter_one_at_a_time(tmp_path, capsys):
    inside, counts = [], []

    def work():
        with files.lock(tmp_path / "new", "at work"):
            inside.append(1)
            counts.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 4
    assert f"{tmp_path / 'new'}: another process is at work; waiting for it\n" in capsys.readouterr().err
    assert os.listdir(tmp_path / "new") == [".lock"]


def test_the_lock_is_free_after_an_error(tmp_path, capsys):
    with pytest.raises(ZeroDivisionError), files.lock(tmp_path, "x"):
        raise ZeroDivisionError
    with files.lock(tmp_path, "x"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.process
def test_a_second_process_waits_for_the_first(tmp_path):
    with files.lock(tmp_path, "at work here"):
        second = start("-c", LOCKED_BLOCK.format(""), tmp_path)
        assert second.stderr.readline() == f"{tmp_path}: another process is at work; waiting for it\n"
        time.sleep(0.3)
        assert second.poll() is None
    output, errors = second.communicate(timeout=60)
    assert (second.returncode, output, errors) == (0, "inside\n", "")


@pytest.mark.slow
@pytest.mark.process
@needs_kill
def test_the_lock_of_a_killed_process_is_free(tmp_path, capsys):
    process = start("-c", LOCKED_BLOCK.format("os.kill(os.getpid(), 9)"), tmp_path)
    assert finish(process) == (-signal.SIGKILL, [])
    with files.lock(tmp_path, "x"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line_and_the_work_goes_on(tmp_path, capsys, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    entered = False
    with files.lock(tmp_path, "x"):
        entered = True
    line = f"{tmp_path}: this file system has no locks; start one process at a time here\n"
    assert entered and capsys.readouterr().err == line


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_the_lock_is_for_all_users_of_a_folder(tmp_path):
    umask = os.umask(0o022)
    try:
        with files.lock(tmp_path, "x"):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(umask)


def test_a_folder_that_cannot_be_locked_for_another_reason_is_an_error(tmp_path, monkeypatch):
    def acquire(self, timeout=None):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.FileLock, "acquire", acquire)
    with pytest.raises(OSError, match="Read-only"), files.lock(tmp_path, "x"):
        pytest.fail("entered without a lock")


def test_numbers_that_are_not_finite_become_null_also_in_records_within_a_record():
    record = {"a": math.nan, "sets": {"b": {"c": math.inf, "d": 0.5, "e": "text"}}, "n": 3, "list": [1]}
    assert json.loads(files.json_text(record)) == {"a": None, "sets": {"b": {"c": None, "d": 0.5, "e": "text"}}, "n": 3,
                                             "list": [1]}
    assert "\n" not in files.json_text(record)
