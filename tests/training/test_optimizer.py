"""The optimizer: orthogonal steps for kernels, AdamW for the rest, against PyTorch's own."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.optimizer import BETAS, GROUP, KERNEL_RATE, MOMENTUM, QUINTIC, ROUNDS, MuonAdamW, orthogonalizers


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(12, 40), (64, 576), (16, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = 1e-3 * random(*shape)
    product = orthogonalizers((matrix @ matrix.T)[None])[0] @ matrix
    values = torch.linalg.svdvals(product)
    assert values.min() > 0.3 and values.max() < 1.3  # a square matrix has singular values near 0
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ product @ v.mT  # diagonal where the singular vectors are the same
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (40, 4, 3, 3), (6, 4, 1, 1), (5, 2, 1, 3)])
def test_the_order_of_a_kernel_in_memory_does_not_matter(shape):
    plain, interleaved = (torch.nn.Parameter(random(*shape)) for _ in range(2))
    interleaved.data = interleaved.data.contiguous(memory_format=torch.channels_last)
    optimizers = [MuonAdamW([p], [], [], lr=0.01, weight_decay=0.1) for p in (plain, interleaved)]
    for step in range(3):
        for p, optimizer in zip((plain, interleaved), optimizers, strict=True):
            p.grad = random(*shape, seed=step + 1)  # plain, whatever the kernel is
            optimizer.step()
        if step == 0:  # a state saved by the one is taken up by the other
            optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    torch.testing.assert_close(plain, interleaved)
    assert (plain - random(*shape)).norm() > 0.1


def test_kernels_are_stepped_together_as_each_alone():
    shapes = [(GROUP + 20, 8, 3, 3), (4, 16, 1, 1), (40, 4, 1, 1), (12, 5, 3, 3)]  # the third is higher than wide
    together, alone = ([torch.nn.Parameter(random(*shape)) for shape in shapes] for _ in range(2))
    optimizers = [MuonAdamW(together, [], [], lr=0.01, weight_decay=0.1)]
    optimizers += [MuonAdamW([p], [], [], lr=0.01, weight_decay=0.1) for p in alone]
    for step in range(3):
        for size, *pair in zip((1, 1e-2, 1e-4, 1), together, alone, strict=True):
            for p in pair:
                p.grad = size * random(*p.shape, seed=step + 1)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(together, alone)


def test_a_gradient_that_is_only_rounding_moves_little():
    kernel = torch.nn.Parameter(random(16, 8, 3, 3))
    before, kernel.grad = kernel.detach().clone(), 1e-12 * random(16, 8, 3, 3, seed=1)
    MuonAdamW([kernel], [], [], lr=0.01, weight_decay=0.0).step()
    whole = 16**0.5 * 0.01 * KERNEL_RATE  # about the norm of a step that is not held back
    assert (kernel - before).norm() < 0.2 * whole


def test_no_gradient_and_a_gradient_of_zero_change_nothing():
    weights = [torch.nn.Parameter(random(4, 3, 3, 3)), torch.nn.Parameter(random(5)), torch.nn.Parameter(random(5, 5))]
    before = copy.deepcopy(weights)
    optimizer = MuonAdamW(weights[:1], weights[1:2], weights[2:], lr=0.1, weight_decay=0.0)
    weights[0].grad, weights[1].grad = torch.zeros_like(weights[0]), torch.zeros_like(weights[1])
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_kernels_step_as_with_pytorchs_muon(shape):
    ours, theirs = torch.nn.Parameter(random(*shape)), torch.nn.Parameter(random(*shape))
    optimizer = MuonAdamW([ours], [], [], lr=0.02 / KERNEL_RATE, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="original")
    for step in range(5):
        ours.grad = random(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    moved = (ours - random(*shape)).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # theirs runs in bfloat16


def test_a_kernels_step_by_hand():
    """The singular values of Nesterov's momentum go through the quintic, GROUP output channels at a time."""
    shape = GROUP + 5, 9, 3, 3
    kernel = torch.nn.Parameter(random(*shape))
    gradients = [random(*shape, seed=1), random(*shape, seed=2)]
    optimizer = MuonAdamW([kernel], [], [], lr=0.01, weight_decay=0.5)
    expected, momentum, rate = kernel.detach().double().flatten(1), 0, 0.01 * KERNEL_RATE
    for gradient in gradients:
        kernel.grad = gradient.clone()
        optimizer.step()
        gradient = gradient.double().flatten(1)
        momentum = MOMENTUM * momentum + gradient
        for group in (slice(0, GROUP), slice(GROUP, None)):
            u, values, v = torch.linalg.svd((gradient + MOMENTUM * momentum)[group], full_matrices=False)
            values = values / values.norm()
            for _ in range(ROUNDS):
                values = QUINTIC[0] * values + QUINTIC[1] * values**3 + QUINTIC[2] * values**5
            expected[group] = (1 - 0.5 * rate) * expected[group] - rate * (u * values) @ v
    torch.testing.assert_close(kernel.detach().flatten(1).double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("decays", [True, False])
def test_others_step_as_with_pytorchs_adamw(decays):
    ours, theirs = torch.nn.Parameter(random(7, 3)), torch.nn.Parameter(random(7, 3))
    optimizer = MuonAdamW([], [ours] if decays else [], [] if decays else [ours], lr=0.01, weight_decay=0.5)
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.5 if decays else 0.0, betas=BETAS)
    for step in range(10):
        ours.grad = random(7, 3, seed=step + 1)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_a_saved_optimizer_goes_on_as_if_it_had_not_stopped():
    def run(steps, weights, optimizer):
        for step in steps:
            for p in weights:
                p.grad = random(*p.shape, seed=step)
            optimizer.step()

    def made():
        weights = [torch.nn.Parameter(random(6, 4, 3, 3)), torch.nn.Parameter(random(6, 6)),
                   torch.nn.Parameter(random(6))]
        return weights, MuonAdamW(weights[:1], weights[1:2], weights[2:], lr=0.01, weight_decay=0.1)

    whole, half, rest = made(), made(), made()
    run(range(6), *whole)
    run(range(3), *half)
    for p, stopped in zip(rest[0], half[0], strict=True):
        p.data.copy_(stopped.data)
    rest[1].load_state_dict(half[1].state_dict())
    run(range(3, 6), *rest)
    assert all(torch.equal(a, b) for a, b in zip(whole[0], rest[0], strict=True))


