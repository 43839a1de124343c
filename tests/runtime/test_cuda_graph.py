"""How work is recorded, without a GPU: torch.cuda is a stand-in that refuses what the real one does not take."""

import contextlib
from unittest import mock

import pytest
import torch

from runtime.cuda_graph import WARMUP_CALLS, cuda_recorder

DEVICE = torch.device("cuda:0")


@pytest.fixture
def cuda(monkeypatch):
    """The stand-ins by name; each call is checked against the signature of what it stands for."""
    stand_ins = {name: mock.create_autospec(getattr(torch.cuda, name)) for name in (
        "Stream", "CUDAGraph", "graph", "stream", "device", "current_stream", "graph_pool_handle")}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return stand_ins


def test_work_is_warmed_up_aside_and_then_recorded_once(cuda):
    calls = []

    def work():
        in_warm_up = cuda["stream"].return_value.__enter__.called and not cuda["stream"].return_value.__exit__.called
        calls.append("warm-up" if in_warm_up else "recorded" if cuda["graph"].return_value.__enter__.called else "bare")
        return torch.tensor(len(calls))

    recording = cuda_recorder(DEVICE)(work)
    assert calls == WARMUP_CALLS * ["warm-up"] + ["recorded"]
    assert int(recording.output) == WARMUP_CALLS + 1
    recording.replay()
    cuda["CUDAGraph"].return_value.replay.assert_called_once_with()


def test_all_recordings_of_a_recorder_share_one_pool(cuda):
    record = cuda_recorder(DEVICE)
    for _ in range(2):
        record(lambda: torch.zeros(1))
    cuda["graph_pool_handle"].assert_called_once_with()
    cuda["Stream"].assert_called_once_with()  # memory that was freed on another stream is not taken
    pools = [call.kwargs["pool"] for call in cuda["graph"].call_args_list]
    assert pools == 2 * [cuda["graph_pool_handle"].return_value]
    assert all(call.kwargs["capture_error_mode"] == "thread_local" for call in cuda["graph"].call_args_list)


def test_streams_wait_for_each_other(cuda):
    aside, usual = cuda["Stream"].return_value, cuda["current_stream"].return_value
    cuda_recorder(DEVICE)(lambda: torch.zeros(1))
    aside.wait_stream.assert_called_once_with(usual)
    usual.wait_stream.assert_called_once_with(aside)


class Streams:
    """torch.cuda.stream and torch.cuda.graph as far as the current stream goes, which a failed graph does not leave."""

    def __init__(self, cuda):
        self.current = "usual"
        cuda["stream"].side_effect = self.stream
        cuda["graph"].side_effect = self.graph

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(self, _graph, *, stream, **_):
        self.in_inference_mode = torch.is_inference_mode_enabled()
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.mark.parametrize("failing_call", range(1, WARMUP_CALLS + 2))
def test_after_a_recording_that_fails_work_is_done_where_it_was(cuda, failing_call):
    streams, usual, calls = Streams(cuda), mock.Mock(), []
    cuda["current_stream"].side_effect = lambda: usual

    def work():
        calls.append(streams.current)
        if len(calls) == failing_call:
            raise RuntimeError("not permitted")

    with pytest.raises(RuntimeError, match="not permitted"):
        cuda_recorder(DEVICE)(work)
    aside = cuda["Stream"].return_value
    assert calls == failing_call * [aside] and streams.current == "usual"
    usual.wait_stream.assert_called_once_with(aside)  # what has been begun there is done before anything else


@pytest.mark.parametrize("inference", [False, True])
def test_a_graph_begins_outside_of_inference_mode_and_its_work_is_in_the_callers(cuda, inference):
    """The first graph makes tensors for random numbers that all graphs of the process fill (PyTorch's issue 166792)."""
    streams, modes = Streams(cuda), []

    def work():
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.inference_mode() if inference else torch.enable_grad():
        cuda_recorder(DEVICE)(work)
        assert torch.is_inference_mode_enabled() == inference
    assert modes == (WARMUP_CALLS + 1) * [(inference, not inference)]
    assert not streams.in_inference_mode
