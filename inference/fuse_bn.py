"""The network as inference runs it: batch norms folded into their convolutions, and those as the device likes them."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.onednn import _has_operators, _pack


def fuse_batch_norms(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy for inference under autocast to dtype, without batch norms, its kernels in dtype.

    It spares a pass over each map, and the casts of all kernels at each call; on a CPU, where oneDNN is there, also
    the rearranging of all kernels at each call, and the passes for activations and sums. It has no gradients, and stays
    on its device and in its dtype.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(model.modules()):
        for (name, child), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, after, nn.Identity())
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    model = model.to(memory_format=torch.channels_last)
    if all(weights.device.type == "cpu" for weights in model.parameters()) and _has_operators(dtype):
        _pack(model)
    return model
