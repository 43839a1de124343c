"""The lane-regression network: an RGB image in, a curve and a logit for each lane slot out.

Shapes: B batch, L lane slots, P = 6 control points, C channels, h x w the feature map at stride 8, K = 2 (w + 2)
columns, S samples, 2 = (x, y) in [0, 1] of the image, whose rows are those of geometry/input_grid.py.

The head keeps position. For every lane slot and every row of the feature map it predicts the column with
a softmax, so an x coordinate is read off from where the evidence is; a globally pooled head has to recover it
from an average over the whole image, learns the mean lane first, and tends to stay at it.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geometry.bezier import control_points_from_x, fit_matrix, unit_steps
from geometry.feature_grid import COLUMNS_PER_CELL, FeatureGrid, feature_grid
from geometry.input_grid import UNIFORM, RowWarp
from geometry.row_fit import follow_curve
from geometry.slots import RowLogits

MODE_SHARE = 0.95  # of the largest probability of a row: columns that have it, too, share the mode
MODE_REACH = 2  # columns to either side of the most probable one that count for a lane's x
SAMPLES = 24  # rows along a curve from which its control points are fitted
MIN_HEIGHT = 0.02  # of the image height: no lane is lower
ROW_HEIGHT = 0.02  # of the image: a lane that begins so little above the input's first row loses nothing
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB statistics of ImageNet, in [0, 1]


class LanePrediction(NamedTuple):
    """points (B, L, P, 2) float32 in canonical form (see geometry/bezier.py); logits (B, L) of "this lane exists"."""

    points: Tensor
    logits: Tensor


class LaneNet(nn.Module):
    """Lane curves from RGB images (B, 3, H, W), uint8 or float in [0, 255]; H a multiple of 8, W of 32.

    `warp` maps the H rows to the image; no lane begins above them.
    """

    def __init__(self, backbone: str = "compact", pretrained: bool | str = False, slots: int = 6,
                 warp: RowWarp = UNIFORM):
        super().__init__()
        if slots < 2 or slots % 2:
            raise ValueError(f"model.slots is {slots}; expected an even number: half to the left, half to the right")
        self.slots = slots
        self.trunk, widths = _trunk(backbone, pretrained)
        self.neck = Neck(widths, channels=64)
        self.head = LaneHead(64, widths[-1], slots, warp)
        mean, std = (255 * torch.tensor(v) for v in (MEAN, STD))
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def forward(self, images: Tensor, with_rows: bool = False) -> LanePrediction | tuple[LanePrediction, RowLogits]:
        """A LanePrediction; with_rows adds the row logits, which training supervises as well."""
        x = self.normalize(images)  # (B, 3, H, W)
        maps = []
        for stage in self.trunk:
            x = stage(x)
            maps.append(x)  # strides 8, 16, 32
        features = self.neck(maps)  # (B, C, h, w)
        context = F.avg_pool2d(maps[-1], maps[-1].shape[2:]).flatten(1)  # (B, C'); as a mean, and faster
        prediction, rows = self.head(features, context)
        return (prediction, rows) if with_rows else prediction

    def normalize(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) of mean 0 and deviation 1, float32, channels_last. By rows of pixels, which is faster."""
        width = int(images.shape[3])
        rows = images.permute(0, 2, 3, 1).flatten(2).float()  # (B, H, 3 W)
        offset, scale = (of_color.expand(width, 3).flatten() for of_color in (self.offset, self.scale))
        rows = torch.addcmul(offset, rows, scale)
        return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)


def starts_above_cut(points: Any, cut_top: float) -> Any:
    """Which curves (..., P, 2), a tensor or an array, begin above the input's first row."""
    return points[..., 0, 1] < cut_top - ROW_HEIGHT


