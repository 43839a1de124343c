"""The folder of a training run: writable before any work, an earlier run's files put aside, the log of its epochs."""

import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from runtime import distributed
from training import epoch_pictures, tensorboard


class TrainingError(ValueError):
    """A run that must not go on; the message names what was seen and what to look at."""


def writable_dir(name: str) -> Path:
    """The checkpoint folder, made if need be. Raises TrainingError before any work where it cannot be written."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a name of its own: several processes may try at once
            pass
    except OSError as error:
        raise TrainingError(f"{folder}: checkpoints cannot be written here ({error.strerror}); "
                            "set train.checkpoint_dir to a folder that can") from None
    return folder


def archive_previous_run(folder: Path) -> None:
    """Move an earlier run's files to a folder of their own: a new run must not cost anybody a model."""
    names = ("best_model.pth", "last.pth", "log.jsonl", *epoch_pictures.PICTURES, tensorboard.TENSORBOARD_DIR)
    files = [folder / name for name in names if (folder / name).exists()]
    if not files or distributed.rank() > 0:
        return
    number = next(n for n in itertools.count(1) if not (folder / f"earlier-{n}").exists())
    aside = folder / f"earlier-{number}"
    aside.mkdir()
    for file in files:
        file.replace(aside / file.name)
    print(f"the earlier run's files are now in {aside}")


def write_log(path: Path, record: dict[str, Any]) -> None:
    """Append a record as one JSON line, after those of the epochs before it; the first epoch begins a new file."""
    if distributed.rank() > 0:
        return
    kept = []
    try:
        if record["epoch"] > 1 and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["epoch"] < record["epoch"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: damaged ({error}); move it away and continue with --resume") from None
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text("\n".join([*kept, json.dumps(finite)]) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror}); the checkpoints are as they were. "
                            "Make room in this folder and continue with --resume") from None
