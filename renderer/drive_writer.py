"""Writes rendered drives in the TuSimple layout, with a label of every frame.

root/clips/drive_<number>/<frame>.jpg, root/test_label.json with a key "lane_ids" more than TuSimple's (the number of
each lane's line in its drive), and, last of all, root/drives.json, which before says "unfinished".
"""

import json
import re
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from renderer.dataset_writer import MIN_SIZE_PX, RENDERER_VERSION, encode_jpeg, h_samples, lane_to_xs, run_tasks
from renderer.drive import FPS, render_frame, sample_drive
from renderer.rendered_folder import DRIVES_MANIFEST, read_json, render_into
from runtime.files import write_bytes, write_text

MIN_FRAMES = 3  # jitter is a second difference
LABELS = "test_label.json"
JPEG_QUALITY = 88


def drive_manifest(drives: int, frames: int, seed: int, width: int, height: int) -> dict[str, int]:
    """The manifest of a folder of drives; raises ValueError for numbers that it cannot have."""
    request = {"drives": drives, "frames": frames, "seed": seed, "width": width, "height": height}
    least = {"drives": 1, "frames": MIN_FRAMES, "seed": 0, "width": MIN_SIZE_PX, "height": MIN_SIZE_PX}
    for name, value in request.items():
        if value < least[name]:
            raise ValueError(f"{name} is {value}, expected at least {least[name]}")
    return {"renderer": RENDERER_VERSION, "fps": FPS, **request}


def write_drives(root: Path, drives: int, frames: int, seed: int, width: int, height: int, workers: int | None = None
                 ) -> None:
    """Render so many drives of so many frames into root, with `workers` processes or one a core.

    Raises ValueError for impossible numbers and where root holds something else, OSError where it cannot be written.
    """
    root, request = Path(root), drive_manifest(drives, frames, seed, width, height)
    render_into(root, DRIVES_MANIFEST, request, partial(_is_complete, root, request), partial(_check_replaceable, root),
                partial(_render_all, root, request, workers))


def _is_complete(root: Path, request: dict[str, int]) -> bool:
    return read_json(root / DRIVES_MANIFEST) == request and (root / LABELS).is_file() and all(
        (root / _raw_file(number, index)).is_file()
        for number in range(request["drives"]) for index in range(request["frames"]))


def _check_replaceable(root: Path) -> None:
    """Raise ValueError where the folder holds something else than drives."""
    written = read_json(root / DRIVES_MANIFEST)
    is_own = isinstance(written, dict) and ("renderer" in written or "unfinished" in written)
    if not is_own and (any(root.glob("*.json")) or (root / "clips").exists()):
        raise ValueError(f"{root}: holds another data set; give a folder of its own with --root")


def _render_all(root: Path, request: dict[str, int], workers: int | None) -> None:
    drives = request["drives"]
    write_text(root / DRIVES_MANIFEST, json.dumps({"unfinished": True}))  # the folder stays known as one of drives
    (root / LABELS).unlink(missing_ok=True)
    for path in (root / "clips").glob("drive_*"):
        if re.fullmatch(r"drive_\d{3,}", path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    tasks = [(root, request, number) for number in range(drives)]
    with tqdm(total=drives * request["frames"], unit="frame") as bar:
        for count in run_tasks(_render_drive, tasks, workers):
            bar.update(count)
    parts = [_part(root, number) for number in range(drives)]
    write_text(root / LABELS, "".join(part.read_text() for part in parts))
    write_text(root / DRIVES_MANIFEST, json.dumps(request, indent=1) + "\n")
    _remove(parts)


def _raw_file(drive: int, index: int) -> str:
    return f"clips/drive_{drive:03d}/{index + 1:06d}.jpg"


def _part(root: Path, number: int) -> Path:
    return root / "clips" / f"drive_{number:03d}" / "labels.txt"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def _render_drive(task: tuple[Path, dict[str, int], int]) -> int:
    """Write one drive's images and then its labels; returns how many frames there were."""
    root, request, number = task
    frames, width, height = request["frames"], request["width"], request["height"]
    drive, lines = sample_drive(request["seed"], number, frames, width, height), []
    for index in range(frames):
        frame = render_frame(drive, index)
        name = _raw_file(number, index)
        write_bytes(root / name, encode_jpeg(frame.image, JPEG_QUALITY))
        lines.append(json.dumps({"lanes": [lane_to_xs(points, height) for points in frame.lanes],
                                 "h_samples": h_samples(height), "raw_file": name, "lane_ids": frame.lane_ids}) + "\n")
    write_text(_part(root, number), "".join(lines))
    return frames
