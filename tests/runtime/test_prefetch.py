"""Work done ahead by threads: in order, only a little of it at a time, and stopped by the first error."""

import threading
import time
from functools import partial

import cv2
import pytest

from runtime.prefetch import prefetch


def test_results_come_in_order_and_only_a_few_jobs_are_begun_ahead():
    lock, begun, ahead = threading.Lock(), [], []

    def read(i):
        with lock:
            begun.append(i)
        time.sleep(0.001 * (i % 3))
        return i

    for done, i in enumerate(prefetch((partial(read, i) for i in range(400)), threads=4, ahead=16)):
        assert i == done
        ahead.append(len(begun) - done)
    assert done == 399
    assert max(ahead) <= 17, "results would pile up where reading is faster than what takes them"


def test_the_first_error_stops_the_jobs_behind_it():
    begun = []

    def read(i):
        begun.append(i)
        if i == 5:
            raise ValueError("5: broken")
        return i

    with pytest.raises(ValueError, match="5: broken"):
        list(prefetch((partial(read, i) for i in range(10_000)), threads=4))
    assert len(begun) < 100


@pytest.mark.parametrize("low_priority", [False, True])
def test_jobs_run_in_threads_of_their_own(low_priority):
    threads = set(prefetch((threading.get_ident for _ in range(20)), threads=2, low_priority=low_priority))
    assert threading.get_ident() not in threads and 1 <= len(threads) <= 2


def test_no_jobs_give_no_results():
    assert list(prefetch([])) == []


@pytest.mark.parametrize(("threads", "inside"), [(1, 2), (3, 1)])
def test_opencv_has_threads_of_its_own_only_beside_a_single_one(threads, inside):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        assert set(prefetch((cv2.getNumThreads for _ in range(9)), threads=threads)) == {inside}
        assert cv2.getNumThreads() == 2
        results = prefetch((cv2.getNumThreads for _ in range(9)), threads=threads)
        next(results)
        results.close()
        assert cv2.getNumThreads() == 2, "nor where they end early"
    finally:
        cv2.setNumThreads(before)
