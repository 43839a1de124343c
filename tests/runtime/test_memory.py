"""Freed memory is kept: the kernel is not asked for the same pages again and again."""

import platform
import subprocess
import sys

import pytest
from paths import ROOT

FAULTS = """
import resource
import numpy as np
from runtime import memory
{keep}
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2_000_000)
before = count()
for _ in range(20):
    np.ones(2_000_000)  # 16 MB, 4000 pages
print(count() - before)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_kept():
    mapped, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout)
        for keep in ("", "memory.keep_freed_memory()")
    )
    assert kept < 0.1 * mapped
