"""Packed convolutions give what the plain ones give, and can be turned off."""

import pytest
import torch
from torch import nn

from inference.fuse_bn import fuse_batch_norms
from inference.onednn import SWITCH, PackedConv, can_pack
from model import LaneNet

needs_operators = pytest.mark.skipif(not can_pack(torch.float32), reason="this PyTorch or CPU has nothing to pack for")


@needs_operators
@pytest.mark.parametrize("backbone", ["compact", "resnet18"])
def test_no_convolution_is_left_unpacked(backbone):
    network = LaneNet(backbone).eval()
    count = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    fused = fuse_batch_norms(network, torch.float32)
    assert not any(isinstance(module, nn.Conv2d) for module in fused.modules())
    assert sum(isinstance(module, PackedConv) for module in fused.modules()) == count > 10


@needs_operators
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("adds", [True, False])
def test_a_packed_convolution_is_a_convolution_a_sum_and_an_activation(activation, adds):
    torch.manual_seed(0)
    conv, x, other = nn.Conv2d(6, 8, 3, stride=2, padding=1), torch.randn(2, 6, 10, 14), torch.randn(2, 8, 5, 7)
    with torch.inference_mode():
        expected = conv(x) + other * adds
        actual = PackedConv(conv, activation)(x, *[other] * adds)
    torch.testing.assert_close(actual, expected.relu() if activation == "relu" else expected, atol=1e-5, rtol=1e-5)


@needs_operators
def test_the_environment_turns_it_off(monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    assert not can_pack(torch.float32)
    fused = fuse_batch_norms(LaneNet().eval(), torch.float32)
    assert not any(isinstance(module, PackedConv) for module in fused.modules())


def test_nothing_is_packed_without_onednn_or_for_other_types(monkeypatch):
    assert not can_pack(torch.float16)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_pack(torch.float32)
