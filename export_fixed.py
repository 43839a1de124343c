"""Writes a checkpoint as an ONNX file or a torch.export program: python export_fixed.py [section.key=value ...]

The file takes plain RGB pixels (normalization is inside), says in its metadata what they must look like, and is
only kept when it gives the checkpoint's lanes. --format checkpoint writes a checkpoint of half the size, to share.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import Config
from dataset import split_from_config
from formats.files import IMAGE_SUFFIXES, Tree
from formats.sample_index import evenly_spaced
from geometry.input_grid import InputGrid
from inference import export, export_check
from inference.export import PIXEL_TYPES, SUFFIXES, ExportedNetwork, ExportError, ExportOptions, Run
from inference.export_check import LIMITS
from inference.onnx_precision import PRECISIONS
from inference.predictor import Predictor
from preprocessing.images import read_image, resize
from renderer.scene import render_scene
from runtime import checkpoint, cli
from runtime.checkpoint import DEFAULT_CHECKPOINT
from runtime.files import atomic_write, write_text

CHECKED_IMAGES = 16
CALIBRATION_IMAGES = 64
FIRST_CALIBRATION_SEED = 1000  # of rendered scenes, away from those that are compared
ADVICE = {
    "fp32": "try another version of torch or of onnxruntime",
    "fp16": "export it with --precision fp32",
    "half": "share the checkpoint itself",
    "int8": "give --calibration a folder of images like these, or export it with --precision fp16",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, compare it with the checkpoint on images, and say where it is and how far it is off."""
    arguments, overrides = parse_arguments(argv)
    options = export_options(arguments)
    settings = cli.load_settings(arguments, overrides)
    device = torch.device("cpu")
    network, _, payload = checkpoint.load_model(arguments.checkpoint, device,
                                                cli.model_settings(arguments, overrides, settings))
    config = checkpoint.with_checkpoint(settings, payload)
    output = output_path(arguments)

    grid = checkpoint.input_grid(config)
    predictor = Predictor(network, grid, device, torch.float32)
    exported = ExportedNetwork(network, grid, options.curves, options.plain).eval().requires_grad_(False)
    images, origin = check_images(config, grid)
    calibration = calibration_images(arguments.calibration, grid) if options.precision == "int8" else None
    metadata = export.file_metadata(config, options)
    with atomic_write(output) as draft:
        if options.format == "checkpoint":
            run = write_checkpoint(draft, payload, options)
        else:
            export.write_file(draft, exported, options, metadata, calibration)
            run = export.read_file(draft, options)
        errors = export_check.errors(predictor, run, images, options)
        limits = LIMITS[options.precision]
        if not errors.within(limits):
            raise ExportError(f"{output}: not written: on {origin} it is off from {arguments.checkpoint}: {errors} "
                              f"(at most {', '.join(f'{limit:g}' for limit in limits)}); {ADVICE[options.precision]}")
    if options.format == "onnx":
        write_text(f"{output}.yaml", export.settings_text(metadata))
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {', '.join(options.outputs)} of "
          f"{grid.width}x{grid.fine_rows} RGB {options.pixels} images, batch {options.batch or 'dynamic'}, "
          f"{options.precision}")
    print(f"compared on {origin}: {errors}")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The parsed arguments, and the overrides among them."""
    parser = cli.parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, metavar="FILE")
    parser.add_argument("--format", default="onnx", choices=tuple(SUFFIXES))
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: beside the checkpoint, .onnx or .pt2")
    parser.add_argument("--pixels", default="uint8", choices=tuple(PIXEL_TYPES), help="of the input, 0 to 255 in both")
    parser.add_argument("--batch", type=batch_size, default=1, metavar="N|dynamic", help="default: 1")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of the network's arithmetic, in ONNX")
    parser.add_argument("--calibration", type=Path, metavar="DIR",
                        help=f"for int8: images like those it will see; default: {CALIBRATION_IMAGES} rendered scenes")
    parser.add_argument("--curves", type=sample_count, default=0, metavar="S", help="also S points along each lane")
    return cli.parse(parser, argv, inputs=False)


def export_options(arguments: argparse.Namespace) -> ExportOptions:
    """What the file is to be like. Raises ExportError for options that do not go together, or lack a package."""
    if arguments.format != "onnx" and arguments.precision != "fp32":
        raise ExportError(f"--precision {arguments.precision} is of ONNX files; leave out --format {arguments.format}")
    if arguments.calibration and arguments.precision != "int8":
        raise ExportError("--calibration is for --precision int8 alone")
    if arguments.format == "onnx":
        export.require_onnx(arguments.precision)
    if arguments.format == "checkpoint":
        for name, usual in (("pixels", "uint8"), ("batch", 1), ("curves", 0)):
            if getattr(arguments, name) != usual:
                raise ExportError(f"--{name} is of ONNX files and programs; leave out --format checkpoint")
        return ExportOptions("checkpoint", "uint8", None, 0, "half")
    return ExportOptions(arguments.format, arguments.pixels, arguments.batch, arguments.curves, arguments.precision)


def write_checkpoint(path: Path, payload: dict[str, Any], options: ExportOptions) -> Run:
    """Write a checkpoint with its weights in float16; returns what the network of the file gives for images."""
    weights = {name: value.half() if value.is_floating_point() else value
               for name, value in checkpoint.validated_weights(payload).items()}
    checkpoint.save_checkpoint(path, payload["config"], model=weights, scores=payload.get("scores"))
    network, config, _ = checkpoint.load_model(path, torch.device("cpu"))
    halved = ExportedNetwork(network, checkpoint.input_grid(config), options.curves).eval().requires_grad_(False)
    return lambda pixels: [output.numpy() for output in halved(torch.from_numpy(pixels))]


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


def output_path(arguments: argparse.Namespace) -> Path:
    """Where the file goes. Raises ExportError where its name does not fit the format."""
    suffix = SUFFIXES[arguments.format]
    output = arguments.output or Path(arguments.checkpoint).with_suffix(suffix)
    if os.path.realpath(output) == os.path.realpath(arguments.checkpoint):
        raise ExportError(f"{output}: this is the checkpoint itself; name another file with --output")
    if output.suffix != suffix or output.is_dir():
        raise ExportError(f"{output}: --format {arguments.format} writes a file whose name ends in {suffix}")
    return output


def check_images(config: Config, grid: InputGrid) -> tuple[np.ndarray, str]:
    """Images (N, F, W, 3) to compare on and what they are: validation images, or scenes where there are none."""
    has_data = all(Path(root).is_dir() for root in config.data.root)
    samples = evenly_spaced(split_from_config(config, training=False).val, CHECKED_IMAGES) if has_data else []
    if samples:
        images = resized((read_image(sample.image) for sample in samples), grid)
        roots = config.data.root if config.data.validate == "all" else config.data.root[-1:]
        return images, f"{len(images)} validation images of {', '.join(roots)}"
    return resized(map(rendered, range(CHECKED_IMAGES)), grid), f"{CHECKED_IMAGES} rendered scenes"


def calibration_images(folder: Path | None, grid: InputGrid) -> np.ndarray:
    """Images (N, F, W, 3) that the ranges of int8 are taken from. Raises ExportError for a folder without any."""
    if folder is None:
        return resized((rendered(FIRST_CALIBRATION_SEED + i) for i in range(CALIBRATION_IMAGES)), grid)
    if not folder.is_dir():
        raise ExportError(f"--calibration {folder}: no such folder")
    paths = [path for path in Tree(folder).files() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise ExportError(f"--calibration {folder}: no image in it; give it {CALIBRATION_IMAGES} or more")
    return resized(map(read_image, evenly_spaced(paths, CALIBRATION_IMAGES)), grid)


def rendered(seed: int) -> np.ndarray:
    """A rendered scene, RGB."""
    return render_scene(seed).image


def resized(images: Iterable[np.ndarray], grid: InputGrid) -> np.ndarray:
    """Images of any size as the file takes them, (N, F, W, 3)."""
    return np.stack([resize(image, grid.width, grid.fine_rows) for image in images])


if __name__ == "__main__":
    cli.run(main)
