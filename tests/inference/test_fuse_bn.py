"""The network as inference runs it answers as the one it was made from."""

import copy
import pickle

import pytest
import torch
from torch import nn

from inference.fuse_bn import fuse_batch_norms
from inference.onednn import PackedConv, _has_operators
from model import LaneNet

OPERATORS = _has_operators(torch.float32)
PRECISIONS = [(torch.float32, 1e-5), (torch.bfloat16, 0.01)]


def pictures(count, height=96, width=160, seed=0):
    return torch.randint(256, (count, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.fixture(params=["compact", "resnet18"], scope="module")
def network(request):
    """One that has seen images: its batch norms have statistics and weights of their own, not 0 and 1."""
    torch.manual_seed(0)
    model = LaneNet(request.param)
    model(pictures(4))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def answers(model, images, dtype):
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return model(images)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize(("dtype", "off"), PRECISIONS)
def test_a_fused_network_answers_as_the_one_it_comes_from(network, dtype, off, packs, monkeypatch):
    """At any size, also after another: kernels are packed at the first one."""
    if not packs:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    small = fuse_batch_norms(network, dtype)
    assert any(isinstance(module, PackedConv) for module in small.modules()) == _has_operators(dtype)
    assert packs or not _has_operators(dtype)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    for count, height, width in ((2, 96, 160), (3, 96, 160), (1, 64, 192), (2, 96, 160)):
        images = pictures(count, height, width, seed=count)
        before, after = answers(network, images, dtype), answers(small, images, dtype)
        torch.testing.assert_close(after.points, before.points, atol=off, rtol=0)
        torch.testing.assert_close(after.logits, before.logits, atol=10 * off, rtol=0)


@pytest.mark.skipif(not OPERATORS, reason="there is nothing to pack for")
def test_no_convolution_is_left_unpacked(network):
    before = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    small = fuse_batch_norms(network, torch.float32)
    assert not any(isinstance(module, nn.Conv2d) for module in small.modules())
    assert sum(isinstance(module, PackedConv) for module in small.modules()) == before


@pytest.mark.skipif(not OPERATORS, reason="there is nothing to pack for")
@pytest.mark.parametrize("then", ["none", "relu"])
@pytest.mark.parametrize("adds", [True, False])
def test_a_packed_convolution_is_a_convolution_a_sum_and_an_activation(then, adds):
    torch.manual_seed(0)
    conv, x, other = nn.Conv2d(6, 8, 3, stride=2, padding=1), torch.randn(2, 6, 10, 14), torch.randn(2, 8, 5, 7)
    with torch.inference_mode():
        expected = conv(x) + other * adds
        found = PackedConv(conv, then)(x, *[other] * adds)
    torch.testing.assert_close(found, expected.relu() if then == "relu" else expected, atol=1e-5, rtol=1e-5)


def test_a_network_that_was_used_can_be_copied_and_saved(network):
    small, images = fuse_batch_norms(network, torch.float32), pictures(1)
    before = answers(small, images, torch.float32)
    for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small)), fuse_batch_norms(small, torch.float32)):
        torch.testing.assert_close(answers(again, images, torch.float32), before, atol=0, rtol=0)


def test_a_fused_network_does_not_pretend_to_have_gradients(network):
    points, _ = fuse_batch_norms(network, torch.float32)(pictures(1))
    assert not points.requires_grad


def test_the_network_itself_stays_as_it_is(network):
    before = copy.deepcopy(network.state_dict())
    network.train()
    fuse_batch_norms(network, torch.bfloat16)
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()


def test_batch_norms_of_several_gpus_are_folded_as_well(network):
    shared = fuse_batch_norms(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network)), torch.float32)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in shared.modules())
    images = pictures(2)
    torch.testing.assert_close(answers(shared, images, torch.float32), answers(network, images, torch.float32),
                               atol=1e-4, rtol=0)
