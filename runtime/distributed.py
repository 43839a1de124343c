"""Distributed data parallel training, as started by torchrun; in a single process every function does nothing.

A batch, an epoch and a score mean the same for any number of processes W: each takes every W-th image of a batch,
divides its loss by the count over all processes, and normalizes by the batch statistics of all.
"""

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(hours=6)  # the others wait while rank 0 renders and fills the cache


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """W, how many processes share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the process group where torchrun started this process; gives the device of this rank.

    stdout of other ranks than 0 is discarded. Raises ConnectionError where another process has ended or cannot be
    reached.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except RuntimeError as error:  # also torch's DistError
        reason = str(error).splitlines()[0][:200]
        raise ConnectionError(f"the processes cannot reach each other: {reason}") from None
    with contextlib.ExitStack() as stack:
        if rank() > 0:
            devnull = stack.enter_context(open(os.devnull, "w", encoding="utf-8", errors="backslashreplace"))
            stack.enter_context(contextlib.redirect_stdout(devnull))
        try:
            yield device
        except RuntimeError as error:  # gloo has no type of its own
            if "gloo/transport" in str(error):
                raise ConnectionError("another process has ended; its error is above or below") from None
            raise
    dist.destroy_process_group()  # not after an error: others would fail and end this one before its message


def progress_disabled() -> bool | None:
    """What tqdm's `disable` should be: progress bars are rank 0's, and only on a terminal."""
    return True if rank() > 0 else None


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block on rank 0, then on the others, which can read what rank 0 wrote to disk."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and world_size() > 1:
        dist.barrier()


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def processes_here() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world_size() > 1 else 1


def shard(items: list | Tensor) -> list | Tensor:
    """The items of a list, or rows of a tensor, that belong to this process: every W-th, from its rank on."""
    return items[rank()::world_size()]


def all_gather(rows: Tensor, count: int) -> Tensor:
    """All `count` rows (count, ...) in order, from the rows (n, ...) of each process as `shard` gives them."""
    if world_size() == 1:
        return rows
    largest = -(-count // world_size())
    padded = torch.cat((rows, rows.new_zeros(largest - len(rows), *rows.shape[1:]))).contiguous()
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count]


def gather_to_main(items: Iterable) -> Iterable:
    """On rank 0 the items (plain values) of all processes, one process after the other; none on other ranks."""
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
    """The largest of the processes' numbers."""
    return _all_reduce(value, "MAX")


def all_reduce_sum(value: int) -> int:
    """The sum of the processes' numbers."""
    return _all_reduce(value, "SUM")


def _all_reduce(value: int, operation: str) -> int:
    """The value reduced over the processes; `operation` is a name of dist.ReduceOp, which a build may lack."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value)
    dist.all_reduce(tensor, getattr(dist.ReduceOp, operation))
    return int(tensor)


def broadcast(value: Any) -> Any:
    """Rank 0's value on every process."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def check_same(values: Mapping[str, Any]) -> None:
    """Raise ConnectionError, on all processes, where one has another of these values by name than rank 0."""
    if world_size() == 1:
        return
    of_ranks: list = [None] * world_size()
    dist.all_gather_object(of_ranks, dict(values))
    for number, of_rank in enumerate(of_ranks):
        for name, value in of_ranks[0].items():
            if of_rank[name] != value:
                dist.destroy_process_group()  # all end here; its threads would abort some of them
                raise ConnectionError(f"{name} is {of_rank[name]} in process {number} and {value} in process 0; give "
                                      "all processes the same settings and the same data")


def wrap_ddp(model: nn.Module, device: torch.device, find_unused: bool = False) -> nn.Module:
    """The model in DistributedDataParallel: its gradients are means over the processes.

    find_unused: some parameters may have no gradient, which is looked for in each step.
    """
    if world_size() == 1:
        return model
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # 1x1 kernels: harmless
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None, find_unused_parameters=find_unused)


def sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with batch norms that take mean and variance over the whole batch, of all processes."""
    if world_size() == 1:
        return model
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return model


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; the gradient is summed alike."""

    @staticmethod
    def forward(context, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes on the CPU, which nn.SyncBatchNorm refuses."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.float()
        # Two rounds, mean first: the mean square less the squared mean would lose digits.
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
