"""A folder of one's own: X.lines.txt beside X.jpg in any sub-folders, or in labels/ where images are in images/."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from formats.base import DataError, Label, MissingFile, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet, LabelledImage
from formats.files import IMAGE_SUFFIXES, PassedOver, Tree
from formats.list_names import folder_purpose
from formats.parsing import lanes_of_text, text_of_lanes
from runtime.files import write_text

SUFFIX = ".lines.txt"
TWINS = ({"labels": "images", "label": "image"}, {"images": "labels", "image": "label"})  # of folders beside each other
UNLABELLED = "images have no label"
MISNAMED = "files may be labels under another name than X.lines.txt"
SECOND = "images have the name of another one with a label, which is read"


class Folder(DataSet):
    """The folder is searched with its sub-folders; labels are those of CULane, a lane a line.

    An image below a folder called train, val or test is in a list of that name; the others are in "folder".
    """

    name = "folder"
    layout = "X.lines.txt beside X.jpg (a folder of your own)"
    metric = CULaneMetric()

    def detect(self, root: Path) -> bool:
        return any(path.name.endswith(SUFFIX) for path in Tree(root).files())

    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        passed_over: list[PassedOver] = []
        tree = Tree(root, passed_over.append, (*IMAGE_SUFFIXES, SUFFIX))
        yield from self._samples_below(root, root, tree)
        yield from passed_over

    def read_label(self, sample: Sample) -> Label:
        return Label(lanes_of_text(sample.label))

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """X.lines.txt beside the image; a lane without points is none."""
        lanes = [lane for lane in image.lanes if len(lane)]
        write_text((root / image.name).with_suffix(".lines.txt"), text_of_lanes(lanes))
        return len(image.lanes) - len(lanes)

    def _samples_below(self, root: Path, folder: Path, tree: Tree) -> Iterator[Sample | DataError | PassedOver]:
        """What is in a folder and below it, in the order of paths; the names of one folder a level are in memory."""
        children = tree.children(folder)
        names = [child.path.name for child in children if not child.is_folder]
        images, label_stems = _images_by_stem(names), {n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX)}
        labelled = {stem: folder / of_stem[0] for stem, of_stem in images.items()}
        if not label_stems <= labelled.keys() and (twin := _twin(root, folder, TWINS[0])):
            others = _images_by_stem(path.name for path in _plain_files(twin))
            labelled = {stem: twin / of_stem[0] for stem, of_stem in others.items()} | labelled
        for child in children:
            if child.is_folder:
                yield from self._samples_below(root, child.path, tree)
            elif child.path.name.endswith(SUFFIX):
                yield self._sample(root, child.path, labelled)
        if images and (twin := _twin(root, folder, TWINS[1])):
            label_stems |= {p.name.removesuffix(SUFFIX) for p in _plain_files(twin) if p.name.endswith(SUFFIX)}
        yield from _passed_over(folder, names, images, label_stems)

    def _sample(self, root: Path, label: Path, images: Mapping[str, Path]) -> Sample | DataError:
        stem = label.name.removesuffix(SUFFIX)
        image = images.get(stem, label.with_name(f"{stem}.jpg"))
        purposes = [part for part in label.relative_to(root).parts[:-1] if folder_purpose(part)]
        sample = Sample(image, label, image.relative_to(root).as_posix(), tuple(purposes[:1]) or ("folder",), self.name)
        if stem in images:
            return sample
        return MissingFile(f"{label}: no image {stem}.jpg, .png, .bmp, .webp or .tif beside it", sample)


def _images_by_stem(names: Iterator[str] | list[str]) -> dict[str, list[str]]:
    """The names of images by their stem, those of one stem in the order of IMAGE_SUFFIXES."""
    images: dict[str, list[str]] = {}
    for name in names:
        if name.lower().endswith(IMAGE_SUFFIXES):
            images.setdefault(name[:name.rindex(".")], []).append(name)
    for of_stem in images.values():
        of_stem.sort(key=lambda name: (IMAGE_SUFFIXES.index(name[name.rindex("."):].lower()), name))
    return images


def _passed_over(folder: Path, names: list[str], images: Mapping[str, list[str]], label_stems: set[str]
                 ) -> Iterator[PassedOver]:
    """The images of a folder without a label of their own, and files that may be meant as labels."""
    for stem, of_stem in images.items():
        others = of_stem[1:] if stem in label_stems else of_stem
        for name in others:
            yield PassedOver(folder / name, SECOND if stem in label_stems else UNLABELLED)
    for name in names:
        if name.lower().endswith((".txt", ".lines")) and not name.endswith(SUFFIX):
            stem = name.rpartition(".")[0]
            stems = {stem, stem.rpartition(".")[0]} - {""}
            if not stems & label_stems and (stems & images.keys() or name.lower().endswith(SUFFIX)):
                yield PassedOver(folder / name, MISNAMED)


def _twin(root: Path, folder: Path, names: Mapping[str, str]) -> Path | None:
    """The folder of images that belongs to one of labels, or the other way round: labels/a for images/a."""
    parts = list(folder.relative_to(root).parts)
    for i in reversed(range(len(parts))):
        if other := names.get(parts[i].lower()):
            above = root.joinpath(*parts[:i])
            twins = (above.joinpath(name, *parts[i + 1:]) for name in (other, other.capitalize(), other.upper()))
            return next(filter(Path.is_dir, twins), None)
    return None


def _plain_files(folder: Path) -> Iterator[Path]:
    return (child.path for child in Tree(folder).children(folder) if not child.is_folder)
