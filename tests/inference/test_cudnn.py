"""Convolutions fused for cuDNN give what the plain ones give; its operators themselves are tested in tests/cuda."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from inference import fuse_bn
from inference.cudnn import OPERATORS, FusedConv, FusedResidual, can_fuse
from inference.fuse_bn import fuse_batch_norms
from inference.onednn import SWITCH
from model import ConvNormAct, LaneNet, Residual


def convolution_relu(x, weight, bias, stride, padding, dilation, groups):
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()


def convolution_add_relu(x, weight, addend, alpha, bias, stride, padding, dilation, groups):
    return (F.conv2d(x, weight, bias, stride, padding, dilation, groups) + alpha * addend).relu()


@pytest.fixture
def fusing(monkeypatch):
    """What cuDNN does, by the CPU."""
    monkeypatch.setenv(SWITCH, "0")
    monkeypatch.setattr(fuse_bn, "can_fuse", lambda device, dtype: True)
    for name, operator in zip(OPERATORS, (convolution_relu, convolution_add_relu), strict=True):
        monkeypatch.setattr(torch, name, operator, raising=False)


def network(seed):
    """A network whose batch norms, as those of a trained one, do something."""
    torch.manual_seed(seed)
    network = LaneNet().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5),
                                (module.running_mean, -0.5)):
                values.data.uniform_(low, low + 1)
    return network


def outputs(network):
    with torch.no_grad():
        images = torch.randint(256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0)).byte()
        (points, logits), rows = network(images, with_rows=True)
    return points[..., 1], logits, rows.columns


@pytest.mark.usefixtures("fusing")
def test_a_fused_network_gives_what_the_one_it_comes_from_gives():
    plain = network(0)
    fused = fuse_batch_norms(plain, torch.float32)
    assert not any(isinstance(module, (ConvNormAct, Residual, torch.nn.BatchNorm2d)) for module in fused.modules())
    assert sum(isinstance(module, FusedResidual) for module in fused.modules()) == 7
    for actual, expected in zip(outputs(fused), outputs(plain), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("fusing")
def test_it_takes_up_the_weights_of_another():
    """As Predictor.load_weights does, whose recordings read the memory of the first."""
    one, other = fuse_batch_norms(network(0), torch.float32), fuse_batch_norms(network(1), torch.float32)
    own = one.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in other.state_dict().items():
            own[name].copy_(value)
    assert all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(other), strict=True))


@pytest.mark.usefixtures("fusing")
def test_it_can_be_copied_saved_and_fused_again():
    fused = fuse_batch_norms(network(0), torch.float32)
    for again in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), fuse_batch_norms(fused, torch.float32)):
        assert all(torch.equal(a, b) for a, b in zip(outputs(again), outputs(fused), strict=True))


def test_nothing_is_fused_for_a_cpu():
    assert not can_fuse(torch.device("cpu"), torch.float32)
    fused = fuse_batch_norms(network(0), torch.float32)
    assert not any(isinstance(module, FusedConv) for module in fused.modules())
