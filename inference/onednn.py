"""Convolutions packed for oneDNN: the kernels of a folded network, rearranged once instead of at each call.

Measured with the compact network on one thread, CPU time of the folded network, packed in place of unpacked:

    batch 1   float32 11.4 ms in place of 13.2    bfloat16  9.2 in place of 10.7
    batch 16  float32  125 ms in place of 128     bfloat16 68.6 in place of 70.8

The operators are private to PyTorch (torch.compile calls them as well, but needs a compiler); all uses are in this
file. Without them nothing is packed; nor is anything where the environment has LANES_ONEDNN=0.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn

from model import ConvNormAct, Residual

SWITCH = "LANES_ONEDNN"  # environment variable; 0 turns the packing off
OPERATORS = ("_convolution_pointwise", "_reorder_convolution_weight", "_is_mkldnn_bf16_supported")


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this PyTorch and this CPU have what PackedConv calls for convolutions in dtype, and it is not off."""
    operators = torch.ops.mkldnn
    if os.environ.get(SWITCH) == "0":
        return False
    if not (torch.backends.mkldnn.is_available() and all(hasattr(operators, name) for name in OPERATORS)):
        return False
    if hasattr(operators, "_is_mkldnn_acl_supported") and operators._is_mkldnn_acl_supported():
        return False  # of ARM, where torch.compile does not call them either
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


def pack_convolutions(module: nn.Module) -> None:
    """Replace each convolution in the module, whose batch norms have been folded, by a PackedConv."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(module, name, PackedConv(child))
        elif isinstance(child, ConvNormAct):
            setattr(module, name, PackedConv(child[0], activation="relu"))
        elif isinstance(child, Residual):
            setattr(module, name, PackedResidual(child))
        else:
            pack_convolutions(child)


class PackedConv(nn.Module):
    """A convolution by oneDNN, with its kernel kept as that library wants it; packed at the first input.

    nn.Conv2d has the kernel rearranged at each call. For inference only: no gradients. activation: none | relu.
    """

    def __init__(self, conv: nn.Conv2d, activation: str = "none"):
        super().__init__()
        self.kernel, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self.geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.activation = activation
        self.packed = None

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """The activation of the convolution of x (B, C, H, W), plus a map of the output's size where one is given."""
        x = x.to(self.kernel.dtype)
        packed = self.packed
        if packed is None:  # for the size of x, but right for any
            packed = torch.ops.mkldnn._reorder_convolution_weight(self.kernel, *self.geometry, list(x.shape))
            self.packed = packed
        convolve = torch.ops.mkldnn._convolution_pointwise
        if addend is None:
            return convolve.default(x, packed, self.bias, *self.geometry, self.activation, [], "")
        activation = None if self.activation == "none" else self.activation
        return convolve.binary(x, addend, packed, self.bias, *self.geometry, "add", 1.0, activation, [], "")

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed kernel, which can be neither copied nor saved."""
        return self.__dict__ | {"packed": None}


class PackedResidual(nn.Module):
    """A Residual whose second convolution also adds the shortcut."""

    def __init__(self, block: Residual):
        super().__init__()
        self.first = PackedConv(block.first[0], activation="relu")
        self.second = PackedConv(block.second[0], activation="relu")
        self.shortcut = block.shortcut
        pack_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), self.shortcut(x))
