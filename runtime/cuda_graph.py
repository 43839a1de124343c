"""Work recorded as a CUDA graph: all its kernels are then started by one call of the host.

A graph reads and writes the memory that it was recorded with. Whoever keeps one also keeps every tensor that it reads.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

WARMUP_CALLS = 3  # libraries choose their algorithms and allocate their workspaces in the first ones


class Recording(NamedTuple):
    """Recorded work."""

    replay: Callable[[], None]  # does it once more, in the order of the current stream
    output: Tensor  # what it gives; each replay overwrites it


Recorder = Callable[[Callable[[], Tensor]], Recording]  # records a function that reads and writes the same memory


def cuda_recorder(device: torch.device) -> Recorder:
    """A function that records work on a CUDA device; its recordings share one pool of memory.

    The output of one may lie where another one calculates, so it has to be copied before another one is replayed.
    Raises RuntimeError for what cannot be recorded, such as work that waits for the device.
    """
    with torch.cuda.device(device):
        pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # memory is shared on one stream only

    def record(work: Callable[[], Tensor]) -> Recording:
        inference = torch.is_inference_mode_enabled()

        def run() -> Tensor:
            with torch.inference_mode() if inference else contextlib.nullcontext():
                return work()

        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.cuda.device(device))
            usual = torch.cuda.current_stream()
            stack.enter_context(torch.cuda.stream(usual))  # a recording that fails does not leave its stream by itself
            if inference:  # of which PyTorch's own tensors of all graphs would be: none outside could be recorded
                stack.enter_context(torch.inference_mode(False))
            stream.wait_stream(usual)
            try:
                with torch.cuda.stream(stream):
                    for _ in range(WARMUP_CALLS):
                        run()
            finally:
                usual.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # thread_local: threads that pin batches or watch over NCCL may go on meanwhile
            try:
                with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    output = run()
            except RuntimeError as error:  # often of the end of the recording, which hides what had ended it
                raise RuntimeError(str(error.__context__ or error)) from error
        return Recording(graph.replay, output)

    return record
