"""The network as inference runs it answers as the one it was made from."""

import copy

import pytest
import torch
from torch import nn

from fusion import PackedConv, fused
from model import LaneNet

ONEDNN = torch.backends.mkldnn.is_available()
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
    """At each size anew, since kernels are packed for one."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packs and ONEDNN)
    small = fused(network, dtype)
    assert any(isinstance(module, PackedConv) for module in small.modules()) == (packs and ONEDNN)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    for count, height, width in ((2, 96, 160), (3, 96, 160), (1, 64, 192), (2, 96, 160)):
        images = pictures(count, height, width, seed=count)
        before, after = answers(network, images, dtype), answers(small, images, dtype)
        torch.testing.assert_close(after.points, before.points, atol=off, rtol=0)
        torch.testing.assert_close(after.logits, before.logits, atol=10 * off, rtol=0)


@pytest.mark.skipif(not ONEDNN, reason="there is nothing to pack for")
def test_no_convolution_is_left_unpacked(network):
    before = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    small = fused(network, torch.float32)
    assert not any(isinstance(module, nn.Conv2d) for module in small.modules())
    assert sum(isinstance(module, PackedConv) for module in small.modules()) == before


def test_the_network_itself_stays_as_it_is(network):
    before = copy.deepcopy(network.state_dict())
    network.train()
    fused(network, torch.bfloat16)
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()


def test_batch_norms_of_several_gpus_are_folded_as_well(network):
    shared = fused(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network)), torch.float32)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in shared.modules())
    images = pictures(2)
    torch.testing.assert_close(answers(shared, images, torch.float32), answers(network, images, torch.float32),
                               atol=1e-4, rtol=0)
