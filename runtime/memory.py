"""Settings of the C library's memory allocator."""

import contextlib
import ctypes


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next allocation; other C libraries are left as they are.

    By default the memory of large arrays goes back to the kernel, which zeroes every page anew at its first use. That
    takes longer than the arithmetic of an elementwise operation.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(-3, 1 << 30):  # M_MMAP_THRESHOLD
            mallopt(-3, 1 << 25)  # the most that older versions accept
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
