"""Writes a checkpoint as an ONNX file or a torch.export program: python export_fixed.py [section.key=value ...]

The file takes plain RGB pixels (normalization is inside), says in its metadata what they must look like, and is
only kept when it gives the checkpoint's lanes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from config import Config
from dataset import split_from_config
from formats.sample_index import evenly_spaced
from geometry.input_grid import InputGrid
from inference import export
from inference.export import PIXEL_TYPES, SUFFIXES, ExportedNetwork, ExportError, ExportOptions
from inference.predictor import Predictor
from metrics.collapse import REFERENCE_WIDTH_PX
from preprocessing.images import read_image, resize
from renderer.scene import render_scene
from runtime import checkpoint, cli
from runtime.checkpoint import DEFAULT_CHECKPOINT
from runtime.files import atomic_write

CHECKED_IMAGES = 16
LIMIT_PX = 0.1  # of an image of the reference width
CONFIDENCE_LIMIT = 0.001


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, compare it with the checkpoint on images, and say where it is and how far it is off."""
    arguments, overrides = parse_arguments(argv)
    options = ExportOptions(arguments.format, arguments.pixels, arguments.batch, arguments.curves)
    if options.format == "onnx":
        export.require_onnx()
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
    with atomic_write(output) as draft:
        export.write_file(draft, exported, options, export.file_metadata(config, options))
        lanes_px, confidence = export.max_errors(predictor, export.read_file(draft, options), images, options)
        if not (lanes_px < LIMIT_PX and confidence < CONFIDENCE_LIMIT):  # nor where one is not a number
            raise ExportError(f"{output}: not written: on {origin} it is up to {lanes_px:.3g} px and {confidence:.3g} "
                              f"in confidence away from {arguments.checkpoint} (at most {LIMIT_PX} and "
                              f"{CONFIDENCE_LIMIT}); try another version of torch or of onnxruntime")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {', '.join(options.outputs)} of "
          f"{grid.width}x{grid.fine_rows} RGB {options.pixels} images, batch {options.batch or 'dynamic'}")
    print(f"compared on {origin}: lanes within {lanes_px:.2g} px of a {REFERENCE_WIDTH_PX} px wide image, "
          f"confidence within {confidence:.2g}")
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
    parser.add_argument("--curves", type=sample_count, default=0, metavar="S", help="also S points along each lane")
    return cli.parse(parser, argv, inputs=False)


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
    if output.suffix != suffix or output.is_dir():
        raise ExportError(f"{output}: --format {arguments.format} writes a file whose name ends in {suffix}")
    return output


def check_images(config: Config, grid: InputGrid) -> tuple[np.ndarray, str]:
    """Images (N, F, W, 3) to compare on and what they are: validation images, or scenes where there are none."""
    has_data = all(Path(root).is_dir() for root in config.data.root)
    samples = evenly_spaced(split_from_config(config, training=False).val, CHECKED_IMAGES) if has_data else []
    if samples:
        images = [read_image(sample.image) for sample in samples]
        roots = config.data.root if config.data.validate == "all" else config.data.root[-1:]
        origin = f"{len(images)} validation images of {', '.join(roots)}"
    else:
        images = [render_scene(seed).image for seed in range(CHECKED_IMAGES)]
        origin = f"{len(images)} rendered scenes"
    return np.stack([resize(image, grid.width, grid.fine_rows) for image in images]), origin


if __name__ == "__main__":
    cli.run(main)
