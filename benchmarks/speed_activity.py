"""How busy a GPU is: the share of a call's time in which kernels run, and how often the host has to start something."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch.autograd import DeviceType
from torch.profiler import profile, supported_activities

RUNS = 5  # that are profiled
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")


class Activity(NamedTuple):
    """What a GPU and its host do in one call."""

    busy_ms: float  # at least one kernel or copy runs
    launches: float  # the host starts a kernel, a copy or a graph

    def cells(self, call_ms: float) -> list[str]:
        """Of a table: the share of the call's time, and the launches."""
        return [f"{100 * self.busy_ms / call_ms:.0f} %", f"{self.launches:.0f}"]


COLUMNS = ("kernels run", "launches a call")


def measure(run: Callable[[], object], calls: int = 1) -> Activity:
    """The activity of one of the calls that a run makes; it has run before, and waits for the device.

    Kernels take as long as without the profiler, but the host does not: the time of a call is measured without it.
    """
    with profile(activities=supported_activities()) as profiler:
        for _ in range(RUNS):
            run()
    events, count = list(profiler.events()), RUNS * calls
    return Activity(busy_us(events) / 1e3 / count, sum(event.name.startswith(LAUNCHES) for event in events) / count)


def busy_us(events: Iterable[Any]) -> float:
    """Microseconds in which anything runs on the GPU, of a profiler's events; what overlaps counts once."""
    spans = sorted((event.time_range.start, event.time_range.end) for event in events
                   if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False))
    total, until = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
