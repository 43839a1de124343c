"""What inference takes for an input: files of every name, folders but for what is passed over, lists, addresses."""

import json
import os
import re
from pathlib import Path

import pytest
from roads import json_lines, picture, write_pictures, write_video

from inference import writers
from inference.sources import Source, list_sources
from inference.video import VIDEO_SUFFIXES
from visualization.draw import write_image

pytestmark = pytest.mark.usefixtures("elsewhere")


def relative(*arguments, **options):
    return [source.relative for source in list_sources(arguments, **options)]


def error(argument):
    """The error of the one source that an argument gives."""
    source, = list_sources([argument])
    assert source.kind == "missing"
    return source.error


# Videos ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ts", ".mts", ".m2ts", ".flv", ".3gp", ".ogv", ".MOV", ".vob"])
def test_videos_of_dash_cameras_and_phones_are_videos(suffix):
    """FFmpeg goes by what a file contains."""
    write_video("a.avi", 3).rename(f"drive{suffix}")
    assert suffix.lower() in VIDEO_SUFFIXES
    Path("folder").mkdir()
    Path(f"drive{suffix}").rename(f"folder/drive{suffix}")
    for argument in ("folder", f"folder/drive{suffix}", "folder/d*"):
        source, = list_sources([argument])
        assert (source.kind, source.frames) == ("video", 3)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_video_may_have_colons_in_its_name(run):
    write_video("a.avi", 2).rename("12:30:05.avi")
    for name in ("12:30:05.avi", "./12:30:05.avi", Path("12:30:05.avi").absolute()):
        status, out, err = run(name, "--save-images", "out")
        assert status == 0 and sum("frame" in line for line in out) == 2 and len(err) == 1
    assert [path.name for path in Path("out").iterdir()] == ["00001_12:30:05.mp4"]


def test_a_file_without_a_suffix_is_what_it_contains():
    write_video("a.avi", 3).rename("drive")
    write_pictures(".", "a.png")
    Path("a.png").rename("photo")
    assert [source.kind for source in list_sources(["drive", "photo"])] == ["video", "image"]


# Folders -----------------------------------------------------------------------------------------------------


def test_what_a_folder_has_beside_images_is_counted():
    write_pictures("a", "1.png", "b/._2.jpg", "__MACOSX/3.png", ".Trash-1000/files/4.png", "5.jfif", "6.tif")
    for name in ("1.lines.txt", "x.heic", "page.ts"):
        Path("a", name).write_text("const a = 1;\n")
    lines = []
    assert relative("a", report=lines.append) == ["1.png", "5.jfif", "6.tif"]
    assert lines == ["a: passed over: 3 that are hidden or the system's; "
                     "3 that are no images and no videos (.heic, .ts, .txt)"]


def test_a_linked_folder_is_followed():
    write_pictures("elsewhere", "1.png")
    write_pictures("mine", "a/2.png")
    Path("mine/b").symlink_to("../elsewhere", target_is_directory=True)
    assert relative("mine") == ["a/2.png", "b/1.png"]


def test_a_pattern_names_images_below_its_fixed_part():
    write_pictures("trips", "1/a.png", "1/b.png", "2/a.png", "__MACOSX/a.png")
    Path("trips/1/a.lines.txt").touch()
    lines = []
    assert relative("trips/*/a*", report=lines.append) == ["1/a.png", "2/a.png"]
    assert lines == ["trips/*/a*: passed over: 1 that are hidden or the system's; "
                     "1 that are no images and no videos (.txt)"]
    assert relative("trips/**", report=lines.append) == ["1/a.png", "1/b.png", "2/a.png"], "each once"
    assert error("trips/1/*.txt") == "trips/1/*.txt: no image and no video fits this pattern"


# The command's own output ------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["photos", "photos/**/*.*", "./photos", "."])
def test_a_second_run_takes_none_of_the_firsts_output(run, argument):
    write_pictures("photos", "a.png", "b.png")
    for _ in range(2):
        status, out, err = run(argument, "--save-images", "photos/out", "--sheet", "photos/sheet.jpg")
        assert status == 0 and sum(line.endswith(".png") for line in out) == 2
    assert err == [f"{argument}: passed over: 3 that are this command's own output"]
    assert sorted(path.name for path in Path("photos/out").iterdir()) == ["00001_a.jpg", "00002_b.jpg"]


@pytest.mark.parametrize("argument", ["photos", "photos/*.png", "photos/../photos"])
def test_the_output_folder_is_not_the_one_that_is_searched(run, argument):
    write_pictures("photos", "a.png")
    with pytest.raises(ValueError, match=r"the output folder is the one that is searched.*write to another, such as"):
        run(argument, "--save-images", "photos")
    assert [path.name for path in Path("photos").iterdir()] == ["a.png"]


@pytest.mark.parametrize("option", ["--sheet", "--json", "--tusimple"])
def test_an_input_is_not_replaced_by_an_output(run, option):
    write_pictures("in", "a.png", "b.png")
    before = Path("in/a.png").read_bytes()
    with pytest.raises(ValueError, match=r"in/\.\./in/a\.png: is read by this command, and would be replaced"):
        run("in/a.png", "in/b.png", option, "in/../in/a.png")
    assert Path("in/a.png").read_bytes() == before


