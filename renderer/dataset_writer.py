"""Writes data sets of rendered road scenes in the TuSimple layout.

root/clips/synthetic/<index>/20.jpg, root/label_data_train.json, root/label_data_val.json and, last of all,
root/manifest.json: without a manifest that matches the request, the data set is unfinished.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from renderer.scene import Scene, render_scene
from runtime.files import lock
from runtime.memory import keep_freed_memory

RENDERER_VERSION = 8  # count it up whenever a seed's pixels or labels change
SPLITS = ("train", "val")  # a scene's seed is (seed, index in SPLITS, index): splits share no scenes
EMPTY_SHARE = 0.035  # of the scenes, in both splits: roads without paint, and images without a road
WIDEST = 5  # times as wide as high: of less height a road has too little
SHARD = 16  # scenes a task: a second's work, so that little is lost when a run is cut short


def h_samples(height: int) -> list[int]:
    """TuSimple's 56 rows, 160 to 710 of 720, scaled to the image's height."""
    return [round(row * height / 720) for row in range(160, 711, 10)]


def lane_rows(points: np.ndarray, height: int) -> list[float]:
    """x in pixels of one lane (N, 2), far to near, at each of h_samples; -2 where it has no point."""
    rows = np.array(h_samples(height), np.float32)
    order = np.argsort(points[:, 1], kind="stable")
    x = np.interp(rows, points[order, 1], points[order, 0], left=-2, right=-2)
    return [round(float(value), 1) for value in x]


def is_complete(root: Path, train: int, val: int, seed: int, width: int = 640, height: int = 360) -> bool:
    """Whether root holds exactly this data set, rendered to the end by this renderer."""
    root = Path(root)
    try:
        manifest = json.loads((root / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    return (
        manifest == _request(train, val, seed, width, height)
        and all((root / f"label_data_{split}.json").is_file() for split in SPLITS)
        and all((root / _raw_file(number)).is_file() for number in range(train + val))
    )


def is_of_another_renderer(root: Path) -> bool:
    """Whether root holds rendered scenes, of another version than this."""
    manifest = _read_json(Path(root) / "manifest.json")
    return isinstance(manifest, dict) and manifest.get("renderer", RENDERER_VERSION) != RENDERER_VERSION


def write_dataset(
    root: Path, train: int, val: int, seed: int, width=640, height=360, workers: int | None = None
) -> None:
    """Renders the data set, or what is missing of it, into root, with `workers` processes or one a core.

    Finished shards leave their labels in root/unfinished, so that a run cut short goes on where it stopped.
    Of several processes one renders and the others wait for it.
    Raises ValueError for impossible numbers, OSError where root cannot be written.
    """
    root, request = Path(root), _request(train, val, seed, width, height)
    if is_complete(root, train, val, seed, width, height):
        return
    with lock(root, "rendering into this folder"):
        if not is_complete(root, train, val, seed, width, height):
            _write(root, request, workers)


def _write(root: Path, request: dict, workers: int | None) -> None:
    train, val = request["train"], request["val"]
    unfinished = root / "unfinished"
    for name in ("manifest.json", *(f"label_data_{split}.json" for split in SPLITS)):
        (root / name).unlink(missing_ok=True)
    if _read_json(unfinished / "request.json") != request:
        for folder in (unfinished, root / "clips" / "synthetic"):
            shutil.rmtree(folder, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write_text(unfinished / "request.json", json.dumps(request))
    shards = _shards(train, val)
    done = [shard for shard in shards if _labels_path(unfinished, *shard).is_file()]
    missing = [(root, request, *shard) for shard in shards if shard not in done]
    with tqdm(total=train + val, initial=sum(shard[2] - shard[1] for shard in done), unit="scene") as bar:
        for count in _run(missing, workers):
            bar.update(count)
    for split in SPLITS:
        parts = [_labels_path(unfinished, *shard).read_text() for shard in shards if shard[0] == split]
        _write_text(root / f"label_data_{split}.json", "".join(parts))
    _write_text(root / "manifest.json", json.dumps(request, indent=1) + "\n")
    shutil.rmtree(unfinished)


def _request(train, val, seed, width, height) -> dict:
    """What a manifest says; raises ValueError for numbers that no data set can have."""
    request = {"seed": seed, "train": train, "val": val, "width": width, "height": height}
    for name, value in request.items():
        least = 64 if name in ("width", "height") else 0
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    if width > WIDEST * height:
        raise ValueError(f"width is {width}, height {height}; expected at most {WIDEST} times as wide as high")
    return {"renderer": RENDERER_VERSION, **request}


def _raw_file(number: int) -> str:
    return f"clips/synthetic/{number:06d}/20.jpg"


def _labels_path(unfinished: Path, split: str, start: int, stop: int) -> Path:
    return unfinished / f"{split}-{start:06d}.json"


def _shards(train: int, val: int) -> list[tuple[str, int, int]]:
    """(split, first index, index past the last) of each task."""
    counts = zip(SPLITS, (train, val), strict=True)
    return [(split, i, min(i + SHARD, count)) for split, count in counts for i in range(0, count, SHARD)]


def _run(tasks, workers):
    """Yields the number of scenes of each task as it ends, in this process or in `workers` others."""
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield from map(_render_shard, tasks)
        finally:
            cv2.setNumThreads(threads)
        return
    spawn = multiprocessing.get_context("spawn")  # what Windows and macOS have, and safe beside threads
    with ProcessPoolExecutor(workers, spawn, initializer=_start_worker) as pool:
        futures = [pool.submit(_render_shard, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise OSError("a rendering process was killed (memory?); run again to finish") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """One thread for OpenCV; an end with the parent, even a killed one, and not before it at Ctrl-C."""
    keep_freed_memory()  # a scene takes a fifth less time
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _render_shard(task) -> int:
    """Writes one shard's images and then its labels; returns how many scenes there were."""
    root, request, split, start, stop = task
    lines = []
    for index in range(start, stop):
        number = index + (request["train"] if split == "val" else 0)
        scene = _scene(request["seed"], split, index, request["width"], request["height"])
        _write_image(root / _raw_file(number), scene)
        rows = {
            "lanes": [lane_rows(points, request["height"]) for points in scene.lanes],
            "h_samples": h_samples(request["height"]),
            "raw_file": _raw_file(number),
        }
        lines.append(json.dumps(rows) + "\n")
    _write_text(_labels_path(root / "unfinished", split, start, stop), "".join(lines))
    return stop - start


def _scene(seed: int, split: str, index: int, width: int, height: int) -> Scene:
    return render_scene([seed, SPLITS.index(split), index], width, height, EMPTY_SHARE)


def _write_image(path: Path, scene: Scene):
    quality = [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_bytes(path, encoded.tobytes())


def _write_text(path: Path, text: str):
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes):
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say where
        raise


def _read_json(path: Path):
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
