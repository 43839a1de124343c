"""The folder of a training run: every file that a run reads or writes there."""

import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from config import Config
from evaluation.evaluator import Evaluation
from runtime import checkpoint, distributed
from runtime.files import FolderInUse, json_text, sole_user, write_text
from training.epoch_pictures import PICTURES, write_epoch_pictures
from training.state import TrainProgress, TrainState, load_last, to_payload
from training.tensorboard import TENSORBOARD_DIR, require_tensorboard, write_scalars


class TrainingError(ValueError):
    """A run that must not go on; the message names what happened and what to look at."""


@contextlib.contextmanager
def sole_training(folder: str | Path) -> Iterator[None]:
    """Raises TrainingError where another process trains into the folder: each would take the other's files for those of
    an earlier run.
    """
    try:
        with sole_user(Path(folder)) if distributed.rank() == 0 else contextlib.nullcontext():
            yield
    except FolderInUse:
        raise TrainingError(f"{folder}: another training is writing here; wait for its end, or give this one a folder "
                            "of its own with train.checkpoint_dir") from None


class RunDir:
    """best_model.pth, last.pth, log.jsonl, pictures and TensorBoard's scalars in one folder; rank 0 alone writes.

    in_background: the files of an epoch are written by a thread while the next one trains, and `close` waits for the
    last ones. That is for a GPU: on a CPU training takes a fifth longer once another thread has written.
    """

    def __init__(self, config: Config, in_background: bool = False):
        """Make the folder if need be. Raises TrainingError, before any work, where it cannot be written."""
        self.path, self.config = Path(config.train.checkpoint_dir), config
        self.best, self.last, self.log = (self.path / name for name in ("best_model.pth", "last.pth", "log.jsonl"))
        self.scalars = None
        self.writer = ThreadPoolExecutor(1, "epoch files") if in_background else None
        self.pending = _written()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):  # a name of its own: several processes may try at once
                pass
        except OSError as error:
            raise TrainingError(f"{self.path}: checkpoints cannot be written here ({error.strerror}); "
                                "set train.checkpoint_dir to a folder that can") from None
        if config.train.tensorboard:
            require_tensorboard()

    def load_last(self) -> dict[str, Any]:
        """The payload of last.pth. Raises CheckpointError where the settings are not those of the interrupted run."""
        return load_last(self.last, self.config)

    def remove_unfinished(self) -> None:
        """Remove what a killed run had begun to write."""
        if distributed.rank() == 0:
            for path in (self.best, self.last, self.log):
                for part in self.path.glob(f".{path.stem}.*.part{path.suffix}"):
                    part.unlink(missing_ok=True)

    def archive_previous_run(self) -> None:
        """Move an earlier run's files to a folder of their own: a new run must not cost anybody a model."""
        names = (self.best.name, self.last.name, self.log.name, *PICTURES, TENSORBOARD_DIR)
        files = [self.path / name for name in names if (self.path / name).exists()]
        if not files or distributed.rank() > 0:
            return
        number = next(n for n in itertools.count(1) if not (self.path / f"earlier-{n}").exists())
        archive = self.path / f"earlier-{number}"
        archive.mkdir()
        for file in files:
            file.replace(archive / file.name)
        print(f"the earlier run's files are now in {archive}")

    def open_scalars(self, epoch: int) -> None:
        """Begin or continue TensorBoard's scalars, if they are requested, with those of this epoch."""
        if self.config.train.tensorboard and distributed.rank() == 0:
            self.scalars = require_tensorboard()(self.path / TENSORBOARD_DIR, purge_step=epoch)

    def save_last(self, state: TrainState, progress: TrainProgress) -> None:
        """Write last.pth: everything that --resume needs. It follows the files of the epoch before.

        Where a second Ctrl-C ends the wait for those, the last.pth among them stays.
        """
        try:
            self.close()
        finally:
            if self.pending.done():
                checkpoint.save_checkpoint(self.last, self.config, **to_payload(state, progress))

    def write_epoch(self, state: TrainState, progress: TrainProgress, record: dict[str, Any], evaluation: Evaluation,
                    is_best: bool) -> None:
        """Write all files of a finished epoch, or begin to. Raises what writing those of the last one has raised."""
        self.close()
        if distributed.rank() > 0:
            return
        contents = to_payload(state, progress)
        if self.writer:  # a copy, which the next step does not change
            self.pending = self.writer.submit(self._write_epoch, on_host(contents), record, evaluation, is_best)
        else:
            self._write_epoch(contents, record, evaluation, is_best)

    def close(self) -> None:
        """Wait until all files are written. Raises CheckpointError or TrainingError where one could not be."""
        try:
            self.pending.result()
        finally:
            if self.pending.done():  # else the wait was interrupted
                self.pending = _written()

    def _write_epoch(self, contents: dict[str, Any], record: dict[str, Any], evaluation: Evaluation, is_best: bool
                     ) -> None:
        """The best model first, the state to resume from after the log."""
        if is_best:
            checkpoint.save_checkpoint(self.best, self.config, scores=record,
                                       model=checkpoint.validated_weights(contents))
        self.append_log(record)
        checkpoint.save_checkpoint(self.last, self.config, **contents)
        write_epoch_pictures(self.path, evaluation, is_best)
        if self.scalars:
            write_scalars(self.scalars, record)

    def append_log(self, record: dict[str, Any]) -> None:
        """Append a record as one JSON line after those of the epochs before it; the first epoch begins a new file."""
        if distributed.rank() > 0:
            return
        earlier = []
        try:
            if record["epoch"] > 1 and self.log.is_file():
                lines = self.log.read_text(encoding="utf-8").splitlines()
                earlier = [line for line in lines if json.loads(line)["epoch"] < record["epoch"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{self.log}: damaged ({error}); move it away and continue with --resume") from None
        try:
            write_text(self.log, "\n".join([*earlier, json_text(record)]) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.log}: cannot be written ({error.strerror}); the checkpoints are as they were. "
                                "Make room in this folder and continue with --resume") from None


def _written() -> Future:
    """That of files which are written."""
    future = Future()
    future.set_result(None)
    return future


def on_host(contents: Any) -> Any:
    """A copy of nested dictionaries, lists and tuples with copies of their tensors on the CPU."""
    if isinstance(contents, torch.Tensor):
        return contents.detach().to("cpu", copy=True)
    if isinstance(contents, dict):
        return {key: on_host(value) for key, value in contents.items()}
    return type(contents)(map(on_host, contents)) if isinstance(contents, (list, tuple)) else contents