@pytest.mark.parametrize("second", ["--tusimple", "--sheet"])
def test_two_outputs_have_two_names(run, second):
    write_pictures("in", "a.png")
    Path("link.jpg").symlink_to("lanes.jpg")
    with pytest.raises(ValueError, match=r"\.jpg: two outputs would be written to this file; give each a name"):
        run("in/a.png", second, "lanes.jpg", "--json", "link.jpg")
    assert sorted(path.name for path in Path().iterdir()) == ["in", "link.jpg"]


@pytest.mark.parametrize(("name", "found"), [
    ("sheet.xyz", r"\.xyz"), ("sheet", "a name without a suffix"), ("sheet.pgm", r"\.pgm")])
def test_a_sheet_of_no_format_is_refused_before_any_work(run, name, found):
    write_pictures("in", "a.png")
    with pytest.raises(ValueError, match=rf"{name}: {found} is no format of pictures that can be written; use \.jpg"):
        run("in/a.png", "--json", "lanes.jsonl", "--sheet", name)
    assert [path.name for path in Path().iterdir()] == ["in"]


def test_other_outputs_are_written_where_the_sheet_cannot_be(run, monkeypatch):
    def full(path, image):
        raise OSError("sheet.jpg: No space left on device")

    write_pictures("in", "a.png")
    monkeypatch.setattr(writers, "write_image", full)
    with pytest.raises(OSError, match="No space left"):
        run("in/a.png", "--json", "lanes.jsonl", "--sheet", "sheet.jpg")
    assert len(Path("lanes.jsonl").read_text().splitlines()) == 1


def test_outputs_make_their_folders(run):
    write_pictures(".", "a.png")
    assert run("a.png", "--json", "1/2/a.jsonl", "--tusimple", "3/a.json", "--sheet", "4/a.jpg",
               "--save-images", "5/6")[0] == 0
    assert all(Path(name).is_file() for name in ("1/2/a.jsonl", "3/a.json", "4/a.jpg", "5/6/00001_a.jpg"))


# Lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["day/a.png", "./day/a.png", "/day/a.png /masks/a.png 1 1 0 1", "day/a.png,1",
                                  "day\\a.png", "{absolute}", '"day/a.png"', "'./day/a.png'", "  day/a.png\r"])
@pytest.mark.parametrize("name", ["list.txt", "list/test_split/test0_normal.txt", "images.csv"])
def test_a_text_file_is_a_list_of_images(line, name):
    write_pictures("root", "day/a.png")
    path = Path("root", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\ufeff# a comment\n\n" + line.format(absolute=Path("root/day/a.png").absolute()) + "\n",
                    encoding="utf-8", newline="")
    source, = list_sources([str(path)])
    assert source.kind == "image" and source.path.samefile("root/day/a.png") and source.relative.endswith("day/a.png")


def test_a_list_names_images_below_the_working_folder_and_videos(run):
    write_pictures("a", "1.png")
    write_video("drive.avi", 2)
    Path("lists").mkdir()
    Path("lists/all.txt").write_text("a/1.png\ndrive.avi\nnone.png\n")
    status, out, err = run("lists/all.txt")
    assert (status, err) == (1, ["error: lists/all.txt:3: no image 'none.png'"])
    assert [line for line in out if "Sample" not in line][:3] == ["a/1.png", "drive.avi frame 1", "drive.avi frame 2"]


@pytest.mark.parametrize("content", [b"no list\n", b"[1, 2]\n", b'{"lanes": []}\n', b"12 30 40 50\n"])
def test_a_text_that_is_no_list_is_one_error(content):
    Path("a.txt").write_bytes(content * 50)
    assert re.match(r"a\.txt:1: no .*; expected an image \(JPEG.*\), a video \(\.mp4.*\), or a list of their names",
                    error("a.txt"))


@pytest.mark.parametrize("content", ["\n\n", "# day/a.png\n\n  \n#b\n"])
def test_a_list_that_names_nothing_is_an_error(run, content):
    Path("a.txt").write_text(content)
    assert run("a.txt")[::2] == (1, ["error: a.txt: names no image: all of its lines are blank, or begin with #"])


@pytest.mark.parametrize("content", [b"", bytes(100), b"\x80\x81\x82" * 100])
def test_a_file_of_no_kind_is_told_what_is_taken(content):
    Path("a.bin").write_bytes(content)
    assert re.fullmatch(r"a\.bin: neither an image \(JPEG.*\), nor a video \(\.mp4.*\), nor a list of their names",
                        error("a.bin"))


# TuSimple's names --------------------------------------------------------------------------------------------


