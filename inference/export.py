"""The network as a file: ONNX or a torch.export program.

Shapes: B batch, N images, L lane slots, P = 6 control points, S samples, F x W the whole image as the file takes it,
of which the network gets H rows, 2 = (x, y) in [0, 1].
"""

import copy
import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from geometry.bezier import sample_curve
from geometry.input_grid import InputGrid
from inference import onnx_graph, onnx_precision
from model import LaneNet
from runtime import checkpoint

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "checkpoint": ".pth"}
PIXEL_TYPES = {"uint8": torch.uint8, "float": torch.float32}
OPSET = 17  # of ONNX; read by every onnxruntime since 1.13 of 2022, and nothing here needs a later one
MAX_BATCH = 1024  # of a dynamic torch.export program, which has to name one

Run = Callable[[np.ndarray], list[np.ndarray]]  # a file: images (B, 3, F, W) to its outputs


class ExportError(ValueError):
    """An export that cannot be made, or whose file does not give the checkpoint's lanes."""


class ExportOptions(NamedTuple):
    """What the file is to be like."""

    format: str  # onnx | torch | checkpoint
    pixels: str  # uint8 | float
    batch: int | None  # None: dynamic
    curves: int  # samples S of the curves output; 0: no such output
    precision: str = "fp32"  # fp32 | fp16 | int8, of ONNX; half: a checkpoint's weights

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return ["points", "confidence", "curves"] if self.curves else ["points", "confidence"]

    @property
    def plain(self) -> bool:
        """Whether the file is written for OpenCV, too, which reads no dynamic batch."""
        return self.format == "onnx" and self.batch is not None


class ExportedNetwork(nn.Module):
    """Images (B, 3, F, W) in [0, 255] to points (B, L, P, 2), confidence (B, L) and, by option, curves (B, L, S, 2)."""

    def __init__(self, network: LaneNet, grid: InputGrid, curves: int, by_planes: bool = False):
        super().__init__()
        self.network, self.grid, self.curves = copy.deepcopy(network), grid, curves
        self.network.head.along, self.network.head.ends = map(ConvInThrees, (network.head.along, network.head.ends))
        if by_planes:
            self.network.normalize = self.normalize_planes
        self.register_buffer("row_means", torch.from_numpy(grid.averaging_matrix()), persistent=False)  # (H, F)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        points, logits = self.network((self.row_means @ images.float() + 0.5).floor())
        outputs = points, logits.sigmoid()
        return (*outputs, sample_curve(points, self.curves)) if self.curves else outputs

    def normalize_planes(self, images: Tensor) -> Tensor:
        """As LaneNet does by rows of pixels, which are two transpositions in an ONNX file."""
        scale, offset = self.network.scale[:, None, None], self.network.offset[:, None, None]
        return torch.addcmul(offset, images, scale)


class ConvInThrees(nn.Module):
    """A convolution by a kernel of 9x1 as the sum of three by 3x1.

    OpenCV 5.0's default engine gives wrong numbers for 9x1, 1x9 and 1-D kernels without a word, and right ones for 3x1.
    In onnxruntime it takes 0.02 ms longer.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        if conv.kernel_size != (9, 1) or conv.padding != (4, 0):
            raise ValueError(f"a kernel of {conv.kernel_size} with {conv.padding} around; expected (9, 1) and (4, 0)")
        self.kernels = nn.ParameterList(part.clone() for part in conv.weight.detach().split(3, dim=2))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        above, middle, below = self.kernels
        rows = F.pad(x, (0, 0, 4, 4))
        return (F.conv2d(rows[:, :, :-6], above) + F.conv2d(rows[:, :, 3:-3], middle, self.bias)
                + F.conv2d(rows[:, :, 6:], below))


def require_onnx(precision: str) -> None:
    """Raises ExportError where the packages for ONNX are missing or broken."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        if precision == "int8":
            import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise ExportError(f"--format onnx needs onnx and onnxruntime ({' '.join(str(error).split())}); "
                          "install them with: pip install -r requirements-export.txt") from None


