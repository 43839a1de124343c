"""What inference reads: images, videos, cameras and streams, named by themselves or by folders, patterns and lists.

What is named and cannot be read is a source with an error, so that the rest goes on.
"""

import contextlib
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from formats.base import Sample
from formats.files import HIDDEN, IMAGE_SUFFIXES, PassedOver, Tree, file_head, is_hidden
from inference.source_lists import is_text, read_list
from inference.video import VIDEO_SUFFIXES, VideoReader
from preprocessing.images import KINDS, is_image

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
LOGIN = re.compile(r"//([^/?#]*|[^@?#]*:(?!\d+/)[^?#]*)@")  # a password may have any letter, but for these
SECRET = re.compile(r"([?&;#/][^=&;/]*(?:pass|pwd|token|key|secret|auth|sig|user|login|streamid)[^=&;/]*=)[^&;]*",
                    re.IGNORECASE)
SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
HEAD = 4096  # bytes that show what a file is
MEDIA_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES
VIDEOS = ".mp4, .mov, .avi, .mkv, .ts and others"
NO_MEDIA, OUTPUT = "are no images and no videos", "are this command's own output"


class Source(NamedTuple):
    """An image file, a video, or a camera, of which a stream is one."""

    name: str  # as it is shown
    path: Path | int | str  # an int is the index of a camera, a str the address of a stream
    kind: str = "image"  # image | video | camera | missing
    relative: str = ""  # as a benchmark names it, with forward slashes
    frames: int | None = 1  # None: unknown
    fps: float = 0.0
    error: str = ""  # why it is missing
    rows: tuple[float, ...] = ()  # at which a benchmark's list asks for the lanes, in pixels
    reading: int = 0  # a number that tells a video from itself where it is named twice


Report = Callable[[str], None]  # is told in a line what is passed over


def list_sources(arguments: Iterable[str], outputs: Iterable[Path] = (), report: Report = lambda line: None
                 ) -> list[Source]:
    """What the arguments name: images, videos, folders, patterns such as a/*.jpg, lists, cameras and streams.

    `outputs` are files and folders that are written: they are no inputs where a folder or pattern has them below it.
    Raises ValueError where one of them is the folder that is searched.
    """
    sources, outputs = [], [os.path.realpath(path) for path in outputs]
    for argument in arguments:
        path = Path(argument)
        if not argument:
            sources.append(_missing("''", "an empty name, as of a variable that is not set"))
        elif path.is_dir():
            sources += Search(path, argument, outputs, report).folder()
        elif path.exists():
            sources += _file_sources(path)
        elif argument.isdecimal():
            sources.append(Source(f"camera {argument}", int(argument), "camera", f"camera{argument}", None))
        elif ADDRESS.match(argument):
            sources.append(_stream_source(argument))
        elif glob.has_magic(argument):  # a shell expands patterns, but not Windows', and not in quotes
            sources += Search(_fixed_part(argument), argument, outputs, report).pattern()
        else:
            sources.append(_missing(argument, "no such image or folder, video or camera"))
    return sources


def sample_source(sample: Sample) -> Source:
    """The image of a data set's sample, under the name that the data set has for it."""
    return Source(str(sample.image), sample.image, relative=sample.name)


def total_frames(sources: Iterable[Source]) -> int | None:
    """How many frames the sources have; None where one of them does not tell."""
    counts = [source.frames for source in sources]
    return None if None in counts else sum(counts)