class LaneHead(nn.Module):
    """Features (B, C, h, w) and context (B, C') to a LanePrediction and the row logits behind it."""

    def __init__(self, channels: int, context: int, slots: int, warp: RowWarp):
        super().__init__()
        self.warp = warp
        self.modulation = nn.Linear(context, 3 * channels)  # scale and offset of the map; added along lanes
        self.mix = ConvNormAct(channels, channels, kernel=3)
        # One cell more on each side, so that a lane at the very edge is still between two columns. No bias: a softmax
        # would not see what the columns of a cell have in common of it.
        self.columns = nn.Conv2d(channels, slots * COLUMNS_PER_CELL, 3, padding=(1, 2), bias=False)
        self.lane_embedding = nn.Parameter(torch.randn(slots, channels) * 0.1)
        self.x_embedding = nn.Parameter(torch.randn(channels) * 0.1)
        self.along = nn.Conv2d(channels, channels, (9, 1), padding=(4, 0))  # the rows of a lane: 72 px of the input
        # logits of a row: the lane's far end, its near end, weight of its evidence, lane present
        self.ends = nn.Conv2d(channels, 4, (9, 1), padding=(4, 0))
        self.exists = nn.Sequential(  # over all lanes at once: whether a line is the second depends on the first
            nn.Linear(slots * channels + context, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, slots)
        )
        self.register_buffer("fit", fit_matrix(SAMPLES), persistent=False)  # not worked out anew when it is compiled

    def forward(self, features: Tensor, context: Tensor) -> tuple[LanePrediction, RowLogits]:
        scale, offset, added = self.modulation(context).to(features.dtype)[:, :, None, None].chunk(3, dim=1)
        features = self.mix(features * (1 + scale) + offset)  # (B, C, h, w)
        columns = self.columns(features).unflatten(1, (-1, COLUMNS_PER_CELL))  # (B, L, 2, h, w + 2)
        columns = columns.permute(0, 1, 3, 4, 2).flatten(3).float()  # (B, L, h, K)
        grid = feature_grid(int(columns.shape[2]), int(columns.shape[3]), self.warp, columns.device)
        weights = columns.softmax(-1)
        # Coordinates are sums of products, not matrix products: autocast rounds those to bfloat16, 5 px of 1280.
        x = (weights * grid.centers).sum(-1)  # (B, L, h)

        # The features along each lane decide whether it exists and where it begins and ends.
        cells = weights.unflatten(-1, (-1, COLUMNS_PER_CELL)).sum(-1)[..., 1:-1].to(features.dtype)  # (B, L, h, w)
        attended = cells.transpose(1, 2) @ features.permute(0, 2, 3, 1)  # (B, h, L, C)
        attended = attended + (x.transpose(1, 2).unsqueeze(-1) * 2 - 1) * self.x_embedding + self.lane_embedding
        along = F.silu(self.along(attended.permute(0, 3, 1, 2) + added))  # (B, C, h, L)
        ends = self.ends(along).float().transpose(2, 3)  # (B, 4, L, h)
        far, near, weight = ends[:, :3].softmax(-1).unbind(1)  # (B, L, h)
        evidence = (along * weight.transpose(1, 2).unsqueeze(1)).sum(2)  # (B, C, L)
        logits = self.exists(torch.cat((evidence.flatten(1), context), dim=1)).float()  # (B, L)

        y_far = (far * grid.ends).sum(-1).clamp(max=1 - MIN_HEIGHT)  # (B, L)
        y_near = torch.maximum((near * grid.ends).sum(-1), y_far + MIN_HEIGHT)

        # x at SAMPLES equally spaced y of the lane, by linear interpolation between the middles of rows, and on
        # beyond the first and the last one, which are half a row away from the edges.
        if not self.training:
            x = modal_x(weights, grid, ends[:, 3].sigmoid())
        before = x[..., :1] - (x[..., 1:2] - x[..., :1]) * grid.beyond[0]
        after = x[..., -1:] + (x[..., -1:] - x[..., -2:-1]) * grid.beyond[1]
        x = torch.cat((before, x, after), dim=-1)  # (B, L, h + 2)
        fraction = unit_steps(SAMPLES, x.device)
        at = (y_far.unsqueeze(-1) + (y_near - y_far).unsqueeze(-1) * fraction).unsqueeze(-1)  # (B, L, S, 1)
        from_above, from_below = (at - grid.above) / grid.to_above, (grid.below - at) / grid.to_below
        hat = torch.minimum(from_above, from_below).clamp(min=0)  # (B, L, S, h + 2)
        sampled = (hat * x.unsqueeze(-2)).sum(-1)  # (B, L, S)
        control_x = (sampled.unsqueeze(-2) * self.fit).sum(-1)  # (B, L, P)
        points = control_points_from_x(control_x, y_far, y_near)  # (B, L, P, 2)
        return LanePrediction(points, logits), RowLogits(columns, ends[:, 3], grid.centers, grid.middles)


