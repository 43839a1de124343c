"""Prints the lanes of images: python inference_fixed.py [IMAGE or FOLDER ...] (default: the validation images)"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import runtime
from dataset import preprocess, read_image
from evaluate_fixed import validation_entries
from formats import IMAGE_SUFFIXES, DataError
from lanes import keep_lanes
from model import LaneNet
from visualize import contact_sheet, draw_lanes, write_image

SHEET_IMAGES = 8
IDENTICAL_PX = 1.0  # predictions that vary by less than this over different images are the same lanes


def main(argv: Sequence[str] | None = None) -> int:
    """Print lanes per image; exit status 1 when an image could not be read or the model has collapsed."""
    arguments = runtime.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="IMAGE", help="images, folders and section.key=value settings")
    arguments.add_argument("--checkpoint", default="checkpoints_fixed/best_model.pth", metavar="FILE")
    arguments.add_argument("--threshold", type=float, help="confidence from which a lane is printed")
    arguments.add_argument("--save-images", metavar="DIR", type=Path, help="write each image with its lanes drawn")
    arguments.add_argument("--sheet", metavar="FILE", type=Path, help="write eight of them in one picture")
    options, overrides = runtime.parse(arguments, argv)
    if options.threshold is not None:
        overrides.append(f"inference.threshold={options.threshold}")
    settings = runtime.load_settings(options, overrides)
    device = runtime.pick_device(settings.train.device)
    model, _, payload = runtime.load_model(options.checkpoint, device)
    config = runtime.with_model(settings, payload)
    paths = image_paths(options.words) if options.words else [e.image for e in validation_entries(config)]
    if options.save_images:
        options.save_images.mkdir(parents=True, exist_ok=True)
    on_sheet = {len(paths) * i // SHEET_IMAGES + 1 for i in range(SHEET_IMAGES)} if options.sheet else set()
    unreadable, seen, sheet = 0, {}, []
    for number, (path, image) in enumerate(images(paths), start=1):
        if image is None:
            unreadable += 1
            continue
        points, confidence = lanes(model, [image], config.model.width, config.model.height, device)
        keep = keep_lanes(points, confidence, config.inference.threshold)
        print(f"{path}")
        for line in lane_lines(number, points[0], confidence[0], keep[0]):
            print(line)
        if options.save_images or number in on_sheet:
            drawn = draw_lanes(image, points[0], confidence[0], keep[0])
            if options.save_images:
                write_image(options.save_images / f"{number:05}_{path.stem}.jpg", drawn)
            if number in on_sheet:
                sheet.append(drawn)
        seen[hash(image.tobytes())] = (points[0], confidence[0])  # the same image twice says nothing
    if sheet:
        write_image(options.sheet, contact_sheet(sheet, columns=4))
    return report_spread(list(seen.values())) or int(unreadable > 0)


@torch.inference_mode()
def lanes(model: LaneNet, batch: Sequence[np.ndarray], width: int, height: int, device: torch.device
          ) -> tuple[Tensor, Tensor]:
    """Points (B, L, 6, 2) in [0, 1] and confidence (B, L) for RGB uint8 images of any sizes."""
    pixels = np.stack([preprocess(image, width, height) for image in batch])  # (B, H, W, 3)
    points, logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device))
    return points.float().cpu(), logits.float().sigmoid().cpu()


def image_paths(words: Sequence[str]) -> list[Path]:
    """Images named on the command line, folders searched for images. Raises DataError for what is not there."""
    found = []
    for word in map(Path, words):
        if word.is_dir():
            inside = sorted(p for p in word.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise DataError(f"{word}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
            found += inside
        elif word.exists():
            found.append(word)
        else:
            raise DataError(f"{word}: no such image or folder")
    return found


def images(paths: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | None]]:
    """Each path with its image, or with None where it cannot be read, which is said on stderr."""
    for path in paths:
        try:
            yield path, read_image(path)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            yield path, None


def lane_lines(number: int, points: Tensor, confidence: Tensor, keep: Tensor) -> Iterator[str]:
    """One line per lane of one image, numbered by slot from the left: points (L, 6, 2), the others (L)."""
    for slot in keep.nonzero()[:, 0].tolist():
        controls = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(points[slot].tolist()))
        yield f"Sample {number}: Lane {slot + 1} ({confidence[slot]:.2f}): {controls}"
    if not keep.any():
        yield f"Sample {number}: no lane"


def report_spread(seen: list[tuple[Tensor, Tensor]]) -> int:
    """Say on stdout whether the predictions differ between images; 1 when they are the same, else 0."""
    if len(seen) < 2:
        print(f"{len(seen)} different image(s): whether predictions differ shows from two on")
        return 0
    points = torch.stack([p for p, _ in seen])[..., 0]  # (N, L, P) x
    weight = torch.stack([c for _, c in seen]).mean(0)  # (L)
    spread = points.std(0, correction=0).mean(-1)  # (L)
    spread_px = float((spread * weight).sum() / weight.sum().clamp(min=1e-6) * 1280)
    if spread_px < IDENTICAL_PX:
        print(f"COLLAPSED: the same lanes for all {len(seen)} images (spread {spread_px:.2f} px of a 1280 px wide "
              "image); see QUICK_FIX.md")
        return 1
    print(f"The predictions differ between the {len(seen)} images: lanes spread by {spread_px:.1f} px "
          "of a 1280 px wide image (standard deviation)")
    return 0


if __name__ == "__main__":
    runtime.run(main)
