"""Muon (Jordan et al. 2024): momentum whose direction is made orthogonal, for kernels; AdamW for everything else.

A kernel (O, I, h, w) is stepped as a matrix (O, I h w), GROUP rows at a time, all of whose directions move by as much,
not only the few that dominate a gradient. Here it reaches in three epochs what AdamW alone reaches in six
(docs/EXPERIMENTS.md).

Nothing here reads a number back from the device, so that a step can be recorded as part of a CUDA graph.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOMENTUM = 0.95
BETAS = 0.9, 0.99  # of AdamW beside Muon; the second is short, since our runs are
QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan's: singular values come near 1 in five rounds, from 0.01 on
ROUNDS = 5
GROUP = 64  # rows of such a matrix, lying on its longer side, that are stepped together: the work grows with its square
KERNEL_RATE = 10.0  # times the learning rate: an orthogonal step is small beside AdamW's, which moves each weight by it
EPSILON = 1e-8  # of AdamW
SMALLEST = 2.5e-17  # the square of a momentum's norm below which a step is shorter: it is rounding error


class MuonAdamW:
    """Kernels are stepped by Muon at KERNEL_RATE times lr, the rest by AdamW at lr; `others` are not decayed. Without
    kernels it is AdamW.

    It looks like one of torch.optim's, and is none: those import PyTorch's compiler, which takes seconds.
    """

    def __init__(self, kernels: Iterable[Tensor], decayed: Iterable[Tensor], others: Iterable[Tensor], lr: float,
                 weight_decay: float, betas: tuple[float, float] = BETAS):
        settings = {"lr": lr, "weight_decay": weight_decay, "is_kernel": False, "betas": betas}
        groups = [{"params": list(kernels), "is_kernel": True}, {"params": list(decayed)},
                  {"params": list(others), "weight_decay": 0.0}]
        self.param_groups = [settings | group for group in groups if group["params"]]
        self.state = {p: {name: torch.zeros_like(p, requires_grad=False) for name in _names(group)}
                      for group in self.param_groups for p in group["params"]}
        self.count = torch.zeros((), device=next(iter(self.state)).device)  # of steps, for AdamW

    def zero_grad(self) -> None:
        """Let go of all gradients."""
        for p in self.state:
            p.grad = None

    @torch.no_grad()
    def step(self, factor: Tensor | float = 1.0) -> None:
        """Step every parameter that has a gradient, at `factor` times the learning rate."""
        self.count += 1
        for group in self.param_groups:
            stepped = [p for p in group["params"] if p.grad is not None]
            if stepped:
                (self._step_kernels if group["is_kernel"] else self._step_others)(stepped, group, factor)

    def state_dict(self) -> dict[str, Any]:
        """The states of all parameters by their numbers, the groups of these, and the number of steps."""
        numbers = {p: number for number, p in enumerate(self.state)}
        groups = [group | {"params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(enumerate(self.state.values())), "param_groups": groups, "count": self.count}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict of as many parameters in the same groups, with the rates and decays of this one.

        Raises ValueError or KeyError.
        """
        own = self.state_dict()
        for mine, theirs in zip(own["param_groups"], state_dict["param_groups"], strict=True):
            if mine["params"] != theirs["params"]:
                raise ValueError("the optimizer's groups are others")
        for number, tensors in own["state"].items():
            for name, tensor in tensors.items():
                saved = state_dict["state"][number][name]
                if saved.shape != tensor.shape:
                    raise ValueError(f"the optimizer's {name} of parameter {number} is {tuple(saved.shape)}")
                tensor.copy_(saved)
        self.count.copy_(state_dict["count"])

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that a step changes."""
        yield self.count
        for p, state in self.state.items():
            yield p
            yield from state.values()

    def _step_kernels(self, kernels: list[Tensor], group: dict[str, Any], factor: Tensor | float) -> None:
        """All of them at once, groups of rows of equal shape as one product: each alone is too small a piece of work.

        The momentum is a mean of gradients; its scale does not matter to its direction.
        """
        lr = group["lr"] * KERNEL_RATE * factor
        momenta, grads = [self.state[p]["momentum"] for p in kernels], [p.grad for p in kernels]
        torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(momenta, grads, 1 - MOMENTUM)  # Nesterov's
        parts = defaultdict(lambda: ([], []))  # by (rows, columns, rate): parts of weights, and their directions
        for p, direction in zip(kernels, ahead, strict=True):
            weights, direction = as_matrix(p, p), as_matrix(direction, p)
            rows, columns = weights.shape
            rate = max(1.0, rows / columns) ** 0.5
            if rows > columns:
                weights, direction = weights.T, direction.T
            for part in zip(weights.split(GROUP), direction.split(GROUP), strict=True):
                for tensors, tensor in zip(parts[(*part[0].shape, rate)], part, strict=True):
                    tensors.append(tensor)
        directions = [torch.stack(part) for _, part in parts.values()]  # (n, rows, columns) each
        grams = torch.cat([_padded(x @ x.mT) for x in directions])
        factors = (lr * orthogonalizers(grams)).split([len(x) for x in directions])
        torch._foreach_mul_(kernels, 1 - lr * group["weight_decay"])
        for ((rows, _, rate), (weights, _)), left, x in zip(parts.items(), factors, directions, strict=True):
            torch._foreach_sub_(weights, (left[:, :rows, :rows] @ x).unbind(), alpha=rate)

    def _step_others(self, others: list[Tensor], group: dict[str, Any], factor: Tensor | float) -> None:
        """Steps are counted for all of them: they are expected to have gradients from the same step on."""
        means, squares = ([self.state[p][name] for p in others] for name in ("mean", "square"))
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(others, [p.grad for p in others], means, squares, [], [self.count] * len(others),
                            lr=group["lr"] * factor, beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"],
                            eps=EPSILON, amsgrad=False, maximize=False)


def _names(group: dict[str, Any]) -> tuple[str, ...]:
    """Of the tensors that a parameter of a group has for its state."""
    return ("momentum",) if group["is_kernel"] else ("mean", "square")


def as_matrix(tensor: Tensor, kernel: Tensor) -> Tensor:
    """A tensor of a kernel's shape (O, I, h, w) as (O, I h w), columns in the order of the kernel's memory; a view for
    the kernel itself."""
    if kernel.ndim == 4 and kernel.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten(1)


def _padded(grams: Tensor) -> Tensor:
    """Matrices (n, rows, rows) with rows and columns of 0 up to GROUP."""
    missing = GROUP - grams.shape[1]
    return F.pad(grams, (0, missing, 0, missing)) if missing else grams


def orthogonalizers(grams: Tensor) -> Tensor:
    """(N, GROUP, GROUP): what matrices X (rows, columns), no higher than wide, are multiplied by from the left for all
    of their singular values to be near 1 (0.7 to 1.2), by Newton-Schulz, given the products X X^T.

    The rounds run on those, which are smaller than the matrices: a kernel is up to nine times as wide as it is high.
    """
    a, b, c = QUINTIC  # a round makes P X of X, with P = a + b gram + c gram^2
    square = grams.diagonal(dim1=1, dim2=2).sum(1).clamp(min=SMALLEST)[:, None, None]
    grams = grams / square  # the square of the norm, which no singular value exceeds
    total = None
    for left in reversed(range(ROUNDS)):
        polynomial = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        total = polynomial if total is None else polynomial @ total
        if left:
            grams = polynomial @ grams @ polynomial
    return total / square.sqrt()
