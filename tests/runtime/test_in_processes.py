"""Work shared among processes: in order, soon stopped, and nothing left of it."""

import os
import signal
import subprocess
import sys
import time

import jobs
import pytest
from processes import children, needs_kill, needs_proc, until

from runtime import processes
from runtime.processes import ProcessKilled, check_wanted, cores, in_processes, processes_for


def mask():
    return signal.pthread_sigmask(signal.SIG_BLOCK, []) if hasattr(signal, "pthread_sigmask") else None


@pytest.mark.slow
@pytest.mark.process
def test_results_are_in_order_and_their_processes_start_without_pytorch_or_the_script(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = mask(), vars(sys.modules["__main__"]).get("__file__")
    results = list(in_processes(jobs.surroundings, range(12), 2, "tests"))
    assert [number for number, *_ in results] == list(range(12))
    assert 1 <= len({pid for _, pid, _ in results} - {os.getpid()}) <= 2
    expected = {"torch": False, "script": None, "numpy": "1", "opencv": 1, "SIGINT": True}
    assert [found for *_, found in results] == [expected] * 12
    assert (mask(), vars(sys.modules["__main__"]).get("__file__")) == before and os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.slow
@pytest.mark.process
def test_the_first_error_in_order_is_raised_and_the_tasks_behind_it_end_soon():
    done, start = [], time.monotonic()
    with pytest.raises(ValueError, match="2: broken"):
        done.extend(in_processes(jobs.fail_at_two, range(100), 2, "tests"))
    assert time.monotonic() - start < 30, "a task takes a minute"


@pytest.mark.slow
@pytest.mark.process
@needs_proc
def test_an_iterator_that_is_closed_leaves_no_process():
    before = children(os.getpid())
    results = in_processes(jobs.surroundings, range(100), 2, "tests")
    assert next(results)[0] == 0 and len(children(os.getpid())) == len(before) + 2
    results.close()
    assert until(lambda: children(os.getpid()) == before, 10)


@pytest.mark.slow
@pytest.mark.process
@needs_kill
def test_a_killed_process_is_an_error():
    with pytest.raises(ProcessKilled, match="a process that tests was killed"):
        list(in_processes(jobs.end_by_kill, range(4), 2, "tests"))


@pytest.mark.slow
@pytest.mark.process
@needs_kill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_of_the_script_kills_no_process(number):
    """A scheduler or a shell sends it to all; the script says what becomes of the others."""
    code = ("import signal, sys, jobs\nfrom runtime.processes import in_processes\n"
            f"signal.signal({int(number)}, lambda *_: None)\n"
            "results = in_processes(jobs.surroundings, range(40), 2, 'tests')\n"
            "next(results)\nprint('begun', flush=True)\nsys.stdin.readline()\nassert len(list(results)) == 39")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    run = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True, text=True, **pipes)
    assert run.stdout.readline() == "begun\n"
    os.killpg(run.pid, number)
    assert (run.communicate("\n", timeout=60)[1], run.returncode) == ("", 0)


def test_outside_of_such_a_process_results_are_wanted():
    check_wanted()


def test_in_such_a_process_they_are_until_it_is_told(monkeypatch):
    monkeypatch.setattr(processes, "_stop", stop := type("Shared", (), {"value": 0})())
    check_wanted()
    stop.value = 1
    with pytest.raises(processes.Stopped):
        check_wanted()


@pytest.mark.parametrize(("number", "images", "count"), [(2, 10**6, 0), (4, 10**6, 0), (5, 10**6, 5), (16, 1499, 0),
                                                         (16, 1500, 16), (192, 6000, 32)])
def test_processes_read_where_there_are_many_cores_and_images(monkeypatch, number, images, count):
    monkeypatch.setattr(processes, "cores", lambda: number)
    assert processes_for(images) == count


@pytest.mark.parametrize(("text", "number"), [("200000 100000", 2), ("max 100000", 8), ("10000 100000", 1), ("", 8)])
def test_a_container_has_its_share_of_the_cores(monkeypatch, tmp_path, text, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processes, "CPU_LIMIT", tmp_path / "cpu.max")
    assert cores() == 8, "no such file"
    processes.CPU_LIMIT.write_text(text)
    assert cores() == number


def test_cores_are_those_that_this_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "CPU_LIMIT", tmp_path / "none")
    assert 1 <= cores() <= os.cpu_count()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
