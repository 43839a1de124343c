"""How the C library deals with memory that is freed."""

import contextlib
import ctypes


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next allocation.

    By default every large array is mapped anew and its pages are zeroed by the kernel at first touch, which costs
    more than the arithmetic of an elementwise operation. Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
