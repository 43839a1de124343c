"""Muon (Jordan et al. 2024): momentum whose direction is made orthogonal, for kernels; AdamW for everything else.

A kernel (O, I, h, w) is stepped as a matrix (O, I h w), GROUP rows at a time, all of whose directions move by as much,
not only the few that dominate a gradient. Here it reaches in three epochs what AdamW alone reaches in six
(docs/EXPERIMENTS.md).
"""

from collections.abc import Iterable
from typing import Any

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
            stepped = [p for p in group["params"] if p.grad is not None]
            if stepped:
                (self._step_kernels if group["is_kernel"] else self._step_others)(stepped, group)

    def _step_kernels(self, kernels: list[Tensor], group: dict[str, Any]) -> None:
        """All of them at once, since a round of Newton-Schulz on one group of rows is too small a piece of work."""
        momenta, grads = [self._state(p, "momentum") for p in kernels], [p.grad for p in kernels]
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, grads)
        parts = []  # (weights, their step, learning rate) of GROUP rows; the last of a kernel may have fewer
        for p, momentum in zip(kernels, momenta, strict=True):
            ahead = torch.add(p.grad, momentum, alpha=MOMENTUM, out=torch.empty_like(p))  # Nesterov's
            weights, ahead = as_matrix(p), as_matrix(ahead)
            rows, columns = weights.shape
            if rows > columns:
                weights, ahead = weights.T, ahead.T
            lr = group["lr"] * KERNEL_RATE * max(1.0, rows / columns) ** 0.5
            parts += [(*part, lr) for part in zip(weights.split(GROUP), ahead.split(GROUP), strict=True)]
        grams = kernels[0].new_zeros(len(parts), GROUP, GROUP)
        for gram, (_, step, _) in zip(grams, parts, strict=True):
            gram[:len(step), :len(step)] = step @ step.T
        decay = group["lr"] * KERNEL_RATE * group["weight_decay"]
        for factor, (weights, step, lr) in zip(orthogonalizers(grams), parts, strict=True):
            weights.addmm_(factor[:len(step), :len(step)], step, beta=1 - decay, alpha=-lr)

    def _step_others(self, others: list[Tensor], group: dict[str, Any]) -> None:
        """Steps are counted for all of them: they are expected to have gradients from the same step on."""
        grads, lr = [p.grad for p in others], group["lr"]
        means, squares = ([self._state(p, name) for p in others] for name in ("mean", "square"))
        group["steps"] = count = group.get("steps", 0) + 1
        torch._foreach_lerp_(means, grads, 1 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, grads, grads, 1 - BETAS[1])
        spreads = torch._foreach_sqrt(torch._foreach_div(squares, 1 - BETAS[1] ** count))
        torch._foreach_add_(spreads, 1e-8)
        torch._foreach_mul_(others, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(others, means, spreads, -lr / (1 - BETAS[0] ** count))

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


def orthogonalizers(grams: Tensor) -> Tensor:
    """(N, GROUP, GROUP): what matrices X (rows, columns), no higher than wide, are multiplied by from the left for all
    of their singular values to be near 1 (0.7 to 1.2), by Newton-Schulz, given the products X X^T.

    The rounds run on those, which are smaller than the matrices: a kernel is up to nine times as wide as it is high.
    """
    a, b, c = QUINTIC  # a round makes P X of X, with P = a + b gram + c gram^2
    square = grams.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-14)[:, None, None]
    grams = grams / square  # the square of the norm, which no singular value exceeds
    total = None
    for left in reversed(range(ROUNDS)):
        polynomial = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        total = polynomial if total is None else polynomial @ total
        if left:
            grams = polynomial @ grams @ polynomial
    return total / square.sqrt()