def modal_x(weights: Tensor, grid: FeatureGrid, present: Tensor) -> Tensor:
    """x (..., h) of the grid's rows, whose columns have weights (..., h, K): means near the likeliest one of each row.

    A slot may have evidence for two lines, as where the camera is above one; the mean over all columns then lies
    between them, where there is none. Uncertain rows follow the certain ones; present (..., h) is the probability that
    a row has the lane.
    In training that mean is compared with the label nevertheless: it has a gradient at every column.
    """
    # By sums and products, as OpenCV's dnn cannot compare; columns that are within 5 % of the likeliest share the mode.
    largest = (weights - MODE_SHARE * weights.amax(-1, keepdim=True)).clamp(min=0)
    mode = (largest * grid.index).sum(-1, keepdim=True) / largest.sum(-1, keepdim=True)
    weights = weights * (MODE_REACH + 1 - (grid.index - mode).abs()).clamp(0, 1)
    certainty = weights.sum(-1)
    x = (weights * grid.centers).sum(-1) / certainty
    return follow_curve(x, grid.basis, certainty, present).clamp(grid.left, grid.right)


class Neck(nn.Module):
    """Maps at strides 8, 16 and 32 to one of `channels` at stride 8, from the deepest up.

    The sum of two maps is smoothed before it is enlarged again; the last one is left to what comes after the neck.
    """

    def __init__(self, widths: list[int], channels: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.smooth = nn.ModuleList(ConvNormAct(channels, channels, kernel=3) for _ in widths[2:])

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.lateral[-1](maps[-1])
        for finer, lateral, smooth in zip(maps[-2:0:-1], self.lateral[-2:0:-1], self.smooth, strict=True):
            x = smooth(lateral(finer) + _upsample(x, finer))
        return self.lateral[0](maps[0]) + _upsample(x, maps[0])


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="nearest")


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, ReLU; the size is kept at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """The basic block of ResNet (He et al. 2015): two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.first = ConvNormAct(inputs, outputs, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x), inplace=True)


def _trunk(backbone: str, pretrained: bool | str) -> tuple[nn.ModuleList, list[int]]:
    """Three stages whose outputs have strides 8, 16 and 32, and their widths."""
    if backbone == "compact":
        if pretrained:
            raise ValueError("model.pretrained: there are no weights for 'compact'; set it to false")
        return _compact()
    import torchvision  # which takes as long to import as PyTorch, and the compact backbone does without

    weights = torchvision.models.get_model_weights(backbone).DEFAULT if pretrained is True else None
    try:
        network = torchvision.models.get_model(backbone, weights=weights)
    except OSError as error:
        raise ValueError(
            f"model.pretrained: the ImageNet weights cannot be downloaded ({error}); "
            "go online once, give the path of a .pth file, or set model.pretrained=false"
        ) from None
    if isinstance(pretrained, str):
        _load_trunk(network, Path(pretrained))
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = nn.ModuleList([nn.Sequential(stem, network.layer1, network.layer2), network.layer3, network.layer4])
    return stages, [128, 256, 512]


def _compact() -> tuple[nn.ModuleList, list[int]]:
    """ResNet's plan at a sixteenth of ResNet-18's cost: two blocks a stage. Thin lines need the stem's small steps."""
    stem = nn.Sequential(ConvNormAct(3, 16, 3, stride=2), ConvNormAct(16, 32, 3, stride=2), Residual(32, 32))
    stages = nn.ModuleList([
        nn.Sequential(stem, Residual(32, 64, stride=2), Residual(64, 64)),
        nn.Sequential(Residual(64, 128, stride=2), Residual(128, 128)),
        nn.Sequential(Residual(128, 192, stride=2), Residual(192, 192)),
    ])
    return stages, [64, 128, 192]


def _load_trunk(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"model.pretrained: no file {path}; give true, false or a file of ImageNet weights")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a pickle can fail in any way; all of them mean the same to the user
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"model.pretrained: {path} does not fit this backbone: {reason}") from None