class Search:
    """Images and videos below a folder; what is passed over is counted and reported in a line."""

    def __init__(self, base: Path, argument: str, outputs: Sequence[str], report: Report):
        self.base, self.argument, self.report = base, argument, report
        self.passed_over: Counter[str] = Counter()
        self.other_suffixes: set[str] = set()
        real = os.path.realpath(base)
        if real in outputs:
            raise ValueError(f"{argument}: the output folder is the one that is searched, and its pictures would be "
                             f"inputs of the next run; write to another, such as {base / 'out'}")
        self.outputs = [Path(os.path.relpath(path, real)) for path in outputs if path.startswith(real + os.sep)]

    def folder(self) -> list[Source]:
        """The sources of the whole folder, in the order of their paths."""
        sources = [*self._below(self.base)]
        self._report()
        return sources or [_missing(self.argument, f"no image in this folder ({KINDS}), and no video ({VIDEOS})")]

    def pattern(self) -> list[Source]:
        """The sources that fit the pattern; of a folder that fits those below it."""
        paths = [Path(path) for path in sorted(glob.glob(self.argument, recursive=True))]
        folders, sources = {path for path in paths if path.is_dir()}, []
        for path in paths:
            names = path.relative_to(self.base).parts
            if any(is_hidden(name) and not name.startswith(".") for name in names):  # a pattern has to ask for a dot
                self.passed_over[HIDDEN] += 1
            elif folders.isdisjoint(path.parents):
                sources += self._below(path) if path in folders else self._media(path)
        self._report()
        reason = "no image and no video fits this pattern" if paths else "no file fits this pattern"
        return sources or [_missing(self.argument, reason)]

    def _below(self, folder: Path) -> Iterator[Source]:
        for path in Tree(folder, self._pass_over, MEDIA_SUFFIXES).files():
            yield from self._media(path)

    def _media(self, path: Path) -> Iterator[Source]:
        relative, suffix = path.relative_to(self.base), path.suffix.lower()
        if any(output == relative or output in relative.parents for output in self.outputs):
            self.passed_over[OUTPUT] += suffix in MEDIA_SUFFIXES
        elif suffix not in MEDIA_SUFFIXES or (suffix == ".ts" and is_text(file_head(path, HEAD))):  # TypeScript
            self.passed_over[NO_MEDIA] += 1
            self.other_suffixes.add(suffix or path.name)
        else:
            yield _media_source(path, relative.as_posix())

    def _pass_over(self, passed_over: PassedOver) -> None:
        self.passed_over[passed_over.reason] += passed_over.count

    def _report(self) -> None:
        counts = [f"{count} that {reason}{self._others() if reason == NO_MEDIA else ''}"
                  for reason, count in sorted(self.passed_over.items()) if count]
        if counts:
            self.report(f"{self.argument}: passed over: {'; '.join(counts)}")

    def _others(self) -> str:
        suffixes = sorted(self.other_suffixes)
        return f" ({', '.join(suffixes[:5])}{' ...' if len(suffixes) > 5 else ''})"


def _file_sources(path: Path) -> list[Source]:
    """The source of a file that is named; the sources of a list."""
    name, suffix = str(path), path.suffix.lower()
    if not path.is_file():
        if name.startswith("/dev/video"):  # as Linux calls cameras
            return [Source(name, name, "camera", path.name, None)]
        return [_missing(name, "neither a file nor a folder")]
    head = b"" if suffix in MEDIA_SUFFIXES else file_head(path, HEAD)
    if suffix in MEDIA_SUFFIXES or is_image(head):
        return [_media_source(path, path.as_posix())]
    if is_text(head):
        return _sources_of_list(path)
    video = _media_source(path, path.as_posix(), is_video=True)
    if video.frames:
        return [video]
    return [_missing(name, f"neither an image ({KINDS}), nor a video ({VIDEOS}), nor a list of their names")]


def _sources_of_list(path: Path) -> list[Source]:
    """The sources that a list names, and those of its lines that name none; a single one where no line does."""
    sources = []
    for entry in read_list(path):
        if entry.path is None and ADDRESS.match(entry.name):
            sources.append(_stream_source(entry.name))
        elif entry.path is None:
            sources.append(_missing(str(path), "", entry.error))
        else:
            source = _media_source(entry.path, entry.path.as_posix())
            sources.append(source._replace(relative=entry.name, rows=entry.rows))
    if not sources:
        return [_missing(str(path), "names no image: all of its lines are blank, or begin with #")]
    if all(source.kind == "missing" for source in sources):
        return [_missing(str(path), "", f"{sources[0].error}; expected an image ({KINDS}), a video ({VIDEOS}), or "
                                        "a list of their names, one a line")]
    return sources


def _media_source(path: Path, relative: str, is_video: bool = False) -> Source:
    """The source of an image or a video. Of a path with a folder clips/ TuSimple's names begin there."""
    folders = Path(os.path.abspath(path)).parts
    if "clips" in folders[:-1]:
        relative = "/".join(folders[len(folders) - 1 - folders[::-1].index("clips"):])
    if not is_video and path.suffix.lower() not in VIDEO_SUFFIXES:
        return Source(str(path), path, relative=relative)
    with contextlib.closing(VideoReader(path)) as video:
        return Source(str(path), path, "video", relative, video.frames, video.fps)


def _stream_source(address: str) -> Source:
    """The source of an address, shown without its password."""
    shown = SECRET.sub(r"\1...", LOGIN.sub("//", address))
    if ADDRESS.match(address)[1].lower() not in SCHEMES:
        return _missing(shown, f"an address of a kind that is not read; expected {', '.join(SCHEMES)}")
    return Source(shown, address, "camera", re.sub(r"\W+", "_", shown.partition("://")[2]).strip("_"), None)


def _missing(argument: str, reason: str, error: str = "") -> Source:
    return Source(argument, Path(argument), "missing", error=error or f"{argument}: {reason}")


def _fixed_part(pattern: str) -> Path:
    """The folder of a pattern down to the first part that is one."""
    parts = Path(pattern).parts
    return Path(*parts[:next(i for i, part in enumerate(parts) if glob.has_magic(part))])
