"""What the scripts stand on: the command line, devices, interrupts, checkpoints, and the cache of pixels."""

import os
import pickle
import signal

import cv2
import numpy as np
import pytest
import torch

import cache
import checkpoints
import formats
import runtime
from checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from config import Config, ConfigError, load_config
from formats import DataError

WEIGHTS = {"model": {"layer.weight": torch.arange(6000.0).reshape(60, 100)}, "scores": {"val_loss": 0.5}}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, load_config(None, ["model.width=160", "train.seed=7"]), **WEIGHTS)
    return path


def refusal(path, *arguments):
    """The message with which load_checkpoint refuses a file: one line that begins with the path."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, *arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


# Checkpoints -------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was_saved(saved):
    payload = load_checkpoint(saved)
    assert torch.equal(payload["model"]["layer.weight"], WEIGHTS["model"]["layer.weight"])
    assert payload["scores"] == {"val_loss": 0.5}
    assert payload["config"] == load_config(None, ["model.width=160", "train.seed=7"])
    assert list(saved.parent.iterdir()) == [saved], "no temporary file stays behind"


def test_a_checkpoint_rebuilds_its_model(tmp_path):
    config = load_config(None, ["model.slots=4", "model.backbone=compact"])
    model = checkpoints.build_model(config).eval()
    save_checkpoint(tmp_path / "m.pth", config, model=model.state_dict())
    found, its_config, _ = checkpoints.load_model(tmp_path / "m.pth", torch.device("cpu"))
    image = torch.full((1, 3, 96, 160), 90, dtype=torch.uint8)
    assert its_config == config and not found.training
    with torch.inference_mode():
        assert torch.equal(found(image).points, model(image).points)


def test_weights_of_another_shape_are_refused(tmp_path):
    model = checkpoints.build_model(load_config(None, ["model.slots=4"]))
    save_checkpoint(tmp_path / "m.pth", Config(), model=model.state_dict())
    with pytest.raises(CheckpointError, match=r"m\.pth: its weights do not fit this model") as caught:
        checkpoints.load_model(tmp_path / "m.pth", torch.device("cpu"))
    assert "\n" not in str(caught.value)
    save_checkpoint(tmp_path / "none.pth", Config())
    with pytest.raises(CheckpointError, match="do not fit this model"):
        checkpoints.load_model(tmp_path / "none.pth", torch.device("cpu"))


class Hostile:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(tmp_path, old_format):
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    payload = {"format": checkpoints.FORMAT, "version": checkpoints.VERSION, "model": Hostile(trace)}
    torch.save(payload, path, _use_new_zipfile_serialization=not old_format)
    assert "not a checkpoint that can be loaded safely" in refusal(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)["model"].close()
    assert trace.exists(), "the file is harmless, so the test above shows nothing"


def test_a_plain_pickle_is_refused(tmp_path):
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Hostile(trace), protocol=2))
    refusal(path)
    assert not trace.exists()


def test_a_missing_checkpoint_is_answered_with_how_to_make_one(tmp_path):
    assert "make one with: python train_fixed.py" in refusal(tmp_path / "best_model.pth")
    refusal(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(saved, part):
    data = saved.read_bytes()
    saved.write_bytes(data[:int(part * len(data))])
    assert "not a checkpoint that can be loaded safely" in refusal(saved)


def test_bytes_that_are_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "best_model.pth"
    for content in (b"not a checkpoint", b"PK\x03\x04" + bytes(100), bytes(2000), os.urandom(2000)):
        path.write_bytes(content)
        refusal(path)


def test_a_flipped_bit_is_refused_or_leaves_a_checkpoint_of_the_same_form(saved):
    """The zip reader of PyTorch does not check sums, so a bit among the numbers goes unseen; nothing else may."""
    data = saved.read_bytes()
    for place in range(0, len(data), len(data) // 97):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        saved.write_bytes(damaged)
        try:
            payload = load_checkpoint(saved)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert payload["format"] == checkpoints.FORMAT


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, {}, [1, 2], torch.zeros(3), {"state_dict": {}}, 3, None],
                         ids=str)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.pth"
    torch.save(content, path)
    assert "not a checkpoint of train_fixed.py" in refusal(path)


@pytest.mark.parametrize(("content", "sign"), [
    ({"model_state_dict": {"backbone.weight": torch.zeros(1)}, "criterion": {"log_var_reg": torch.zeros(1)}},
     "log_var_reg"),
    ({"loss.log_var_existence": torch.zeros(1)}, "log_var_existence"),
    ({"model": {"criterion.log_vars": torch.zeros(3)}}, "log_vars"),
    ({"model": {"criterion.log_vars.0": torch.zeros(3)}}, "log_vars.0"),
    ({"log_sigma": torch.zeros(1)}, "log_sigma"),
    ({"epoch": 3, "val_loss": -2.47, "model": {}}, "-2.47"),
    ({"metrics": {"val_loss": -2.47}}, "-2.47"),
    ({"format": checkpoints.FORMAT, "version": 1, "best_val_loss": -2.47}, "-2.47"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_the_collapsed_checkpoint_is_refused_by_its_signs(tmp_path, content, sign):
    path = tmp_path / "best_model.pth"
    torch.save(content, path)
    message = refusal(path)
    assert sign in message
    assert "uncertainty-weighted loss" in message and "python train_fixed.py" in message


@pytest.mark.parametrize(("purpose", "words"), [
    ("used", "cannot be used here"),
    ("resumed", "cannot be resumed here"),
    ("started from", "cannot be started from here"),
])
def test_the_refusal_says_what_the_checkpoint_was_wanted_for(tmp_path, purpose, words):
    torch.save({"val_loss": -2.47}, tmp_path / "m.pth")
    assert words in refusal(tmp_path / "m.pth", purpose)


def test_our_own_checkpoints_show_no_such_sign(saved):
    assert checkpoints.signs_of_uncertainty_weighting(torch.load(saved, weights_only=True)) == ""
    assert checkpoints.signs_of_uncertainty_weighting({"val_loss": 0.0, "loss": {"existence": 1.0}}) == ""
    assert checkpoints.signs_of_uncertainty_weighting({"val_loss": float("nan"), "existence": -1}) == ""


def test_another_version_is_named(saved):
    payload = torch.load(saved, weights_only=True)
    torch.save(payload | {"version": 99}, saved)
    assert f"version 99, this software reads {checkpoints.VERSION}" in refusal(saved)


@pytest.mark.parametrize("inside", [None, 3, {"train": 3}, {"model": {"widht": 3}}])
def test_a_damaged_configuration_is_refused_in_one_line(saved, inside):
    payload = torch.load(saved, weights_only=True)
    torch.save(payload | {"config": inside}, saved)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(saved)
    assert str(caught.value).startswith(str(saved)) and "\n" not in str(caught.value)
    del payload["config"]
    torch.save(payload, saved)
    refusal(saved)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("enforce fail\nat inline")])
def test_a_failed_write_leaves_the_earlier_checkpoint(saved, monkeypatch, error):
    before = saved.read_bytes()

    def fails(_payload, file):
        file.write(b"half of a checkpo")
        raise error

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        save_checkpoint(saved, Config(), **WEIGHTS)
    assert "\n" not in str(caught.value) and str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_write_that_is_interrupted_leaves_the_earlier_checkpoint(saved, monkeypatch):
    before = saved.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, Config(), **WEIGHTS)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_not_there_is_a_refusal_too(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "absent" / "last.pth", Config())


# Devices and precision ---------------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=rf"train\.device is '{name}'.*auto or one of: cpu$"):
            runtime.pick_device(name)
    assert runtime.pick_device("auto") == runtime.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.pick_device("auto") == torch.device("mps")


def test_precision_follows_the_device():
    cpu = torch.device("cpu")
    assert runtime.precision("fp32", cpu) == torch.float32
    assert runtime.precision("bf16", cpu) == torch.bfloat16
    assert runtime.precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert runtime.precision("auto", torch.device("mps")) == torch.float32
    with pytest.raises(ConfigError, match="fp16"):
        runtime.precision("fp16", cpu)


def test_autocast_is_on_for_half_precision_only():
    a = torch.ones(2, 2)
    with runtime.autocast(torch.device("cpu"), torch.float32):
        assert (a @ a).dtype == torch.float32
    with runtime.autocast(torch.device("cpu"), torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16


def test_a_seed_repeats_every_source_of_chance():
    import random

    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()

    runtime.seed_everything(3)
    first = draws()
    runtime.seed_everything(3)
    assert draws() == first
    runtime.seed_everything(4)
    assert draws() != first


# The command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "expected"), [
    ("train.epochs=3", True), ("data.root=[a=b, c]", True), ("train.epochs=", True), ("data.split=clip>=42000", True),
    ("train.epochs", False), ("epochs=3", False), ("=", False), (".=", False), ("a/b.c=d.jpg", False),
    ("../x.y=1", False), ("image.jpg", False), ("C:\\x.y=1", False), ("", False), ("2024.05=a.jpg", False),
])
def test_overrides_are_told_from_paths(word, expected):
    assert runtime.is_override(word) is expected


def test_overrides_and_images_may_be_mixed_with_options():
    arguments = runtime.parser("test")
    arguments.add_argument("words", nargs="*")
    arguments.add_argument("--flag", action="store_true")
    options, overrides = runtime.parse(arguments, ["a.jpg", "train.seed=1", "--flag", "b.jpg", "--config", "x.yaml"])
    assert options.words == ["a.jpg", "b.jpg"] and overrides == ["train.seed=1"]
    assert options.flag and options.config == "x.yaml"


@pytest.mark.parametrize(("error", "line"), [
    (ValueError("what and why"), "error: what and why\n"),
    (FileNotFoundError("x.yaml: no such configuration file"), "error: x.yaml: no such configuration file\n"),
    (PermissionError(13, "Permission denied", "/x"), "error: /x: Permission denied\n"),
])
def test_user_errors_are_one_line_and_status_one(capsys, error, line):
    def fails():
        raise error

    with pytest.raises(SystemExit) as caught:
        runtime.run(fails)
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", line)


def test_a_closed_pipe_is_left_quietly(capsys):
    def fails():
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as caught:
        runtime.run(fails)
    assert caught.value.code == 1
    assert capsys.readouterr().err == ""


def test_an_interrupt_before_training_is_left_quietly(capsys):
    """Rendering and caching take minutes, and Ctrl-C there is no error of ours."""
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        runtime.run(interrupted)
    assert caught.value.code == 130
    assert capsys.readouterr().err.count("\n") <= 1


def test_our_own_mistakes_keep_their_traceback():
    def fails():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        runtime.run(fails)


@pytest.mark.parametrize("status", [0, 1, 130, None])
def test_the_status_of_main_is_the_exit_status(status):
    with pytest.raises(SystemExit) as caught:
        runtime.run(lambda: status)
    assert caught.value.code == status


# Interrupts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_a_wish_and_the_second_one_an_order(number, status):
    before = signal.getsignal(number)
    with runtime.Interrupt().caught() as interrupt:
        assert interrupt.signal == 0
        os.kill(os.getpid(), number)
        assert interrupt.signal == number
        assert interrupt.status == status
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError), runtime.Interrupt().caught():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is before


# The cache of pixels -----------------------------------------------------------------------------------------


def write_image(path, grey, size=(64, 36)):
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), grey, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three grey images with one lane each, and their entries."""
    root = tmp_path / "images"
    root.mkdir()
    for i in range(3):
        write_image(root / f"{i}.png", 40 * i + 20)
        (root / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n")
    return root


def opened(root, width=32, height=32, slots=6, limit_gb=1.0):
    return cache.open_cache(formats.entries(root), width, height, slots, root.parent / "cache", limit_gb)


def greys(pixels):
    return pixels.images[:, 5, 5, 0].tolist()


def touch_later(path):
    """Move the time of change on, as a clock of coarse steps might not."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_the_cache_holds_what_reading_gives(folder):
    pixels = opened(folder)
    assert pixels.images.shape == (3, 32, 32, 3) and greys(pixels) == [20, 60, 100]
    assert pixels.exists.sum(1).tolist() == [1, 1, 1]
    assert pixels.sizes_px.tolist() == [[64, 36]] * 3
    assert (pixels.left_out, pixels.too_short) == (0, 0)


def test_the_second_time_nothing_is_decoded(folder, monkeypatch):
    opened(folder)

    def decodes(*_):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(cache, "read_item", decodes)
    assert greys(opened(folder)) == [20, 60, 100]


def test_a_changed_image_is_read_again(folder):
    opened(folder)
    write_image(folder / "1.png", 200)
    touch_later(folder / "1.png")
    assert greys(opened(folder)) == [20, 200, 100]


def test_a_changed_label_is_read_again(folder):
    first = opened(folder)
    (folder / "2.lines.txt").write_text("20 35 25 25 30 15\n50 35 45 25 40 15\n")
    second = opened(folder)
    assert first.exists.sum() == 3 and second.exists.sum() == 4


def test_other_sizes_slots_and_images_have_their_own_cache(folder):
    opened(folder)
    assert opened(folder, width=64).images.shape == (3, 32, 64, 3)
    assert opened(folder, height=64).images.shape == (3, 64, 32, 3)
    assert opened(folder, slots=4).exists.shape == (3, 4)
    write_image(folder / "3.png", 220)
    (folder / "3.lines.txt").write_text("20 35 25 25 30 15\n")
    assert greys(opened(folder)) == [20, 60, 100, 220]
    (folder / "0.lines.txt").unlink()
    assert greys(opened(folder)) == [60, 100, 220]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), DataError("x: broken")])
def test_an_interrupted_cache_is_no_cache(folder, monkeypatch, error):
    read = cache.read_item
    entries = formats.entries(folder)

    def stops(entry, *rest):
        if entry == entries[2]:
            raise error
        return read(entry, *rest)

    monkeypatch.setattr(cache, "read_item", stops)
    with pytest.raises((KeyboardInterrupt, DataError)):
        opened(folder)
    assert list((folder.parent / "cache").iterdir()) == []
    monkeypatch.setattr(cache, "read_item", read)
    assert greys(opened(folder)) == [20, 60, 100]


@pytest.mark.parametrize("name", [f"{name}.npy" for name in cache.FILES] + ["meta.json"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "other", "gone"])
def test_a_damaged_cache_is_built_again_and_that_is_said(folder, name, damage, capsys):
    opened(folder)
    path = next((folder.parent / "cache").iterdir()) / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": data[:len(data) // 2], "other": b"[1, 2]"}[damage])
    assert greys(opened(folder)) == [20, 60, 100]
    assert ("is damaged; it is built again" in capsys.readouterr().err)


def test_a_cache_over_its_limit_is_not_built(folder, capsys):
    assert opened(folder, limit_gb=1e-6) is None
    assert "data.cache_gb" in capsys.readouterr().err
    assert not (folder.parent / "cache").exists()


def test_a_cache_folder_that_cannot_be_made_is_one_line(folder):
    (folder.parent / "cache").write_text("a file in its place")
    with pytest.raises(DataError, match=r"cannot be written.*data\.cache_dir"):
        opened(folder)


def test_a_broken_image_is_named(folder):
    (folder / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: not an image"):
        opened(folder)
