"""The scale of a float16 loss, without which small gradients would be 0; it stays on the device.

torch.amp.GradScaler asks the device in every step whether a gradient has overflowed, and so waits for it.
"""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

FIRST_SCALE = 2.0**16
GROWTH_STEPS = 2000  # without an overflow, after which the scale is doubled; an overflow halves it


class LossScaler(nn.Module):
    """The scale, and the number of steps since it last changed; in other types than float16 it is not enabled."""

    def __init__(self, enabled: bool):
        super().__init__()
        self.enabled = enabled
        self.register_buffer("scale", torch.full((), FIRST_SCALE if enabled else 1.0))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def update(self, finite: Tensor) -> None:
        """Adjust the scale after a step whose gradients were all finite, or not."""
        steps = torch.where(finite, self.steps + 1, 0.0)
        grows = steps >= GROWTH_STEPS
        factor = torch.where(finite, torch.where(grows, 2.0, 1.0), 0.5)
        self.scale *= factor
        self.steps.copy_(torch.where(grows, 0.0, steps))


@contextlib.contextmanager
@torch.no_grad()
def undone_unless(finite: Tensor, tensors: Iterable[Tensor]) -> Iterator[None]:
    """The tensors have the values from before the block after it, unless `finite` () is true on the device."""
    tensors = list(tensors)
    before = [tensor.clone() for tensor in tensors]
    yield
    for tensor, value in zip(tensors, before, strict=True):
        torch.where(finite, tensor, value, out=tensor)


@torch.no_grad()
def clip_gradients(grads: list[Tensor], clip_norm: float, scale: Tensor | None = None) -> Tensor:
    """Whether all gradients are finite (); divides them by the scale, and shortens them to clip_norm together."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if scale is None:
        factor = (clip_norm / (norm + 1e-6)).clamp(max=1)
    else:
        factor = (clip_norm / (norm / scale + 1e-6)).clamp(max=1) / scale
    torch._foreach_mul_(grads, factor)
    return norm.isfinite()