@pytest.mark.slow
@pytest.mark.process
def test_it_does_not_import_pytorchs_compiler():
    """Which takes one second, and four on some machines with a GPU."""
    code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "import torch\nfrom config import load_config\nfrom training.state import build_model, build_state\n"
            "config, device = load_config(None, []), torch.device('cpu')\n"
            "state = build_state(build_model(config, device, False), config, 10, device, torch.float32)\n"
            "state.optimizer.load_state_dict(state.optimizer.state_dict())\n"
            "state.optimizer.zero_grad()\nassert 'torch._dynamo' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parents[2])], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_share_of_the_rate_is_a_smaller_rate_for_all():
    """As the schedule gives it: of kernels, of the decay, and of what AdamW steps."""
    def stepped(lr, factor):
        kernel, matrix, bias = (torch.nn.Parameter(random(*shape)) for shape in ((8, 4, 3, 3), (7, 3), (5,)))
        optimizer = MuonAdamW([kernel], [matrix], [bias], lr=lr, weight_decay=0.1)
        for p in (kernel, matrix, bias):
            p.grad = random(*p.shape, seed=1)
        optimizer.step(torch.tensor(factor))
        return kernel, matrix, bias

    torch.testing.assert_close(stepped(0.01, 0.25), stepped(0.0025, 1.0))
