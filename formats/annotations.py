"""What the files of labelling tools share: names of shapes that are no lanes, lines of points, where images are.

N points, 2 = (x, y) in pixels.
"""

import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np

from formats.base import DataError, MissingFile, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet
from formats.files import IMAGE_SUFFIXES, PassedOver, Tree, inner_path
from formats.folder import UNLABELLED
from formats.list_names import folder_purpose, purpose
from formats.parsing import CONTROL, MAX_POINTS, numbers

NOT_A_LANE = re.compile(r"cross.?walk|zebra|curb|kerb|stop.?lines?\b|stop.?bar", re.IGNORECASE)
LABEL_FOLDERS = {"labels", "label", "annotations", "annotation", "ann", "json", "jsons"}
IMAGE_FOLDERS = ("images", "image", "img", "imgs")
PARTS = ("train", "val", "valid", "test")


def is_no_lane(name: object) -> bool:
    """Whether a shape's name says that it is no lane, though it may be drawn as a line: a crosswalk, a curb ..."""
    return isinstance(name, str) and NOT_A_LANE.search(name) is not None


def shape_name(name: object, other: str) -> str:
    """A shape's name as it is counted and printed, in one short line; `other` where it has none."""
    return " ".join(CONTROL.sub(" ", name).split())[:40] or other if isinstance(name, str) else other


def points_of_pairs(pairs: object, where: str) -> np.ndarray:
    """(N, 2) float32 of a list [[x, y], ...]; what follows x and y in a pair is not looked at."""
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) >= 2 for pair in pairs):
        raise DataError(f"{where} is not a list of points [x, y]")
    if len(pairs) > MAX_POINTS:
        raise DataError(f"{where} has more than {MAX_POINTS} points")
    return numbers([value for x, y, *_ in pairs for value in (x, y)], where).reshape(-1, 2).astype(np.float32)


def pixel_size(width: object, height: object) -> tuple[int, int] | None:
    """(width, height) of an image as a label gives it; None where it does not."""
    sizes = [value for value in (width, height) if isinstance(value, int) and 0 < value <= 1e5]
    return (sizes[0], sizes[1]) if len(sizes) == 2 else None


def label_files(root: Path, suffix: str) -> Iterator[Path]:
    """The files below the root with this suffix, sorted."""
    return (path for path in Tree(root).files() if path.suffix.lower() == suffix)


class AnnotationFiles(DataSet):
    """A data set that is the files of a labelling tool, which lie anywhere below the root.

    What is listed are the images that these files name, and then the others below the root, each as passed over.
    """

    suffix: str  # of its files, in lower case
    sniffed: int  # files that are looked into to recognize a folder
    metric = CULaneMetric()

    @abstractmethod
    def has_labels(self, path: Path) -> bool:
        """Whether a file with the suffix is one of this data set."""

    @abstractmethod
    def list_labelled(self, root: Path) -> Iterator[Sample | DataError]:
        """The samples of the images that the files name."""

    def detect(self, root: Path) -> bool:
        return any(map(self.has_labels, islice(label_files(root, self.suffix), self.sniffed)))

    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        named: set[int] = set()  # hashes, which take a fifth of the room of paths
        for item in self.list_labelled(root):
            if isinstance(item, Sample):
                named.add(hash(os.path.normpath(item.image)))
            yield item
        passed_over: list[PassedOver] = []
        for path in Tree(root, passed_over.append).files():
            if path.suffix.lower() in IMAGE_SUFFIXES and hash(os.path.normpath(path)) not in named:
                yield PassedOver(path, UNLABELLED)
        yield from passed_over


