"""Convolutions packed for oneDNN: the kernels of a folded network, rearranged once instead of at each call.

Private operators of PyTorch, which torch.compile calls as well; without them nothing is packed.
"""

from typing import Any

import torch
from torch import Tensor, nn

from model import ConvNormAct, Residual


def _has_operators(dtype: torch.dtype) -> bool:
    """Whether this PyTorch and this CPU have what PackedConv calls."""
    operators = torch.ops.mkldnn
    needed = "_convolution_pointwise", "_reorder_convolution_weight", "_is_mkldnn_bf16_supported"
    if not (torch.backends.mkldnn.is_available() and all(hasattr(operators, name) for name in needed)):
        return False
    if hasattr(operators, "_is_mkldnn_acl_supported") and operators._is_mkldnn_acl_supported():
        return False  # of ARM, where torch.compile does not call them either
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


def _pack(module: nn.Module) -> None:
    """Put a PackedConv in the place of each convolution in the module."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(module, name, PackedConv(child))
        elif isinstance(child, ConvNormAct):
            setattr(module, name, PackedConv(child[0], then="relu"))
        elif isinstance(child, Residual):
            setattr(module, name, PackedResidual(child))
        else:
            _pack(child)


class PackedConv(nn.Module):
    """A convolution by oneDNN, with its kernel kept as that library wants it; packed at the first input.

    nn.Conv2d has the kernel rearranged at each call, which at batch 1 takes a fifth of the network's time. These
    operators are what torch.compile calls instead, but they need no compiler. For inference only: no gradients.
    """

    def __init__(self, conv: nn.Conv2d, then: str = "none"):
        super().__init__()
        self.kernel, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self.geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.then = then  # none | relu
        self.packed = None

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """The convolution of x (B, C, H, W), plus another map of the output's size, and then what is to follow."""
        x = x.to(self.kernel.dtype)
        packed = self.packed
        if packed is None:  # for the size of x, but right for any
            packed = torch.ops.mkldnn._reorder_convolution_weight(self.kernel, *self.geometry, list(x.shape))
            self.packed = packed
        convolve = torch.ops.mkldnn._convolution_pointwise
        if plus is None:
            return convolve.default(x, packed, self.bias, *self.geometry, self.then, [], "")
        then = None if self.then == "none" else self.then
        return convolve.binary(x, plus, packed, self.bias, *self.geometry, "add", 1.0, then, [], "")

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed kernel, which can be neither copied nor saved."""
        return self.__dict__ | {"packed": None}


class PackedResidual(nn.Module):
    """A Residual whose second convolution also adds the shortcut."""

    def __init__(self, block: Residual):
        super().__init__()
        self.first = PackedConv(block.first[0], then="relu")
        self.second = PackedConv(block.second[0], then="relu")
        self.shortcut = block.shortcut
        _pack(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), self.shortcut(x))
