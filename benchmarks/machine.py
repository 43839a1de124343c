"""Where a figure was measured."""

import os
import platform
from datetime import date
from pathlib import Path

import torch


def description(device: torch.device) -> str:
    """Where, when and with what a table was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{processor()}, {cores} core(s)", f"{torch.get_num_threads()} thread(s)", f"torch {torch.__version__}",
             f"Python {platform.python_version()}", date.today().isoformat()]
    if hasattr(os, "getloadavg"):  # a quiet machine has no more than what the benchmark itself takes
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    if device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return f"({'; '.join(parts)})"


def processor() -> str:
    """The model of the CPU, as far as the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
