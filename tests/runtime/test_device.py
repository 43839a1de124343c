"""A device before its first step."""

import threading

import torch

from runtime import device


def test_the_warm_up_takes_no_random_number_and_leaves_errors_to_the_first_step(monkeypatch):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    device.first_convolution(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)

    def fail(*arguments, **options):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "ones", fail)
    device.first_convolution(torch.device("cpu"))


def test_a_gpu_alone_is_warmed_up_and_in_a_thread(monkeypatch):
    threads = []
    monkeypatch.setattr(device, "first_convolution", lambda which: threads.append((which, threading.current_thread())))
    device.warm_up(torch.device("cpu"))
    device.warm_up(torch.device("mps"))
    assert not threads
    device.warm_up(torch.device("cuda", 1))
    for thread in threading.enumerate():
        if thread.name == "warm-up":
            thread.join()
    (which, thread), = threads
    assert which == torch.device("cuda", 1) and thread is not threading.main_thread() and thread.daemon
