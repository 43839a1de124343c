"""Prints how long the official metrics take: 2,782 TuSimple images (its test set), 1,000 CULane images."""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, from wherever it is run

from formats.culane_metric import counts_of_pairs, scaled_canvas
from metrics import culane, tusimple


def tusimple_pairs(rng, images: int, lanes: int) -> list:
    """`images` times (pred, gt, h_samples): straight lanes to a common point, predictions some px off."""
    rows = np.array(tusimple.TUSIMPLE_ROWS)
    width, height = tusimple.TUSIMPLE_SIZE
    depth = (rows - rows[0]) / (height - rows[0])  # (R,)
    pairs = []
    for _ in range(images):
        foot = np.linspace(-0.2, 1.2, lanes) * width + rng.normal(0, 60, lanes)
        x = width / 2 + (foot[:, None] - width / 2) * depth  # (lanes, R)
        noisy = x + rng.normal(0, 12, x.shape)
        gt, pred = (np.where((v >= 0) & (v < width), v.round(), -2) for v in (x, noisy))
        pairs.append((pred.tolist(), gt.tolist(), rows.tolist()))
    return pairs


def culane_pairs(rng, images: int, lanes: int) -> list:
    """`images` times (pred, gt): bent lanes, a point every 10 rows as in the data set, predictions off."""
    width, height = culane.CULANE_SIZE
    y = np.arange(height, height * 0.45, -10.0)
    depth = (y - y[-1]) / (y[0] - y[-1])  # 1 at the bottom
    pairs = []
    for _ in range(images):
        foot = np.linspace(-0.1, 1.1, lanes) * width + rng.normal(0, 60, lanes)
        bend = rng.normal(0, 100) * depth * (1 - depth)
        gt = [np.stack([width / 2 + (x - width / 2) * depth + bend, y], 1) for x in foot]
        pairs.append(([lane + np.array([rng.normal(0, 8), 0]) for lane in gt], gt))
    return pairs


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tusimple-images", type=int, default=2782, help="default: %(default)s")
    parser.add_argument("--culane-images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--lanes", type=int, default=4, help="per image, predicted and labelled (default: 4)")
    parser.add_argument("--workers", type=int, help="processes for CULane (default: one per core)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(args.seed)

    pairs = tusimple_pairs(rng, args.tusimple_images, args.lanes)
    start = time.perf_counter()
    score = tusimple.tusimple_score(pairs)
    seconds = time.perf_counter() - start
    print(f"TuSimple {len(pairs)} images: {seconds:.2f} s on 1 core (accuracy {score['accuracy']:.4f})")

    pairs = culane_pairs(rng, args.culane_images, args.lanes)
    start = time.perf_counter()
    canvas = scaled_canvas(culane.CULANE_SIZE)
    score = culane.culane_score(counts_of_pairs(pairs, canvas, args.workers))
    seconds = time.perf_counter() - start
    workers = "the default" if args.workers is None else args.workers
    print(f"CULane {len(pairs)} images: {seconds:.2f} s, workers: {workers} (f1@50 {score['f1@50']:.4f})")


if __name__ == "__main__":
    main()
