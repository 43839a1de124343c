"""Prints the lanes of images with an ONNX file alone: python examples/onnx_lanes.py LANES.onnx IMAGE ...

Needs onnxruntime, numpy and OpenCV, and nothing of this project: the file may be copied. Make the model with
export_fixed.py, with --batch 1 or dynamic. Shapes: L lane slots, P = 6 control points, R rows, 2 = (x, y) in [0, 1].
"""

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

CONTROL_POINTS = 6  # P
MIN_GAP = 0.015  # of the image width: two neighbouring slots that are closer are the same lane
COLORS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))  # RGB


def main(argv=None) -> int:
    """Print lanes per image; exit status 1 when an image could not be read."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", metavar="LANES.onnx")
    arguments.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    arguments.add_argument("--threshold", type=float, help="confidence from which a lane is printed")
    arguments.add_argument("--save-images", metavar="DIR", type=Path, help="write each image with its lanes drawn")
    options = arguments.parse_args(argv)
    try:
        session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
        if options.save_images:
            options.save_images.mkdir(parents=True, exist_ok=True)
    except Exception as error:  # onnxruntime has types of its own
        arguments.error(" ".join(str(error).split()))
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("format") != "lane-regression" or session.get_inputs()[0].shape[0] not in (1, "batch"):
        arguments.error(f"{options.model} is not a file of export_fixed.py --batch 1 or --batch dynamic")
    size = int(metadata["width"]), int(metadata["height"])
    threshold = float(metadata["threshold"]) if options.threshold is None else options.threshold
    unreadable = 0
    for number, path in enumerate(options.images, start=1):
        image = read_image(path)
        if image is None:
            print(f"error: {path}: not an image that OpenCV can decode", file=sys.stderr)
            unreadable += 1
            continue
        points, confidence = predict(session, resize(image, size))
        slots = lane_nms(points, confidence, threshold)
        print(path)
        for slot in slots:
            controls = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(points[slot]))
            print(f"Sample {number}: Lane {slot + 1} ({confidence[slot]:.2f}): {controls}")
        if not slots:
            print(f"Sample {number}: no lane")
        if options.save_images:
            for slot in slots:
                draw(image, points[slot], COLORS[slot % len(COLORS)])
            encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
            encoded.tofile(options.save_images / f"{number:05}_{path.stem}.jpg")
    return int(unreadable > 0)


def read_image(path: Path) -> np.ndarray | None:
    """RGB uint8 (height, width, 3), upright by its EXIF tag, or None."""
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image at the network's size (width, height), as in its training."""
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    smaller = min(image.shape[1], size[0]), min(image.shape[0], size[1])
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def predict(session: onnxruntime.InferenceSession, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (L, P, 2) from far to near and confidence (L) of an RGB image at the network's size."""
    pixel_type = np.float32 if session.get_inputs()[0].type == "tensor(float)" else np.uint8
    images = pixels.transpose(2, 0, 1)[None].astype(pixel_type)  # (1, 3, H, W)
    points, confidence = session.run(["points", "confidence"], {"images": images})
    return points[0], confidence[0]


def bernstein(t: np.ndarray) -> np.ndarray:
    """Weights (..., P) of the control points at t (...)."""
    t = t[..., None]
    degree = CONTROL_POINTS - 1
    k = np.arange(CONTROL_POINTS)
    return np.array([math.comb(degree, i) for i in k]) * t**k * (1 - t) ** (degree - k)


def lane_nms(points: np.ndarray, confidence: np.ndarray, threshold: float) -> list[int]:
    """The slots to report: the confident ones, and of two neighbours on the same line the better one."""
    keep = confidence >= threshold
    for slot in range(len(points) - 1):
        left, right = points[slot], bernstein(np.linspace(0, 1, 16)) @ points[slot + 1]  # right: (R, 2)
        t = (right[:, 1] - left[0, 1]) / (left[-1, 1] - left[0, 1])  # y is linear along a lane
        shared = (t >= 0) & (t <= 1)  # rows that both reach
        if not (keep[slot] and keep[slot + 1] and shared.any()):
            continue
        gap = np.abs(bernstein(t[shared]) @ left[:, 0] - right[shared, 0]).mean()
        if gap < MIN_GAP:
            keep[slot if confidence[slot + 1] > confidence[slot] else slot + 1] = False
    return np.flatnonzero(keep).tolist()


def draw(image: np.ndarray, points: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw the curve of control points (P, 2) into the image."""
    curve = bernstein(np.linspace(0, 1, 64)) @ points * image.shape[1::-1] - 0.5
    width = max(2, round(math.hypot(*image.shape[:2]) / 250))
    cv2.polylines(image, [(curve * 16).round().astype(np.int32)], False, color, width, cv2.LINE_AA, shift=4)


if __name__ == "__main__":
    sys.exit(main())
