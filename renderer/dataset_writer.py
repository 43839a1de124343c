"""Writes data sets of rendered road scenes in the TuSimple layout.

root/clips/synthetic/<number>/20.jpg, root/label_data_train.json, root/label_data_val.json and, last of all,
root/manifest.json: without a manifest that equals the request, the data set is unfinished.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from renderer.rendered_folder import DRIVES_MANIFEST, SCENES_MANIFEST, read_json, render_into
from renderer.scene import Scene, render_scene
from runtime.files import write_bytes, write_text
from runtime.processes import check_wanted, cores, in_processes

RENDERER_VERSION = 10  # count it up whenever a seed's pixels or labels change
SPLITS = ("train", "val")  # a scene's seed is (seed, index of the split, index of the scene): splits share no scene
EMPTY_SHARE = 0.035  # of the scenes, in both splits: roads without paint, and images without a road
MIN_SIZE_PX = 64
MAX_ASPECT = 5  # times as wide as high: of less height a road has too little
SHARD_SIZE = 8  # scenes a task: part of a second's work, so that little is lost when a run is cut short
TUSIMPLE_HEIGHT, TUSIMPLE_ROWS = 720, range(160, 711, 10)  # in pixels; the layout's own


class Shard(NamedTuple):
    """The scenes start, ..., stop - 1 of a split, which one task renders."""

    split: str
    start: int
    stop: int


def h_samples(height: int) -> list[int]:
    """TuSimple's 56 rows scaled to the image's height."""
    return [round(row * height / TUSIMPLE_HEIGHT) for row in TUSIMPLE_ROWS]


def lane_to_xs(points: np.ndarray, height: int) -> list[float]:
    """x in pixels of one lane (N, 2), far to near, at each of h_samples; -2 where it has no point."""
    rows = np.array(h_samples(height), np.float32)
    order = np.argsort(points[:, 1], kind="stable")
    x = np.interp(rows, points[order, 1], points[order, 0], left=-2, right=-2)
    return [round(float(value), 1) for value in x]


def manifest(train: int, val: int, seed: int, width: int, height: int) -> dict[str, int]:
    """The manifest of a data set; raises ValueError for numbers that no data set can have."""
    request = {"seed": seed, "train": train, "val": val, "width": width, "height": height}
    for name, value in request.items():
        least = MIN_SIZE_PX if name in ("width", "height") else 0 if name == "seed" else 1
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    if width > MAX_ASPECT * height:
        raise ValueError(f"width is {width}, height {height}; expected at most {MAX_ASPECT} times as wide as high")
    return {"renderer": RENDERER_VERSION, **request}


def render_split_scene(seed: int, split: str, index: int, width: int, height: int) -> Scene:
    """Scene `index` of a split of the data set of a seed: all splits are drawn from one distribution."""
    return render_scene([seed, SPLITS.index(split), index], width, height, EMPTY_SHARE)


def is_complete(root: Path, train: int, val: int, seed: int, width: int = 640, height: int = 360) -> bool:
    """Whether root holds exactly this data set, rendered to the end by this version of the renderer."""
    root = Path(root)
    return (
        read_json(root / SCENES_MANIFEST) == manifest(train, val, seed, width, height)
        and all((root / f"label_data_{split}.json").is_file() for split in SPLITS)
        and all((root / _raw_file(number)).is_file() for number in range(train + val))
    )


def is_rendered(root: Path) -> bool:
    """Whether root holds rendered scenes, of whatever version."""
    return _renderer_of(root) is not None


def is_of_another_renderer(root: Path) -> bool:
    """Whether root holds rendered scenes, of another version than this."""
    return _renderer_of(root) not in (None, RENDERER_VERSION)


def _renderer_of(root: Path) -> Any:
    """The version in the manifest of a folder; None where there is none."""
    written = read_json(Path(root) / SCENES_MANIFEST)
    return written.get("renderer") if isinstance(written, dict) else None


def write_dataset(
    root: Path, train: int, val: int, seed: int, width: int = 640, height: int = 360, workers: int | None = None
) -> None:
    """Render the data set, or what is missing of it, into root, with `workers` processes or one a core.

    Finished shards leave their labels in root/unfinished, so that a run cut short goes on where it stopped.
    Of several processes one renders and the others wait for it.
    Raises ValueError for impossible numbers and where root holds something else, OSError where it cannot be written.
    """
    root, request = Path(root), manifest(train, val, seed, width, height)
    render_into(root, SCENES_MANIFEST, request, partial(is_complete, root, train, val, seed, width, height),
                partial(_check_replaceable, root), partial(_render_missing, root, request, workers))


def _check_replaceable(root: Path) -> None:
    """Raise ValueError where files that would be deleted, or that would be read with the scenes, are of others."""
    if _renderer_of(root) is not None or _is_request(read_json(root / "unfinished" / "request.json")):
        return
    names = (SCENES_MANIFEST, *(f"label_data_{split}.json" for split in SPLITS), "unfinished", "clips/synthetic",
             DRIVES_MANIFEST)
    found = next((name for name in names if _has_content(root / name)), None)
    if found:
        raise ValueError(f"{root}: holds another data set ({found}); move it away, or render into a folder of its own")


def _has_content(path: Path) -> bool:
    """Whether there is a file, or a folder with more than hidden ones: another process may just have made it."""
    return any(not child.name.startswith(".") for child in path.iterdir()) if path.is_dir() else path.exists()


def _is_request(record: Any) -> bool:
    return isinstance(record, dict) and "renderer" in record


def _render_missing(root: Path, request: dict[str, int], workers: int | None) -> None:
    unfinished = root / "unfinished"
    for split in SPLITS:
        (root / f"label_data_{split}.json").unlink(missing_ok=True)
    if read_json(unfinished / "request.json") != request:
        for part in unfinished.glob("*"):
            if part.name != "request.json":
                part.unlink()
        shutil.rmtree(root / "clips" / "synthetic", ignore_errors=True)
        write_text(unfinished / "request.json", json.dumps(request))
    (root / SCENES_MANIFEST).unlink(missing_ok=True)  # at each moment this or a request says whose folder it is
    shards = _shards(request)
    done = [shard for shard in shards if _shard_labels(unfinished, shard).is_file()]
    missing = [(root, request, shard) for shard in shards if shard not in done]
    initial = sum(shard.stop - shard.start for shard in done)
    with tqdm(total=request["train"] + request["val"], initial=initial, unit="scene") as bar:
        for count in run_tasks(_render_shard, missing, workers):
            bar.update(count)
    for split in SPLITS:
        parts = [_shard_labels(unfinished, shard).read_text() for shard in shards if shard.split == split]
        write_text(root / f"label_data_{split}.json", "".join(parts))
    write_text(root / SCENES_MANIFEST, json.dumps(request, indent=1) + "\n")
    shutil.rmtree(unfinished)


def _raw_file(number: int) -> str:
    return f"clips/synthetic/{number:06d}/20.jpg"


def _shard_labels(unfinished: Path, shard: Shard) -> Path:
    return unfinished / f"{shard.split}-{shard.start:06d}.json"


def _shards(request: dict[str, int]) -> list[Shard]:
    return [
        Shard(split, start, min(start + SHARD_SIZE, request[split]))
        for split in SPLITS
        for start in range(0, request[split], SHARD_SIZE)
    ]


def run_tasks(render: Callable[[tuple], int], tasks: Sequence[tuple], workers: int | None) -> Iterator[int]:
    """The number of images of each task, in order, in this process or in `workers` others."""
    workers = min(workers or cores(), len(tasks))
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield from map(render, tasks)
        finally:
            cv2.setNumThreads(threads)
        return
    yield from in_processes(render, tasks, workers, "renders")


def _render_shard(task: tuple[Path, dict[str, int], Shard]) -> int:
    """Write one shard's images and then its labels; returns how many scenes there were."""
    root, request, shard = task
    width, height = request["width"], request["height"]
    lines = []
    for index in range(shard.start, shard.stop):
        check_wanted()
        raw_file = _raw_file(index + (request["train"] if shard.split == "val" else 0))
        scene = render_split_scene(request["seed"], shard.split, index, width, height)
        write_bytes(root / raw_file, encode_jpeg(scene.image, scene.jpeg_quality))
        lanes = [lane_to_xs(points, height) for points in scene.lanes]
        lines.append(json.dumps({"lanes": lanes, "h_samples": h_samples(height), "raw_file": raw_file}) + "\n")
    write_text(_shard_labels(root / "unfinished", shard), "".join(lines))
    return shard.stop - shard.start


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """An image uint8 RGB (H, W, 3) as the bytes of a JPEG file."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    return encoded.tobytes()
