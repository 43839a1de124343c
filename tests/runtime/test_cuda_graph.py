"""How work is recorded, without a GPU: torch.cuda is a stand-in that refuses what the real one does not take."""

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
    pools = [call.kwargs["pool"] for call in cuda["graph"].call_args_list]
    assert pools == 2 * [cuda["graph_pool_handle"].return_value]
    assert all(call.kwargs["capture_error_mode"] == "thread_local" for call in cuda["graph"].call_args_list)


def test_streams_wait_for_each_other(cuda):
    aside, usual = cuda["Stream"].return_value, cuda["current_stream"].return_value
    cuda_recorder(DEVICE)(lambda: torch.zeros(1))
    aside.wait_stream.assert_called_once_with(usual)
    usual.wait_stream.assert_called_once_with(aside)
