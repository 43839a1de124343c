"""The networks that are measured: ours, and beside them a baseline, the least work of the detectors that people use.

The baseline is torchvision's ResNet-18 trunk at 288x800, without any head.
"""

import torch
import torchvision
from torch import nn

from config import Config
from model import LaneNet

BASELINE = "baseline: ResNet-18 trunk"
SIZES = {  # height, width
    BASELINE: (288, 800),
    "compact": (Config().model.height, Config().model.width),
    "resnet18": (216, 800),  # what is left of 288 rows without the sky
    "resnet34": (216, 800),
}


def build_network(name: str) -> nn.Module:
    """One of ours, or the baseline."""
    if name != BASELINE:
        return LaneNet(name, slots=Config().model.slots)
    return nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])


def random_images(name: str, batch: int) -> torch.Tensor:
    """(B, 3, H, W) in channels-last memory as the network takes them: ours normalize uint8 themselves."""
    shape = (batch, 3, *SIZES[name])
    images = torch.rand(shape) if name == BASELINE else torch.randint(256, shape, dtype=torch.uint8)
    return images.contiguous(memory_format=torch.channels_last)
