"""What the scripts stand on: devices, precision, the command line, interrupts."""

import os
import signal

import numpy as np
import pytest
import torch

from config import ConfigError
from runtime import cli, device, signals

# Devices and precision ---------------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=rf"train\.device is '{name}'.*auto or one of: cpu$"):
            device.pick_device(name)
    assert device.pick_device("auto") == device.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick_device("auto") == torch.device("mps")


def test_precision_follows_the_device(monkeypatch):
    cpu = torch.device("cpu")
    assert device.pick_precision("fp32", cpu) == torch.float32
    assert device.pick_precision("bf16", cpu) == torch.bfloat16
    for multiplies_bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(device, "_cpu_multiplies_bf16", lambda multiplies_bf16=multiplies_bf16: multiplies_bf16)
        assert device.pick_precision("auto", cpu) == dtype
    assert device.pick_precision("auto", torch.device("mps")) == torch.float32
    with pytest.raises(ConfigError, match="fp16"):
        device.pick_precision("fp16", cpu)


def test_autocast_is_on_for_half_precision_only():
    a = torch.ones(2, 2)
    with device.autocast(torch.device("cpu"), torch.float32):
        assert (a @ a).dtype == torch.float32
    with device.autocast(torch.device("cpu"), torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16


def test_a_seed_repeats_every_source_of_chance():
    import random

    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()

    device.seed_everything(3)
    first = draws()
    device.seed_everything(3)
    assert draws() == first
    device.seed_everything(4)
    assert draws() != first


# The command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "expected"), [
    ("train.epochs=3", True), ("data.root=[a=b, c]", True), ("train.epochs=", True), ("data.split=clip>=42000", True),
    ("train.epochs", False), ("epochs=3", False), ("=", False), (".=", False), ("a/b.c=d.jpg", False),
    ("../x.y=1", False), ("image.jpg", False), ("C:\\x.y=1", False), ("", False), ("2024.05=a.jpg", False),
])
def test_overrides_are_told_from_paths(word, expected):
    assert cli.is_override(word) is expected


def test_overrides_and_images_may_be_mixed_with_options():
    arguments = cli.parser("test")
    arguments.add_argument("words", nargs="*")
    arguments.add_argument("--flag", action="store_true")
    options, overrides = cli.parse(arguments, ["a.jpg", "train.seed=1", "--flag", "b.jpg", "--config", "x.yaml"])
    assert options.words == ["a.jpg", "b.jpg"] and overrides == ["train.seed=1"]
    assert options.flag and options.config == "x.yaml"
    options, overrides = cli.parse(arguments, ["a.jpg", "train.seed=1", "--", "-dash.jpg", "--flag", "b.c=d"])
    assert options.words == ["a.jpg", "-dash.jpg", "--flag", "b.c=d"] and overrides == ["train.seed=1"]
    assert not options.flag
    with pytest.raises(ConfigError, match=r"'a\.jpg' is not an override; write section\.key=value"):
        cli.parse(arguments, ["train.seed=1", "a.jpg"], inputs=False)


def test_a_file_that_looks_like_an_override_is_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.b=c.jpg").touch()
    arguments = cli.parser("test")
    arguments.add_argument("words", nargs="*")
    options, overrides = cli.parse(arguments, ["a.b=c.jpg", "a.b=*.jpg", "data.root=[a, b]", "a.b=d.jpg"])
    assert options.words == ["a.b=c.jpg", "a.b=*.jpg"] and overrides == ["data.root=[a, b]", "a.b=d.jpg"]
    assert cli.parse(arguments, ["a.b=c.jpg"], inputs=False)[1] == ["a.b=c.jpg"]


@pytest.mark.parametrize(("words", "expected"), [
    (["model.width=640", "train.seed=1", "model.sky=0"], {"cut_top": 0.0, "width": 640}), ([], {}),
    (["--config", "own.yaml", "model.slots=8"], {"slots": 8, "zoom": 2.0}),
])
def test_settings_of_the_network_that_are_asked_for(tmp_path, monkeypatch, words, expected):
    """config.yaml of the folder, which is read where none is named, asks for nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("model: {width: 640}")
    (tmp_path / "own.yaml").write_text("model: {zoom: 2, slots: 4}\ntrain: {seed: 3}")
    arguments = cli.parser("test")
    arguments.add_argument("words", nargs="*")
    options, overrides = cli.parse(arguments, words)
    assert cli.model_settings(options, overrides, cli.load_settings(options, overrides)) == expected


@pytest.mark.parametrize(("error", "line"), [
    (ValueError("what and why"), "error: what and why\n"),
    (FileNotFoundError("x.yaml: no such configuration file"), "error: x.yaml: no such configuration file\n"),
    (PermissionError(13, "Permission denied", "/x"), "error: /x: Permission denied\n"),
])
def test_user_errors_are_one_line_and_status_one(capsys, error, line):
    def fails():
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(fails)
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", line)


def test_a_compiler_that_fails_is_one_line(capsys):
    """torch.compile raises many kinds of error, all of them PyTorch's own."""
    failure = type("BackendCompilerFailed", (RuntimeError,), {"__module__": "torch._dynamo.exc"})

    def fails():
        raise failure("inductor:\nno C++ compiler")

    with pytest.raises(SystemExit) as caught:
        cli.run(fails)
    assert caught.value.code == 1
    assert capsys.readouterr().err == ("error: train.compile=true does not work here: inductor: no C++ compiler; "
                                       "leave it out\n")


def test_a_closed_pipe_is_left_quietly(capsys):
    def fails():
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as caught:
        cli.run(fails)
    assert caught.value.code == 1
    assert capsys.readouterr().err == ""


def test_an_interrupt_before_training_is_left_quietly(capsys):
    """Rendering and caching take minutes, and Ctrl-C in them is no error of ours."""
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        cli.run(interrupted)
    assert caught.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_our_own_mistakes_keep_their_traceback():
    def fails():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        cli.run(fails)


@pytest.mark.parametrize("status", [0, 1, 130, None])
def test_the_status_of_main_is_the_exit_status(status):
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda: status)
    assert caught.value.code == status


# Interrupts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_a_wish_and_the_second_one_an_order(number, status):
    before = signal.getsignal(number)
    with signals.Interrupt().caught() as interrupt:
        assert interrupt.signal == 0
        os.kill(os.getpid(), number)
        assert interrupt.signal == number
        assert interrupt.status == status
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError), signals.Interrupt().caught():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is before
