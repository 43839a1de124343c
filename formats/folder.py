"""A folder of one's own: X.lines.txt beside X.jpg in any sub-folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from formats.base import DataError, Sample
from formats.parsing import IMAGE_SUFFIXES


def read_folder(root: Path, images: bool) -> Iterator[Sample | DataError]:
    """A folder of one's own, searched with its subfolders: X.lines.txt beside the image X."""
    for path in _files_below(root, ".lines.txt"):
        stem = path.name.removesuffix(".lines.txt")
        beside = [path.with_name(stem + s) for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
        image = next((p for p in beside if p.is_file()), None if images else beside[0])
        if image is None:
            yield DataError(f"{path}: no image {stem}.jpg, .png, .bmp or .webp beside it")
        else:
            yield Sample(image, path, image.relative_to(root).as_posix(), ("folder",))


def _files_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Files whose names end so, sorted as paths are, with the names of one folder a level in memory."""
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except PermissionError:  # such as lost+found: nobody's data
        return
    for child in children:
        if child.name.endswith(suffix):
            yield folder / child.name
        elif child.is_dir(follow_symlinks=False):
            yield from _files_below(folder / child.name, suffix)
