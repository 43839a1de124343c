"""Muon (Jordan et al. 2024): momentum whose direction is made orthogonal, for kernels; AdamW for everything else.

A kernel (O, I, h, w) is stepped as a matrix (O, I h w), GROUP rows at a time, all of whose directions move by as much,
not only the few that dominate a gradient. Here it reaches in three epochs what AdamW alone reaches in six
(benchmarks/search.md).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

MOMENTUM = 0.95
BETAS = 0.9, 0.99  # of AdamW; the second is short, since our runs are
QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan's: singular values come near 1 in five rounds, from 0.01 on
ROUNDS = 5
GROUP = 64  # rows of such a matrix, lying on its longer side, that are stepped together: the work grows with its square
KERNEL_RATE = 10.0  # times the learning rate: an orthogonal step is small beside AdamW's, which moves each weight by it


class Muon(torch.optim.Optimizer):
    """Kernels are stepped by Muon at KERNEL_RATE times lr, the rest by AdamW at lr; `others` are not decayed."""

    def __init__(self, kernels: Iterable[Tensor], decayed: Iterable[Tensor], others: Iterable[Tensor], lr: float,
                 weight_decay: float):
        groups = [{"params": list(kernels), "is_kernel": True}, {"params": list(decayed)},
                  {"params": list(others), "weight_decay": 0.0}]
        super().__init__([group for group in groups if group["params"]],
                         {"lr": lr, "weight_decay": weight_decay, "is_kernel": False})

    @torch.no_grad()
    def step(self) -> None:
        """Step every parameter that has a gradient."""
        for group in self.param_groups:
            step = self._step_kernel if group["is_kernel"] else self._step_other
            for p in group["params"]:
                if p.grad is not None:
                    step(p, group["lr"], group["weight_decay"])

    def _step_kernel(self, p: Tensor, lr: float, weight_decay: float) -> None:
        momentum, lr = self._state(p, "momentum"), lr * KERNEL_RATE
        momentum.mul_(MOMENTUM).add_(p.grad)
        ahead = torch.add(p.grad, momentum, alpha=MOMENTUM, out=torch.empty_like(p))  # Nesterov's
        weights, ahead = as_matrix(p), as_matrix(ahead)
        decay = lr * weight_decay
        rows, columns = weights.shape
        if rows > columns:
            weights, ahead = weights.T, ahead.T
        lr *= max(1.0, rows / columns) ** 0.5
        for part, step in zip(weights.split(GROUP), ahead.split(GROUP), strict=True):
            part.addmm_(orthogonaliser(step), step, beta=1 - decay, alpha=-lr)

    def _step_other(self, p: Tensor, lr: float, weight_decay: float) -> None:
        mean, square = self._state(p, "mean"), self._state(p, "square")
        self.state[p]["step"] = count = self.state[p].get("step", 0) + 1
        mean.lerp_(p.grad, 1 - BETAS[0])
        square.lerp_(p.grad.square(), 1 - BETAS[1])
        spread = (square / (1 - BETAS[1] ** count)).sqrt_().add_(1e-8)
        p.mul_(1 - lr * weight_decay).addcdiv_(mean, spread, value=-lr / (1 - BETAS[0] ** count))

    def _state(self, p: Tensor, name: str) -> Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]


def as_matrix(kernel: Tensor) -> Tensor:
    """A view (O, I h w) of a kernel (O, I, h, w), its columns in the order of memory."""
    if kernel.ndim == 4 and kernel.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.view(len(kernel), -1)


def orthogonaliser(matrix: Tensor) -> Tensor:
    """What a matrix (rows, columns), no higher than wide, is multiplied by from the left for all of its singular values
    to be near 1 (0.7 to 1.2), by Newton-Schulz.

    The rounds run on its product with its transpose, which is smaller than the matrix: a kernel's is up to nine times
    as wide as it is high.
    """
    a, b, c = QUINTIC
    gram = matrix @ matrix.T  # X X^T; a round makes P X of X, with P = a + b gram + c gram^2
    square = gram.trace().clamp(min=1e-14)  # of the norm, which no singular value exceeds
    gram /= square
    total = None
    for left in reversed(range(ROUNDS)):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        total = polynomial if total is None else polynomial @ total
        if left:
            gram = polynomial @ gram @ polynomial
    return total / square.sqrt()
