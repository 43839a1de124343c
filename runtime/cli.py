"""The command line of a script, and how errors end it."""

import argparse
import contextlib
import glob
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from config import Config, ConfigError, file_or_default, given_keys, load_config


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with what every script takes: --config FILE. The script adds `words`, its positional arguments."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--config", metavar="FILE", help="settings (default: config.yaml, where this folder has one)")
    return result


def parse(arguments: argparse.ArgumentParser, argv: Sequence[str] | None, inputs: bool = True
          ) -> tuple[argparse.Namespace, list[str]]:
    """The parsed options and the section.key=value overrides; `options.words` keeps the other positional arguments.

    Where the script takes inputs, a word that names a file is one of them, whatever it looks like, and all words after
    `--` are. Raises ConfigError for such an argument where it takes none.
    """
    argv, names = list(sys.argv[1:] if argv is None else argv), []
    if inputs and "--" in argv:  # which Python 3.11 loses
        argv, names = argv[:argv.index("--")], argv[argv.index("--") + 1:]
    options = arguments.parse_intermixed_args(argv)
    overrides = [word for word in options.words if is_override(word) and not (inputs and is_path(word))]
    options.words = [word for word in options.words if not is_override(word) or (inputs and is_path(word))]
    options.words += names
    if options.words and not inputs:
        raise ConfigError(f"'{options.words[0]}' is not an override; write section.key=value")
    return options, overrides


def is_path(word: str) -> bool:
    """Whether a word names a file or folder that exists, or is a pattern that one fits, such as a.b=*.jpg."""
    return os.path.exists(word) or (glob.has_magic(word) and next(glob.iglob(word), None) is not None)


def is_override(word: str) -> bool:
    """Whether a word on the command line reads section.key=value, with names that YAML keys have."""
    name, equals, _ = word.partition("=")
    section, dot, key = name.partition(".")
    return bool(equals and dot and section.isidentifier() and key.isidentifier())


def run(main: Callable[[], int | None]) -> None:
    """Exit with the status that main returns; user errors become one line on stderr and status 1, with no traceback.

    KeyboardInterrupt ends with status 130. Errors of our own keep their traceback.
    """
    try:
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends nothing
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has ended, as head does; Python would complain when it flushes
        with contextlib.suppress(OSError):  # stdout has no file descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        status = 130
    except torch.OutOfMemoryError:
        print(f"error{_rank()}: the device has no memory left; lower train.batch_size or the model's size, or set "
              "data.on_device=false", file=sys.stderr)
        status = 1
    except (ValueError, OSError) as error:
        print(f"error{_rank()}: {_one_line(error)}", file=sys.stderr)
        status = 1
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            print(f"error{_rank()}: train.compile=true does not work here: {' '.join(str(error).split())[:200]}; "
                  "leave it out", file=sys.stderr)
        elif "DataLoader worker" in str(error):
            print(f"error{_rank()}: a process that reads images was killed (no memory left?); lower data.workers, or "
                  "set it to 0", file=sys.stderr)
        else:
            raise
        status = 1
    sys.exit(status)


def _rank() -> str:
    """The words "in process N" for one of several that torchrun started; empty for a single one."""
    return f" in process {os.environ['RANK']}" if os.environ.get("WORLD_SIZE", "1") != "1" else ""


def _one_line(error: ValueError | OSError) -> str:
    """The message of an error in one line; of an OSError its file and reason."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    text = str(error).rstrip()
    if text.startswith("Caught "):  # in a data loader's process: a whole traceback, which ends with the message
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.splitlines())


def load_settings(options: argparse.Namespace, overrides: Sequence[str]) -> Config:
    """The Config of --config, or else of config.yaml in this folder, or else the defaults; with the overrides."""
    return load_config(file_or_default(options.config), overrides)


def model_settings(options: argparse.Namespace, overrides: Sequence[str], settings: Config) -> dict[str, Any]:
    """The settings of the network that --config or the command line name; config.yaml, which names all, asks for none.

    A checkpoint has its own, and what is asked for must not differ.
    """
    keys = [key for section, key in given_keys(options.config, overrides) if section == "model"]
    return {key: getattr(settings.model, key) for key in sorted(keys)}
