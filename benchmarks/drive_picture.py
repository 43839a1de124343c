"""An animation of a rendered drive with its tracked lanes, metres and the road from above: the README's first picture.

    python benchmarks/drive_picture.py docs/drive.webp [--checkpoint FILE] [--seed S] [--drive N]

The suffix of the file chooses WebP or GIF. The network sees the images alone; the camera's matrix and height are given,
its pitch is estimated.
"""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
from config import CameraConfig
from inference.inputs import Frame
from inference.lane_position import LanePositions
from inference.overlay import overlay
from inference.predictor import Predictor
from inference.sources import Source
from inference.tracker import Tracker
from renderer.drive import FPS, Drive, render_frame, sample_drive
from runtime import cli
from runtime.checkpoint import DEFAULT_CHECKPOINT
from runtime.files import write_bytes

MAX_BYTES = 2_000_000
FORMATS = {".webp": "WEBP", ".gif": "GIF"}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the animation. Raises ValueError for another suffix and where the file would be too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--drive", type=int, default=4, help="its number among those of the seed")
    parser.add_argument("--frames", type=int, default=80, help="of the drive, 20 a second (default: %(default)s)")
    parser.add_argument("--step", type=int, default=2, help="frames a picture (default: %(default)s)")
    parser.add_argument("--width", type=int, default=640, help="of the drive's images (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=60, help="of WebP (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.output.suffix.lower() not in FORMATS:
        raise ValueError(f"{options.output}: expected a file that ends in {' or '.join(FORMATS)}")
    predictor = Predictor.load(options.checkpoint, "cpu")
    drive = sample_drive(options.seed, options.drive, options.frames, options.width, options.width * 9 // 16)
    pictures = list(drawn_frames(predictor, drive, options.frames))[::options.step]
    data = animation(pictures, FORMATS[options.output.suffix.lower()], 1000 * options.step // FPS, options.quality)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{options.output}: it would have {len(data)} bytes, expected at most {MAX_BYTES}; lower "
                         "--frames, --width or --quality")
    write_bytes(options.output, data)
    print(f"{options.output}: {len(pictures)} pictures, {len(data) / 1e6:.2f} MB")
    return 0


def drawn_frames(predictor: Predictor, drive: Drive, frames: int) -> Iterator[np.ndarray]:
    """The frames of a drive with what inference_fixed.py --camera --birds-eye draws on those of a video."""
    camera, tracker = drive.camera, Tracker(predictor.decode.threshold)
    size_px = camera.width, camera.height
    positions = LanePositions(CameraConfig(
        matrix=(camera.focal_x, camera.focal_y, camera.center_x, camera.height / 2), size=size_px,
        height=camera.camera_height))
    source = Source("drive", "drive", "video", fps=FPS)
    for index in range(frames):
        image = render_frame(drive, index).image
        pixels = predictor.preprocess(image)
        detections, ids = tracker.update(next(predictor.detect([pixels]).per_image()), pixels)
        position = positions.update(Frame(source, index + 1, size_px), detections, ids)
        yield overlay(image, detections, ids, position, with_birds_eye=True)


def animation(pictures: Sequence[np.ndarray], kind: str, duration_ms: int, quality: int) -> bytes:
    """Pictures, RGB uint8 of one size, as an animation without end."""
    first, *others = map(Image.fromarray, pictures)
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others, duration=duration_ms, loop=0, quality=quality,
               method=4)
    return buffer.getvalue()


if __name__ == "__main__":
    cli.run(main)
