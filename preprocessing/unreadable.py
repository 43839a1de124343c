"""Which images or labels of a data set cannot be read, for data.on_error=skip."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from formats.base import DataError, Sample
from formats.registry import read_label
from preprocessing.cache import files_digest
from preprocessing.images import read_image
from runtime.files import write_text
from runtime.prefetch import prefetch


def unreadable(samples: Sequence[Sample], folder: Path | None) -> dict[int, str]:
    """The row of each sample whose image or label cannot be read, and why.

    Every image is decoded for it, once: the result is kept in `folder`, if there is one, under a hash of all files.
    Raises DataError where a file has gone since it was listed, and OSError where the result cannot be written.
    """
    path = folder / f"unreadable-{files_digest(samples)}.json" if folder else None
    if path and path.is_file():
        return {int(row): reason for row, reason in json.loads(path.read_text(encoding="utf-8")).items()}
    reasons = prefetch(partial(_reason, sample) for sample in samples)
    reasons = tqdm(reasons, "Looking for broken images", len(samples), unit="img", file=sys.stderr)
    broken = {row: reason for row, reason in enumerate(reasons) if reason}
    if path:
        write_text(path, json.dumps(broken))
    return broken


def _reason(sample: Sample) -> str:
    try:
        read_label(sample)
        read_image(sample.image)
    except DataError as error:
        return str(error)
    return ""
