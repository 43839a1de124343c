"""How the C library deals with memory that is freed."""

import contextlib
import ctypes


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next allocation.

    By default most of what large arrays take goes back to the kernel, which zeroes every page anew at first touch:
    more work than the arithmetic of an elementwise operation. Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(-3, 1 << 30):  # M_MMAP_THRESHOLD
            mallopt(-3, 1 << 25)  # all that older versions take
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
