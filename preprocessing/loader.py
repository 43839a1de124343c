"""Batches of a data set in their order, decoded by processes where there is no cache."""

import atexit
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geometry.slots import LaneTarget
from runtime import distributed
from runtime.processes import MAX_PROCESSES, cores
from runtime.signals import leave_process_group, signals_blocked

MIN_BATCHES = 8  # to decode, from which on processes pay


def loader(dataset: Dataset, batch_indices: Sequence[Sequence[int]], workers: int, pin: bool
           ) -> Iterable[tuple[Tensor, LaneTarget]]:
    """The images and lanes of each batch of a LaneDataset.

    workers -1 takes a process a core, shared out among the ranks of a machine, to decode images, each of 0.6 GB, and
    none for a few batches, for which starting them takes longer; with a cache a batch is a plain copy and needs none.
    Images that are preloaded stay on their device.
    """
    if dataset.preloaded:
        return map(dataset.__getitem__, batch_indices)
    if dataset.pixels is not None:
        workers = 0
    elif workers < 0:
        share = max(1, cores() // distributed.processes_here())
        workers = min(share, MAX_PROCESSES) if len(batch_indices) >= MIN_BATCHES else 0
    workers = min(workers, len(batch_indices))
    return _Loader(dataset, sampler=batch_indices, batch_size=None, num_workers=workers, pin_memory=pin,
                   multiprocessing_context="spawn" if workers else None, worker_init_fn=_start_worker)


class _Loader(DataLoader):
    """Signals to stop that go to a whole group, from a terminal or a scheduler, do not reach its processes.

    The script, which gets them too, finishes its step with their help and then ends them.
    """

    def __iter__(self) -> Iterator:
        with signals_blocked() if self.num_workers else contextlib.nullcontext():
            return super().__iter__()


def _start_worker(_worker: int) -> None:
    """A process ends by os._exit: Python's own end aborts where a thread is still handing tensors over."""
    leave_process_group()
    atexit.register(os._exit, 0)
