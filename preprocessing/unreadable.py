"""Which images or labels of a data set cannot be read, for data.on_error=skip."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from formats.base import Sample
from preprocessing.cache import files_digest
from preprocessing.chunks import reasons
from preprocessing.samples import why_unreadable
from runtime import distributed
from runtime.files import write_text
from runtime.prefetch import prefetch
from runtime.processes import in_processes, processes_for

CHUNK = 32  # images that a process looks at before it reports


def unreadable(samples: Sequence[Sample], folder: Path | None) -> dict[int, str]:
    """The row of each sample whose image or label cannot be read, and why.

    Every image is decoded for it, once: the result is kept in `folder`, if there is one, under a hash of all files.
    Those that could not be read are tried again: a disk may be back, or a file's rights may have been mended.
    Raises DataError where a file has gone since it was listed, and OSError where the result cannot be written.
    """
    path = folder / f"unreadable-{files_digest(samples)}.json" if folder else None
    if path and (rows := _kept_rows(path)) is not None:
        again = prefetch(partial(why_unreadable, samples[row]) for row in rows)
        return {row: reason for row, reason in zip(rows, again, strict=True) if reason}
    found = tqdm(_reasons(samples), "Looking for broken images", len(samples), unit="img", file=sys.stderr,
                 disable=distributed.progress_disabled())
    broken = {row: reason for row, reason in enumerate(found) if reason}
    if path:
        write_text(path, json.dumps(broken))
    return broken


def _kept_rows(path: Path) -> list[int] | None:
    """The rows that an earlier run could not read; None where none has looked, or its file is damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [int(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return None


def _reasons(samples: Sequence[Sample]) -> Iterator[str]:
    """What is wrong with each sample, in order; by processes where they pay, else by threads."""
    starts = range(0, len(samples), CHUNK)
    count = min(processes_for(len(samples)), len(starts))
    if not count:
        yield from prefetch(partial(why_unreadable, sample) for sample in samples)
        return
    chunks = (samples[start:start + CHUNK] for start in starts)
    with contextlib.closing(in_processes(reasons, chunks, count, "reads images")) as parts:
        for part in parts:
            yield from part
