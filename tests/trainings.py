"""Trainings of seconds, for tests: what they are set to, and what they leave behind."""

import json

import torch

SHORT = ["model.width=160", "model.height=96", "train.batch_size=4", "train.device=cpu", "train.precision=fp32",
         "data.workers=0", "train.ema=0.5", "guard.min_diversity=0.001"]  # models of a dozen steps are kept
CLOCK = ("seconds", "images_per_second")


def log(folder):
    """The records of log.jsonl without what the clock says."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in CLOCK} for record in records]


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
