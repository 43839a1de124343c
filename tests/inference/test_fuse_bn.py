"""The network as inference runs it gives the output of the one it was made from."""

import copy
import pickle

import pytest
import torch
from torch import nn

from inference.fuse_bn import fuse_batch_norms
from inference.onednn import SWITCH, PackedConv, can_pack
from model import LaneNet

PRECISIONS = [(torch.float32, 1e-5), (torch.bfloat16, 0.01)]  # and the largest difference of points


def pictures(count, height=64, width=96, seed=0):
    return torch.randint(256, (count, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.fixture(params=["compact", "resnet18"], scope="module")
def network(request):
    """Its batch norms have statistics and weights of their own, not 0 and 1."""
    torch.manual_seed(0)
    model = LaneNet(request.param)
    model(pictures(4))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def output(model, images, dtype):
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return model(images, with_rows=True)


def mean_x(rows):
    return (rows.columns.softmax(-1) * rows.centers).sum(-1)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_a_fused_network_gives_what_the_one_it_comes_from_gives(network, dtype, tolerance, pack, monkeypatch):
    """At any size, also after another: kernels are packed at the first one."""
    if not pack:
        monkeypatch.setenv(SWITCH, "0")
    fused = fuse_batch_norms(network, dtype)
    assert any(isinstance(module, PackedConv) for module in fused.modules()) == can_pack(dtype)
    assert pack or not can_pack(dtype)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    for count, height, width in ((2, 64, 96), (3, 64, 96), (1, 72, 64), (2, 64, 96)):
        images = pictures(count, height, width, seed=count)
        (before, rows), (after, fused_rows) = output(network, images, dtype), output(fused, images, dtype)
        # The mean of each row, not the mode: in an untrained network many columns are as likely, and rounding chooses.
        torch.testing.assert_close(mean_x(fused_rows), mean_x(rows), atol=tolerance, rtol=0)
        torch.testing.assert_close(after.points[..., 1], before.points[..., 1], atol=tolerance, rtol=0)
        torch.testing.assert_close(after.logits, before.logits, atol=10 * tolerance, rtol=0)


def test_a_network_that_was_used_can_be_copied_and_saved(network):
    fused, images = fuse_batch_norms(network, torch.float32), pictures(1)
    before = output(fused, images, torch.float32)
    for again in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), fuse_batch_norms(fused, torch.float32)):
        torch.testing.assert_close(output(again, images, torch.float32), before, atol=0, rtol=0)


def test_a_fused_network_does_not_pretend_to_have_gradients(network):
    points, _ = fuse_batch_norms(network, torch.float32)(pictures(1))
    assert not points.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neither_network_changes_with_the_other(network, dtype):
    """The one that is trained goes on after it was copied."""
    network = copy.deepcopy(network).train()
    before, modules, images = copy.deepcopy(network.state_dict()), str(network), pictures(1)
    fused = fuse_batch_norms(network, dtype)
    first = output(fused, images, dtype)
    assert network.training and all(weights.requires_grad for weights in network.parameters())
    assert str(network) == modules
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) and value.dtype == before[name].dtype, name
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(1)
    torch.testing.assert_close(output(fused, images, dtype), first, atol=0, rtol=0)
    pointers = {value.data_ptr() for value in network.state_dict().values() if value.numel()}
    assert not pointers & {value.data_ptr() for value in fused.state_dict().values()}


def test_a_network_in_training_is_fused_for_inference(network):
    """In training x is the mean over all columns: no epoch must be validated by that."""
    images, training = pictures(2), copy.deepcopy(network).train()
    expected, _ = output(fuse_batch_norms(network, torch.float32), images, torch.float32)
    actual, _ = output(fuse_batch_norms(training, torch.float32), images, torch.float32)
    assert torch.equal(actual.points, expected.points)


def test_batch_norms_of_several_gpus_are_folded_as_well(network):
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synced.modules())
    fused = fuse_batch_norms(synced, torch.float32)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in fused.modules())
    images = pictures(2)
    torch.testing.assert_close(output(fused, images, torch.float32), output(network, images, torch.float32),
                               atol=1e-4, rtol=0)
