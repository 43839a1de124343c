"""A device before its first step."""

import threading

import pytest
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
    begun, read, done = threading.Event(), threading.Event(), []

    def first_convolution(which):
        begun.set()
        assert read.wait(30), "it runs beside the block"
        done.append((which, threading.current_thread()))

    monkeypatch.setattr(device, "first_convolution", first_convolution)
    for name in ("cpu", "mps"):
        with device.warm_up(torch.device(name)):
            assert not begun.is_set()
    with pytest.raises(KeyError), device.warm_up(torch.device("cuda", 1)):
        assert begun.wait(30)
        read.set()
        raise KeyError
    (which, thread), = done
    assert which == torch.device("cuda", 1) and thread is not threading.main_thread() and thread.daemon
