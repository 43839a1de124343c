"""Writes a checkpoint as an ONNX file or a torch.export program: python export_fixed.py [section.key=value ...]

The file takes plain RGB pixels (normalization is inside), says in its metadata what they must look like, and is
only kept when it gives the checkpoint's lanes. Shapes: B batch, L lane slots, P = 6 control points, S samples,
F x W the whole image as the file takes it, of which the network sees H rows, 2 = (x, y) in [0, 1].
"""

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import dataset
from config import Config
from geometry.bezier import sample_curve
from geometry.input_grid import InputGrid
from model import LaneNet
from preprocessing.images import read_image, resize
from renderer.scene import render_scene
from runtime import checkpoint, cli

SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
PIXELS = {"uint8": torch.uint8, "float": torch.float32}
OPSET = 17  # of ONNX; read by every onnxruntime since 1.13 of 2022, and nothing here needs a later one
LARGEST_BATCH = 1024  # of a dynamic torch.export program, which has to name one
CHECKED_IMAGES = 16
LIMIT_PX = 0.1  # of a 1280 px wide image
CONFIDENCE_LIMIT = 0.001


class ExportError(ValueError):
    """An export that cannot be made, or whose file does not give the checkpoint's lanes."""


class Form(NamedTuple):
    """What the file is to be like."""

    kind: str  # onnx | torch
    pixels: str  # uint8 | float
    batch: int | None  # None: dynamic
    curves: int  # samples S of the curves output; 0: no such output

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return ["points", "confidence", "curves"] if self.curves else ["points", "confidence"]


class Exported(nn.Module):
    """Images (B, 3, F, W) in [0, 255] to points (B, L, P, 2), confidence (B, L) and, by wish, curves (B, L, S, 2)."""

    def __init__(self, network: LaneNet, grid: InputGrid, curves: int):
        super().__init__()
        self.network, self.curves = network, curves
        self.register_buffer("means", torch.from_numpy(grid.averaging_matrix()), persistent=False)  # (H, F)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        points, logits = self.network((self.means @ images.float() + 0.5).floor())
        found = points, logits.sigmoid()
        return (*found, sample_curve(points, self.curves)) if self.curves else found


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, compare it with the checkpoint on images, and say where it is and how far it is off."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--checkpoint", default="checkpoints_fixed/best_model.pth", metavar="FILE")
    arguments.add_argument("--format", default="onnx", choices=tuple(SUFFIX))
    arguments.add_argument("--output", type=Path, metavar="FILE", help="default: beside the checkpoint, .onnx or .pt2")
    arguments.add_argument("--pixels", default="uint8", choices=tuple(PIXELS), help="of the input, 0 to 255 in both")
    arguments.add_argument("--batch", type=batch_size, default=1, metavar="N|dynamic", help="default: 1")
    arguments.add_argument("--curves", type=sample_count, default=0, metavar="S", help="also S points along each lane")
    options, overrides = cli.parse(arguments, argv, inputs=False)
    form = Form(options.format, options.pixels, options.batch, options.curves)
    if form.kind == "onnx":
        require_onnx()
    settings = cli.load_settings(options, overrides)
    network, _, payload = checkpoint.load_model(options.checkpoint, torch.device("cpu"))
    config = checkpoint.with_checkpoint(settings, payload)
    grid = checkpoint.input_grid(config)
    model = Exported(network, grid, form.curves).eval().requires_grad_(False)
    output = options.output or Path(options.checkpoint).with_suffix(SUFFIX[form.kind])
    if output.suffix != SUFFIX[form.kind] or output.is_dir():
        raise ExportError(f"{output}: --format {form.kind} writes a file whose name ends in {SUFFIX[form.kind]}")

    images, origin = check_images(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        draft = Path(folder) / output.name  # until it is proved
        write, read = (write_onnx, read_onnx) if form.kind == "onnx" else (write_program, read_program)
        write(draft, model, form, config)
        lanes_px, confidence = differences(model, read(draft), images, form)
        if not (lanes_px < LIMIT_PX and confidence < CONFIDENCE_LIMIT):  # nor where one is not a number
            raise ExportError(f"{output}: not written: on {origin} it is up to {lanes_px:.3g} px and {confidence:.3g} "
                              f"in confidence away from {options.checkpoint} (at most {LIMIT_PX} and "
                              f"{CONFIDENCE_LIMIT}); try another version of torch or of onnxruntime")
        os.replace(draft, output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {', '.join(form.outputs)} of "
          f"{grid.width}x{grid.fine_rows} RGB {form.pixels} images, batch {form.batch or 'dynamic'}")
    print(f"compared on {origin}: lanes within {lanes_px:.2g} px of a 1280 px wide image, "
          f"confidence within {confidence:.2g}")
    return 0


def batch_size(text: str) -> int | None:
    """The number of images that --batch names; None for 'dynamic'."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 nor 'dynamic'")
    return int(text)


def sample_count(text: str) -> int:
    """The number of points that --curves names."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2: a curve has two ends")
    return int(text)


