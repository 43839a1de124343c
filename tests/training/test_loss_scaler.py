"""The scale of a float16 loss: against PyTorch's own, and steps that overflow, which change nothing."""

import copy

import pytest
import torch
from torch import nn

from training.loss_scaler import FIRST_SCALE, GROWTH_STEPS, LossScaler, clip_gradients, undone_unless
from training.optimizer import MuonAdamW

INF, NAN = float("inf"), float("nan")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parameters():
    return [nn.Parameter(random(4, 4, 3, 3)), nn.Parameter(random(5, 3, seed=1)), nn.Parameter(random(4, seed=2))]


def muon(weights):
    return MuonAdamW(weights[:1], weights[1:2], weights[2:], lr=0.01, weight_decay=0.1)


def test_the_scale_grows_and_falls_as_that_of_pytorch():
    ours, theirs = LossScaler(enabled=True), torch.amp.GradScaler("cpu", init_scale=FIRST_SCALE,
                                                                  growth_interval=GROWTH_STEPS)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    overflows = {3, 4, 2500}
    for step in range(4700):
        weight.grad = torch.tensor([INF if step in overflows else 1.0])
        theirs.scale(torch.zeros(()))
        theirs.step(optimizer)
        theirs.update()
        ours.update(weight.grad.isfinite().all())
        assert float(ours.scale) == theirs.get_scale(), step
    assert float(ours.scale) != FIRST_SCALE


@pytest.mark.parametrize("value", [INF, -INF, NAN])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_step_that_overflows_changes_nothing_and_the_next_is_as_if_it_had_not_been(value, which):
    weights = parameters()
    optimizer = muon(weights)
    reference = copy.deepcopy(weights)
    plain = muon(reference)
    for seed, overflows in ((3, False), (4, True), (5, False)):
        for p, q in zip(weights, reference, strict=True):
            p.grad = random(*p.shape, seed=seed)
            q.grad = p.grad.clone()
        if overflows:
            weights[which].grad.flatten()[1] = value
        else:
            plain.step()
        before = [tensor.detach().clone() for tensor in optimizer.tensors()]
        finite = clip_gradients([p.grad for p in weights], 1e9)
        assert bool(finite) != overflows
        with undone_unless(finite, optimizer.tensors()):
            optimizer.step()
        same = [torch.equal(a, b) for a, b in zip(before, optimizer.tensors(), strict=True)]
        assert all(same) if overflows else not any(same)
    for ours, theirs in zip(optimizer.tensors(), plain.tensors(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("clip_norm", [1e9, 0.3])
def test_gradients_are_unscaled_and_clipped_as_by_pytorch(clip_norm):
    ours, theirs = parameters(), parameters()
    for p, q in zip(ours, theirs, strict=True):
        q.grad = random(*p.shape, seed=7)
        p.grad = q.grad * 1024
    nn.utils.clip_grad_norm_(theirs, clip_norm)
    assert bool(clip_gradients([p.grad for p in ours], clip_norm, torch.tensor(1024.0)))
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_no_device_is_asked_whether_a_gradient_overflowed():
    """`meta` has no numbers: whatever asks it for one fails."""
    scaler, tensors = LossScaler(enabled=True).to("meta"), [torch.zeros(3, device="meta")]
    finite = clip_gradients(tensors, 1.0, scaler.scale)
    with undone_unless(finite, tensors):
        tensors[0] += 1
    scaler.update(finite)


def test_a_scaler_that_is_not_enabled_scales_by_1():
    assert float(LossScaler(enabled=False).scale) == 1
