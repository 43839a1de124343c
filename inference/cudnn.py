"""Convolutions that cuDNN does together with their bias, a sum and ReLU: one kernel in place of three or four.

For one image a GPU is busy with starting kernels: of the compact network's 248 at 384x168 in bfloat16, which take two
microseconds each, 202 are left.

The operators are private to PyTorch (torch.jit.optimize_for_inference calls them as well); all uses are in this file.
"""

import functools

import torch
from torch import Tensor, nn

from model import ConvNormAct, Residual

OPERATORS = ("cudnn_convolution_relu", "cudnn_convolution_add_relu")


@functools.cache
def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this PyTorch and this device do convolutions in dtype so; tried on a small one."""
    if device.type != "cuda" or not torch.backends.cudnn.enabled or not all(hasattr(torch, name) for name in OPERATORS):
        return False
    try:
        with torch.no_grad():
            first, second = (nn.utils.skip_init(nn.Conv2d, inputs, 16, 3, stride, 1, device=device, dtype=dtype)
                             for inputs, stride in ((3, 2), (16, 1)))
            x = FusedConv(first)(torch.zeros(1, 3, 16, 16, device=device, dtype=dtype))
            FusedConv(second)(x, x)
    except RuntimeError:  # a card, or ROCm, without kernels for it
        return False
    return True


def fuse_convolutions(module: nn.Module) -> None:
    """Replace the layers and blocks of model.py in the module, whose batch norms have been folded, by fused ones."""
    for name, child in list(module.named_children()):
        if isinstance(child, ConvNormAct):
            setattr(module, name, FusedConv(child[0]))
        elif isinstance(child, Residual):
            setattr(module, name, FusedResidual(child))
        else:
            fuse_convolutions(child)


class FusedConv(nn.Module):
    """A convolution and ReLU. For inference only: no gradients."""

    def __init__(self, conv: nn.Conv2d, added_bias: Tensor | None = None):
        """added_bias (C): of what is added to the convolution."""
        super().__init__()
        self.weight = conv.weight
        bias = conv.bias if added_bias is None else (conv.bias.float() + added_bias.float()).to(conv.bias.dtype)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.geometry = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """ReLU of the convolution of x (B, C, H, W), plus a map of the output's size where one is given."""
        x = x.to(self.weight.dtype)
        if addend is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
        return torch.cudnn_convolution_add_relu(x, self.weight, addend, 1.0, self.bias, *self.geometry)


class FusedResidual(nn.Module):
    """A Residual whose second convolution also adds the shortcut, with the bias of that one's convolution."""

    def __init__(self, block: Residual):
        super().__init__()
        self.first = FusedConv(block.first[0])
        if isinstance(block.shortcut, nn.Identity):
            self.shortcut, bias = block.shortcut, None
        else:
            self.shortcut, bias = block.shortcut[0], block.shortcut[0].bias
            self.shortcut.bias = None
        self.second = FusedConv(block.second[0], bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), self.shortcut(x))