def test_tasks_without_labels_are_answered_at_their_rows(run):
    write_pictures("set", "clips/0530/1/20.png", "clips/0530/2/20.png")
    tasks = [{"raw_file": f"clips/0530/{i}/20.png", "h_samples": [30, 40, 50 + i]} for i in (2, 1)]
    Path("set/test_tasks_0627.json").write_text("".join(f"{json.dumps(task)}\n" for task in tasks))
    assert run("set/test_tasks_0627.json", "--tusimple", "pred.json")[0] == 0
    lines = json_lines("pred.json")
    assert [{key: line[key] for key in ("raw_file", "h_samples")} for line in lines] == tasks
    assert all(len(lane) == 3 for line in lines for lane in line["lanes"])


@pytest.mark.parametrize("raw_file", ["clips\\0530\\1\\20.png", "./clips/0530/1/20.png", "/clips/0530//1/20.png"])
def test_names_of_tasks_are_written_as_the_benchmark_has_them(run, raw_file):
    write_pictures("set", "clips/0530/1/20.png")
    Path("set/test_tasks_0627.json").write_text(json.dumps({"raw_file": raw_file, "h_samples": [30, 40]}))
    assert run("set/test_tasks_0627.json", "--tusimple", "pred.json")[0] == 0
    assert [line["raw_file"] for line in json_lines("pred.json")] == ["clips/0530/1/20.png"]


@pytest.mark.parametrize("arguments", [
    ("root/clips/*/*/20.png",), ("root/clips",), ("root",), ("root/clips/0530/1/20.png", "root/clips/0530/2/20.png"),
    ("root/clips/0530/1", "root/clips/0530/2"), ("root/clips/0530/?/*",),
])
def test_names_of_a_submission_begin_at_clips(run, arguments):
    write_pictures("root", "clips/0530/1/20.png", "clips/0530/2/20.png")
    assert run(*arguments, "--tusimple", "pred.json")[0] == 0
    assert [line["raw_file"] for line in json_lines("pred.json")] == ["clips/0530/1/20.png", "clips/0530/2/20.png"]


def test_names_of_a_submission_are_the_paths_as_given(run):
    write_pictures(".", "a/20.png", "b/20.png")
    both = ["a/20.png", "b/20.png"]
    for arguments, names in ((("a/20.png", "./b/20.png"), both), (("*/20.png",), both), (("a",), ["20.png"])):
        assert run(*arguments, "--tusimple", "pred.json")[0] == 0
        assert [line["raw_file"] for line in json_lines("pred.json")] == names


@pytest.mark.parametrize(("arguments", "reason"), [
    (("a", "b"), "a/20.png and b/20.png would both be '20.png'"), (("a/20.png", "a/20.png"), "a/20.png is given twice"),
])
def test_a_name_that_comes_twice_is_an_error_before_any_work(run, arguments, reason):
    write_pictures(".", "a/20.png", "b/20.png")
    with pytest.raises(ValueError, match=reason):
        run(*arguments, "--tusimple", "pred.json", "--save-images", "out")
    assert not Path("pred.json").exists() and not Path("out").exists()


# Addresses ---------------------------------------------------------------------------------------------------


def test_an_address_is_a_camera_and_its_password_is_not_shown():
    source, = list_sources(["rtsp://me:secret@127.0.0.1:554/live/1?x=2"])
    assert source == Source("rtsp://127.0.0.1:554/live/1?x=2", "rtsp://me:secret@127.0.0.1:554/live/1?x=2", "camera",
                            "127_0_0_1_554_live_1_x_2", None)
    assert "an address of a kind that is not read; expected http, https" in error("ftp://a/b.mp4")


def test_a_file_that_looks_like_a_setting_is_an_input(run):
    write_image(Path("a.b=c.png"), picture())
    assert "a.b=c.png" in run("a.b=c.png")[1] and "a.b=c.png" in run("a.b=*.png")[1]


@pytest.mark.parametrize(("address", "shown"), [
    ("rtsp://user:p@ss@127.0.0.1:1/x", "rtsp://127.0.0.1:1/x"), ("rtsp://user:pa/ss@127.0.0.1/x", "rtsp://127.0.0.1/x"),
    ("rtsp://user@127.0.0.1/x", "rtsp://127.0.0.1/x"), ("http://127.0.0.1/@me/x", "http://127.0.0.1/@me/x"),
    ("http://10.0.0.2:8080/cam@1.mjpg", "http://10.0.0.2:8080/cam@1.mjpg"),
    ("http://me:1@10.0.0.2:80/cam@1", "http://10.0.0.2:80/cam@1"), ("http://h/x#token=secret", "http://h/x#token=..."),
    ("rtsp://h/user=admin_password=secret_channel=1", "rtsp://h/user=..."),
    ("http://127.0.0.1/x?channel=1&password=secret", "http://127.0.0.1/x?channel=1&password=..."),
    ("http://127.0.0.1/x?user=me&access_token=a/b@c&n=2", "http://127.0.0.1/x?user=...&access_token=...&n=2")])
def test_what_opens_a_stream_is_not_shown(address, shown):
    source, = list_sources([address])
    assert source.path == address and source.name == shown
    assert not any(word in source.relative for word in ("secret", "p_ss", "pa_", "a_b"))

