"""Frames of images, videos and cameras: read in the background, handed over in order."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch

from inference.frames import READ_CHUNK, Frame, Preprocess, read_chunk, read_frame
from inference.sources import Source
from inference.video import TIMEOUT_S, VideoReader
from preprocessing.images import read_image
from runtime import distributed
from runtime.device import torch_threads
from runtime.prefetch import prefetch
from runtime.processes import in_processes, processes_for

FEWER_FRAMES = 0.01  # some containers only estimate how many frames they have
READINGS = itertools.count(1)


def shard_batches(sources: Iterable[Source], preprocess: Preprocess, keep_images: bool, size: int,
                  by_processes: bool = False) -> Iterator[tuple[int, Sequence[Frame]]]:
    """This process's batches of at most `size` frames, each with the number of its first frame, from 1.

    Several processes take them in turn, and get an empty one where nothing is left for them. The batches are those of
    a single process: a network's output depends on its batch, if only in the last digit. What is no image is for the
    first process, since the frames of a video have to be decoded one after the other. by_processes: see `read_frames`.
    """
    number, rank, world = 1, distributed.rank(), distributed.world_size()
    for are_images, group in itertools.groupby(sources, key=lambda source: source.kind == "image"):
        own = [source for i, source in enumerate(group) if rank == (i // size % world if are_images else 0)]
        with contextlib.closing(read_frames(own, preprocess, keep_images, 2 * size, by_processes)) as frames:
            remaining = batches(frames, size)
            while count := distributed.all_reduce_sum(len(batch := next(remaining, []))):
                yield number + size * rank, batch
                number += count


def batches(frames: Iterable[Frame], size: int) -> Iterator[Sequence[Frame]]:
    """Frames in lists of `size`; that of a camera comes at once, alone or as the last of its list."""
    batch = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size or frame.source.kind == "camera":
            yield batch
            batch = []
    if batch:
        yield batch


def read_frames(sources: Iterable[Source], preprocess: Preprocess, keep_images: bool, ahead: int,
                by_processes: bool = False) -> Iterator[Frame]:
    """All frames of all sources in order, read and preprocessed in the background, at most `ahead` in advance.

    keep_images hands over the image beside its pixels for the network. by_processes: many images may be read by
    processes, to which `preprocess` is pickled: a GPU takes more than the threads of one process read. More are then
    in advance.
    """
    for kind, group in itertools.groupby(sources, key=lambda source: source.kind):
        if kind == "missing":
            yield from (Frame(source, error=source.error) for source in group)
        elif kind == "image":
            images = list(group)
            alone = by_processes and not keep_images and distributed.world_size() == 1
            if count := processes_for(len(images)) if alone else 0:
                yield from _frames_by_processes(images, preprocess, count)
                continue
            jobs = (partial(read_frame, source, partial(read_image, source.path), preprocess, keep_images)
                    for source in images)
            yield from prefetch(jobs, ahead=ahead, low_priority=True)
        else:
            for source in group:
                yield from _video_frames(source, preprocess, keep_images, ahead)


def _frames_by_processes(sources: Sequence[Source], preprocess: Preprocess, count: int) -> Iterator[Frame]:
    """The frames of images, read by so many processes."""
    chunks = (sources[first:first + READ_CHUNK] for first in range(0, len(sources), READ_CHUNK))
    job = partial(read_chunk, preprocess=preprocess)
    with contextlib.closing(in_processes(job, chunks, count, "reads images")) as parts:
        for frames in parts:
            yield from frames


def _video_frames(source: Source, preprocess: Preprocess, keep_images: bool, ahead: int) -> Iterator[Frame]:
    """The frames of a video or a camera, and one with an error where it ends early or never begins."""
    with contextlib.closing(VideoReader(source.path)) as video:
        source = source._replace(fps=video.fps, frames=video.frames, reading=next(READINGS))
        job = partial(read_frame, source, video.read, preprocess, keep_images)
        depth = 0 if source.kind == "camera" else ahead  # a frame that has waited shows the road as it was
        count = 0
        with contextlib.closing(prefetch(itertools.repeat(job), 1, depth, low_priority=True)) as frames:
            for count, frame in enumerate(itertools.takewhile(lambda frame: frame is not None, frames), start=1):
                yield frame._replace(index=count)
        if not count:
            yield Frame(source, error=f"{source.name}: {_reason_for_none(source)}")
        elif count < (video.frames or 0) * (1 - FEWER_FRAMES) - 1 or (source.kind == "camera" and not video.frames):
            of_all = f" of {video.frames}" if video.frames else ""
            yield Frame(source, count, error=f"{source.name}: breaks off after frame {count}{of_all}")


def _reason_for_none(source: Source) -> str:
    """Why a video or a camera has no frame at all."""
    if source.kind == "video":
        return "not a video that OpenCV can decode, or empty"
    if isinstance(source.path, int):
        return "no camera that answers"
    hint = "; if it is a file, save it and give its name" if source.name.lower().startswith("http") else ""
    return f"nothing there that can be read as a video (waited {TIMEOUT_S} s at most{hint})"


@contextlib.contextmanager
def half_the_threads() -> Iterator[None]:
    """Leaves half of the cores to reading, which costs about as much as the network does."""
    with torch_threads(max(1, torch.get_num_threads() // 2)):
        yield
