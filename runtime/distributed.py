"""Several processes, one run: PyTorch's own engine, started by torchrun; in a single process nothing here acts.

A batch, an epoch and a score mean the same however many processes share them: each takes every W-th image of a
batch, divides its loss by what all of them count, and normalizes by the statistics of all of them.
"""

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(hours=6)  # the others wait while one renders and caches


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """W, how many processes share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did; gives the device of this one. Rank 0 alone prints."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    with contextlib.ExitStack() as stack:
        if rank() > 0:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield device
        except RuntimeError as error:  # gloo has no type of its own
            if "gloo/transport" in str(error):
                raise ConnectionError("another process has ended; see what it says") from None
            raise
    dist.destroy_process_group()  # not after an error: the others would fail, and end this one, before it is said


def progress_disabled() -> bool | None:
    """What tqdm's `disable` should be: progress bars are rank 0's, and only on a terminal."""
    return True if rank() > 0 else None


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block on rank 0, then on the others: what the first writes to disk, they find."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and world_size() > 1:
        dist.barrier()


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        dist.barrier()


def shard(items: list | Tensor) -> list | Tensor:
    """This process's part of a list or of a tensor's rows: every W-th."""
    return items[rank()::world_size()]


def all_gather(rows: Tensor, count: int) -> Tensor:
    """All `count` rows, in order, from the rows (n, ...) that each process has of its share."""
    if world_size() == 1:
        return rows
    most = -(-count // world_size())
    padded = torch.cat((rows, rows.new_zeros(most - len(rows), *rows.shape[1:]))).contiguous()
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count]


def gather_to_main(items: Iterable) -> Iterable:
    """On rank 0 the items of all processes, one process after the other; none on the others (plain values)."""
    if world_size() == 1:
        return items
    parts: list | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(list(items), parts)
    return itertools.chain.from_iterable(parts or ())


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes, without a gradient."""
    if world_size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world_size()


def all_reduce_max(value: int) -> int:
    """The largest of the processes' numbers: a wish of one to stop is the wish of all."""
    return _reduced(value, "MAX")


def all_reduce_sum(value: int) -> int:
    """The sum of the processes' numbers."""
    return _reduced(value, "SUM")


def _reduced(value: int, how: str) -> int:
    if world_size() == 1:
        return value
    found = torch.tensor(value)
    dist.all_reduce(found, getattr(dist.ReduceOp, how))
    return int(found)


def broadcast(value: Any) -> Any:
    """Rank 0's value on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def wrap_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as it is stepped: gradients are the mean over the processes."""
    if world_size() == 1:
        return model
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # 1x1 kernels: of no matter
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None)


def sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, whose batch norms take the mean and variance of the whole batch, over all processes."""
    if world_size() == 1:
        return model
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return model


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; so is its gradient's."""

    @staticmethod
    def forward(context, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes on the CPU, for which SyncBatchNorm is not made."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.float()
        # Two rounds, mean first: squares less their mean's square lose their digits.
        count = torch.tensor([x.numel() / x.shape[1]])
        sums = _Sum.apply(torch.cat((wide.sum((0, 2, 3)), count)))
        count, center = sums[-1].detach(), sums[:-1] / sums[-1].detach()  # (C)
        wide = wide - center[:, None, None]
        variance = _Sum.apply(wide.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(center, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        gain = self.weight * torch.rsqrt(variance + self.eps)
        return (wide * gain[:, None, None] + self.bias[:, None, None]).to(x.dtype)