def require_onnx() -> None:
    """Raises ExportError where the packages for ONNX are missing or broken."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExportError(f"--format onnx needs onnx and onnxruntime ({error}); "
                          "install them with: pip install -r requirements-export.txt") from None


def metadata(config: Config, form: Form) -> dict[str, str]:
    """What a program needs to know that is given the file alone; ONNX stores text only."""
    grid = checkpoint.input_grid(config)
    width, height = grid.width, grid.fine_rows
    told = {
        "format": checkpoint.FORMAT, "version": checkpoint.VERSION, "width": width, "height": height,
        "slots": config.model.slots, "threshold": config.inference.threshold,
        "images": f"(batch, 3, {height}, {width}) RGB, 0 to 255; the whole image, resized",
        "points": "control points of a quintic Bezier curve a slot, far to near, x and y in [0, 1] of the image",
        "confidence": "that there is a lane in the slot; a lane from threshold on",
    }
    if form.curves:
        told["curves"] = f"{form.curves} points along each curve, far to near, x and y in [0, 1] of the image"
    return {key: str(value) for key, value in told.items()}


def example_input(model: Exported, form: Form, config: Config) -> Tensor:
    """Black images to follow through the network, which has run on them once.

    That run fills the caches of constant matrices in bezier.py; filled while an exporter is watching, they
    would keep its symbols instead of numbers. A dynamic batch is shown as 2, since 1 would be taken for fixed.
    """
    grid = checkpoint.input_grid(config)
    images = torch.zeros(form.batch or 2, 3, grid.fine_rows, grid.width, dtype=PIXELS[form.pixels])
    model(images)
    return images


def write_onnx(path: Path, model: Exported, form: Form, config: Config) -> None:
    """Write the network as ONNX, with its metadata.

    By the tracing exporter: the one built on torch.export gives the same graph and rate, but cannot translate
    this network in torch 2.6 and needs one package more.
    """
    import onnx

    axes = None if form.batch else {name: {0: "batch"} for name in ["images", *form.outputs]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not the default exporter, and what it leaves unfolded
        torch.onnx.export(model, (example_input(model, form, config),), str(path), dynamo=False, opset_version=OPSET,
                          input_names=["images"], output_names=form.outputs, dynamic_axes=axes)
    written = onnx.load(path)
    onnx.helper.set_model_props(written, metadata(config, form))
    onnx.checker.check_model(written)
    onnx.save(written, path)


def read_onnx(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file as a function from images (B, 3, F, W) to its outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def write_program(path: Path, model: Exported, form: Form, config: Config) -> None:
    """Write the network as a torch.export program, with its metadata as metadata.json inside."""
    shapes = None if form.batch else {"images": {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}}
    # strict=False, since torch 2.6 cannot read back what the other way of tracing writes.
    program = torch.export.export(model, (example_input(model, form, config),), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(metadata(config, form))})


def read_program(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file as a function from images (B, 3, F, W) to its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.6 wonders about constants that it wrote itself
        module = torch.export.load(path).module()

    return lambda images: [output.numpy() for output in module(torch.from_numpy(images))]


def check_images(config: Config) -> tuple[np.ndarray, str]:
    """Images (N, F, W, 3) to compare on and what they are: validation images, or scenes where there are none."""
    there = all(Path(root).is_dir() for root in config.data.root)
    samples = dataset.split_from_config(config, training=False).val if there else []
    if samples:
        picked = sorted({len(samples) * k // CHECKED_IMAGES for k in range(CHECKED_IMAGES)})
        found = [read_image(samples[i].image) for i in picked]
        origin = f"{len(found)} validation images of {config.data.root[-1]}"
    else:
        found = [render_scene(seed).image for seed in range(CHECKED_IMAGES)]
        origin = f"{len(found)} rendered scenes"
    grid = checkpoint.input_grid(config)
    return np.stack([resize(image, grid.width, grid.fine_rows) for image in found]), origin


def differences(model: Exported, run: Callable[[np.ndarray], list[np.ndarray]], images: np.ndarray, form: Form
                ) -> tuple[float, float]:
    """How far the file's lanes are off, in px of a 1280 px wide image, and its confidence: the largest of each.

    images (N, F, W, 3) go through the model one by one and through the file in batches: of its own size, or,
    where that is dynamic, one image and then all the others.
    """
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    single = [model(torch.from_numpy(image)[None]) for image in images]
    expected = [torch.cat(parts).numpy() for parts in zip(*single, strict=True)]
    batches = [np.arange(1), np.arange(1, len(images))]
    if form.batch:
        batches = [np.arange(i, i + form.batch) % len(images) for i in range(0, len(images), form.batch)]
    worst = dict.fromkeys(form.outputs, 0.0)
    for rows in filter(len, batches):
        outputs = run(images[rows].astype(np.float32 if form.pixels == "float" else np.uint8))
        for name, output, wanted in zip(form.outputs, outputs, expected, strict=True):
            worst[name] = np.maximum(worst[name], np.abs(output - wanted[rows]).max())  # keeps a nan
    confidence = float(worst.pop("confidence"))
    return float(np.max(list(worst.values()))) * 1280, confidence


if __name__ == "__main__":
    cli.run(main)