def file_metadata(config: Config, options: ExportOptions) -> dict[str, str]:
    """What a program needs to know that is given the file alone; ONNX stores text only."""
    grid = checkpoint.input_grid(config)
    width, height = grid.width, grid.fine_rows
    metadata = {
        "format": checkpoint.FORMAT, "version": checkpoint.VERSION, "width": width, "height": height,
        "batch": options.batch or "dynamic", "precision": options.precision,
        "slots": config.model.slots, "threshold": config.inference.threshold,
        "images": f"(batch, 3, {height}, {width}) RGB, 0 to 255; the whole image, resized",
        "points": "control points of a quintic Bezier curve a slot, far to near, x and y in [0, 1] of the image",
        "confidence": "that there is a lane in the slot; a lane from threshold on",
    }
    if options.curves:
        metadata["curves"] = f"{options.curves} points along each curve, far to near, x and y in [0, 1] of the image"
    return {key: str(value) for key, value in metadata.items()}


def settings_text(metadata: Mapping[str, str]) -> str:
    """The metadata as a YAML file for cv::FileStorage: OpenCV reads none of what an ONNX file says about itself."""
    file = cv2.FileStorage("", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY | cv2.FILE_STORAGE_FORMAT_YAML)
    for key, value in metadata.items():
        file.write(key, int(value) if value.isdecimal() else float(value) if key == "threshold" else value)
    return file.releaseAndGetString()


def example_input(network: ExportedNetwork, options: ExportOptions) -> Tensor:
    """Black images to trace the network with, which has run on them once.

    That run fills the caches of constant matrices in geometry/bezier.py; filled while an exporter is tracing, they
    would keep its symbols instead of numbers. A dynamic batch is traced as 2, since 1 would be taken for fixed.
    """
    grid = network.grid
    images = torch.zeros(options.batch or 2, 3, grid.fine_rows, grid.width, dtype=PIXEL_TYPES[options.pixels])
    network(images)
    return images


def write_file(path: Path, network: ExportedNetwork, options: ExportOptions, metadata: dict[str, str],
               calibration: np.ndarray | None = None) -> None:
    """Write the network in the format of the options, with its metadata inside; int8 needs images (N, F, W, 3)."""
    if options.format == "onnx":
        write_onnx(path, network, options, metadata, calibration)
    else:
        write_program(path, network, options, metadata)


def read_file(path: Path, options: ExportOptions) -> Run:
    """The file as a function from images (B, 3, F, W) to its outputs."""
    return read_onnx(path) if options.format == "onnx" else read_program(path)


def write_onnx(path: Path, network: ExportedNetwork, options: ExportOptions, metadata: dict[str, str],
               calibration: np.ndarray | None) -> None:
    """Write the network as ONNX.

    By the tracing exporter: the one built on torch.export gives the same graph and rate, but cannot translate
    this network in torch 2.6 and needs one package more.
    """
    import onnx

    axes = None if options.batch else {name: {0: "batch"} for name in ["images", *options.outputs]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not the default exporter, and what it leaves unfolded
        torch.onnx.export(network, (example_input(network, options),), str(path), dynamo=False, opset_version=OPSET,
                          input_names=["images"], output_names=options.outputs, dynamic_axes=axes)
    onnx_graph.fold_constants(path)
    model = onnx.load(path)
    if options.plain:
        onnx_graph.rewrite(model)
    if options.precision == "fp16":
        onnx_precision.to_half(model)
    elif options.precision == "int8":
        model = onnx_precision.to_int8(model, calibration.transpose(0, 3, 1, 2))
    onnx_graph.tidy(model)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def read_onnx(path: Path) -> Run:
    """An ONNX file, run by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def write_program(path: Path, network: ExportedNetwork, options: ExportOptions, metadata: dict[str, str]) -> None:
    """Write the network as a torch.export program, with its metadata as metadata.json inside."""
    shapes = None if options.batch else {"images": {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}}
    # strict=False, since torch 2.6 cannot read back what the other way of tracing writes.
    program = torch.export.export(network, (example_input(network, options),), dynamic_shapes=shapes, strict=False)
    archive = io.BytesIO()  # in a file all names inside would begin with that file's
    torch.export.save(program, archive, extra_files={"metadata.json": json.dumps(metadata)})
    path.write_bytes(archive.getvalue())


def read_program(path: Path) -> Run:
    """A torch.export program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.6 wonders about constants that it wrote itself
        module = torch.export.load(path).module()

    return lambda images: [output.numpy() for output in module(torch.from_numpy(images))]