class ImageFinder:
    """Finds the images that a label file names, whichever of the usual folders they lie in below the root.

    These are the label's own folder, the root, their images/, and the folder that lies beside labels/ as the label
    does in it. Each of them is also searched for the part that the label is of, such as val/. A list of many images
    (is_list) whose name says no part may be of all of them.
    """

    def __init__(self, root: Path, label: Path, is_list: bool = True):
        root, label = (Path(os.path.normpath(path)) for path in (root, label))
        self.root, self.own, self._label = root, label.parent, label
        self._with_images: dict[PurePath, bool] = {}
        folders = dict.fromkeys([label.parent, *_beside_labels(root, label.parent), root,
                                 *(base / name for base in (label.parent, root) for name in IMAGE_FOLDERS)])
        names = (label.stem, "" if label.parent == root else label.parent.name)
        words = {word for text in names for word in re.split(r"[^a-z]+", text.lower())}
        parts = [part for part in PARTS if part in words]
        self.folders = [*folders, *_parts_of(folders, (*parts, "default"))]
        self.all_parts = [] if parts or not is_list else list(filter(Path.is_dir, _parts_of(folders, PARTS)))

    def beside(self, name: object) -> Path | None:
        """The image that a path from the label's own folder leads to, with or without its suffix, or else the one in
        that folder of its file's name; None where neither is an image.
        """
        if not isinstance(name, str) or not name or CONTROL.search(name) or len(name) > 1000:
            return None
        path, suffixes = _path_and_suffixes(name)
        return next((image for relative in dict.fromkeys((path, path.name)) for suffix in suffixes
                     for image in self._existing([self.own], f"{relative}{suffix}")), None)

    @cached_property
    def labels_are_beside(self) -> bool:
        """Whether an image in the label's own folder has a label of its name beside it, as all are to have then."""
        return any(self._label.with_name(name).with_suffix(self._label.suffix).is_file()
                   for name in _images_in(self.own))

    def find(self, name: object, where: str, subset: str | None = None) -> Path:
        """The image of that name, or else where it might be. Raises DataError for what is no name.

        It is first looked for in a folder called as the subset, if the label names one. A path of another machine or
        another folder is also tried as the file's name alone, but where the folder that it names has images: there it
        is missing. A name without the suffix of an image gets one.
        """
        if not isinstance(name, str) or not name.strip() or CONTROL.search(name) or len(name) > 1000:
            raise DataError(f"{where}: {str(name)[:40]!r} is no name of an image")
        if subset and (image := next(self._existing(self.folders, f"{subset}/{name}"), None)):
            return image
        is_plain = name.lower().endswith(IMAGE_SUFFIXES) and not re.search(r"^/|\\|:|(^|/)\.{0,2}(/|$)", name)
        if is_plain and os.path.isfile(usual := f"{self.folders[0]}/{name}"):
            return Path(usual)  # of many thousands
        path, suffixes = _path_and_suffixes(name)
        inner = inner_path(path)
        for relative in dict.fromkeys((path, inner, PurePosixPath(path.name))):
            if relative != inner and relative != path and self._has_images(inner.parent):
                return Path(os.path.normpath(self.folders[0] / f"{inner}{suffixes[0]}"))
            for i, folder in enumerate(self.folders):
                for suffix in suffixes:
                    image = Path(os.path.normpath(folder / f"{relative}{suffix}"))
                    if os.path.isfile(image) and self._is_below_root(image):
                        self.folders.insert(0, self.folders.pop(i))  # where the next ones will be
                        return image
        matches = list(self._existing(self.all_parts, path.name))
        if len(matches) > 1:
            raise DataError(f"{where}: the image {name!r} may be {matches[0]} or {matches[1]}; "
                            "write its folder as well")
        return matches[0] if matches else Path(os.path.normpath(self.folders[0] / f"{inner}{suffixes[0]}"))

    def _existing(self, folders: Iterable[Path], relative: str) -> Iterator[Path]:
        """The files below the root that have this path in one of the folders."""
        images = (Path(os.path.normpath(folder / relative)) for folder in folders)
        return (image for image in images if os.path.isfile(image) and self._is_below_root(image))

    def _is_below_root(self, path: Path) -> bool:
        """Whether a normalized path lies below the root, which may be "." or "..", where "../x" seems to."""
        return path.is_relative_to(self.root) and ".." not in path.relative_to(self.root).parts

    def _has_images(self, relative: PurePath) -> bool:
        """Whether a folder of that path in one of the usual ones has images itself."""
        if relative not in self._with_images:
            self._with_images[relative] = any(map(_images_in, (folder / relative for folder in self.folders)))
        return self._with_images[relative]

    def name(self, image: Path) -> str:
        """What the data set calls an image that was found: its path below the root."""
        return image.relative_to(self.root).as_posix()

    def checked(self, sample: Sample, name: object, where: str) -> Sample | MissingFile:
        """The sample, or the error where its image, called so in the label, is not there."""
        if os.path.isfile(sample.image):
            return sample
        return MissingFile(f"{where}: the image {str(name)[:200]!r} is missing: not beside the label, nor in images/ "
                           f"or a folder beside the labels, below {self.root}", sample)


def lists_of(own: str, image_name: str) -> tuple[str, ...]:
    """The list of a label file; and the folder train, val or test that its image is in, where the list says neither."""
    parts = [part for part in image_name.split("/")[:-1] if folder_purpose(part)]
    return (own,) if purpose(own) else (own, *parts[:1])


def _path_and_suffixes(name: str) -> tuple[PurePosixPath, Sequence[str]]:
    """The path of a name from any system, and what may have to be added to it."""
    path = PurePosixPath(name)
    if "\\" in name or re.match("[A-Za-z]:/", name):
        windows = PureWindowsPath(name)
        path = PurePosixPath("/" if windows.drive else "", windows.relative_to(windows.anchor).as_posix())
    return path, ("",) if path.suffix.lower() in IMAGE_SUFFIXES else _both_cases(IMAGE_SUFFIXES)


def _images_in(folder: Path) -> list[str]:
    """The names of the images in a folder, below it not; none where there is no such folder."""
    try:
        return [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(IMAGE_SUFFIXES)]
    except OSError:
        return []


def _beside_labels(root: Path, folder: Path) -> Iterable[Path]:
    """The folders that lie beside labels/ as `folder` lies in labels/, for each such folder between it and the root."""
    parts = folder.relative_to(root).parts
    for i, part in enumerate(parts):
        if part.lower() in LABEL_FOLDERS:
            yield from (root.joinpath(*parts[:i], name, *parts[i + 1:]) for name in IMAGE_FOLDERS)
            yield root.joinpath(*parts[:i], *parts[i + 1:])


def _parts_of(folders: Iterable[Path], parts: Iterable[str]) -> Iterator[Path]:
    """Where the parts of a data set may be in these folders; BDD100K has them below 100k/."""
    return (folder / middle / part for folder in folders for middle in ("", "100k") for part in parts)


def _both_cases(suffixes: Iterable[str]) -> tuple[str, ...]:
    return tuple(s for suffix in suffixes for s in (suffix, suffix.upper()))
