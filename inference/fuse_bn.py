"""The network as inference runs it: batch norms folded into their convolutions, these as oneDNN or cuDNN has them."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from inference.cudnn import can_fuse, fuse_convolutions
from inference.onednn import can_pack, pack_convolutions


def fuse_batch_norms(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy for inference under autocast to dtype, without batch norms, its kernels in dtype.

    It spares a pass over each map, and the casts of all kernels at each call: of the compact network's 14.1 ms in
    bfloat16 at batch 1 on one CPU thread 10.7 are left. inference/onednn.py takes it from there on CPUs, and
    inference/cudnn.py on GPUs, that have what they need. The copy has no gradients, and stays on its device and in
    its dtype.
    """
    model = _twin(model).eval()
    for module in list(model.modules()):
        for (_, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean,
                                                              norm.running_var, norm.eps, norm.weight, norm.bias)
                setattr(module, norm_name, nn.Identity())
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    model = model.to(memory_format=torch.channels_last)
    device = next(model.parameters()).device
    if device.type == "cpu" and can_pack(dtype):
        pack_convolutions(model)
    elif can_fuse(device, dtype):
        fuse_convolutions(model)
    return model


def _twin(module: nn.Module) -> nn.Module:
    """A module with weights and children of its own that has everything else in common with the given one.

    copy.deepcopy also copies some twenty empty dictionaries a module, which takes many times as long.
    """
    twin = copy.copy(module)
    twin._parameters = {name: None if value is None else nn.Parameter(value.detach().clone(), requires_grad=False)
                        for name, value in module._parameters.items()}
    twin._buffers = {name: None if value is None else value.detach().clone()
                     for name, value in module._buffers.items()}
    twin._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    twin._modules = {name: None if child is None else _twin(child) for name, child in module._modules.items()}
    return twin
