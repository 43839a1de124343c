"""The speed benchmark on tiny networks and images: every table is printed, in its form, with where it was measured."""

import gc
import re
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import speed
import speed_activity
import speed_forward
import speed_inference
import speed_networks
import speed_roofline
import speed_step
import speed_training
import torch
from paths import ROOT
from recorders import StandIn
from speed_activity import Activity
from speed_networks import BASELINE, build_network, random_images
from speed_roofline import Peak, roofline_ms
from speed_scale import TUSIMPLE, Scale, full_scale, quick_scale
from torch.autograd import DeviceType

from config import load_config
from inference.predictor import Predictor
from model import LaneNet
from runtime.cuda_graph import Recording
from runtime.processes import cores

MACHINE = re.compile(r"\(.+, \d+ core\(s\); 1 thread\(s\); torch \S+; Python \S+; \d{4}-\d\d-\d\d(; load [\d.]+)?\)")
TINY = ["model.backbone=compact", "model.width=64", "model.height=64", "train.precision=fp32", "guard.patience=9",
        "guard.min_diversity=0", "guard.min_sensitivity=0"]  # models of a few steps are kept


SCALE = Scale(rounds=1, networks=(BASELINE, "compact"), batches=(1, 2), step_batches=(4,), files=3,
              file_size_px=(160, 96), latencies=1, seconds=0.01, repeats=1)


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """Two networks of 64x64 pixels and three files, elsewhere than in the repository."""
    monkeypatch.chdir(tmp_path)
    for name in SCALE.networks:
        monkeypatch.setitem(speed_networks.SIZES, name, (64, 64))
    monkeypatch.setattr(speed, "full_scale", lambda _device, _rounds: SCALE)
    monkeypatch.setattr(speed_step, "STEPS", 2)
    monkeypatch.setattr(speed_roofline, "MATRIX_ROWS", {"cpu": 64})
    monkeypatch.setattr(speed_roofline, "COPIED_BYTES", {"cpu": 4096})


def tables(capsys, *words):
    """The tables that the script prints, as lists of rows of cells; each is followed by the machine."""
    assert speed.main([*words, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    result = [[[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
              for block in re.findall(r"(?:^\|.*\n)+", out, re.MULTILINE)]
    assert len(result) == len(MACHINE.findall(out)) > 0
    for table in result:
        assert len({len(row) for row in table}) == 1, table[0]
    return result


def test_the_forward_tables_measure_every_network_beside_the_baseline(capsys):
    printed = tables(capsys, "forward")
    assert len(printed) == len(SCALE.batches) * len(speed_forward.precisions(torch.device("cpu")))
    for _, _, baseline, folded, compact in printed:
        assert [row[0] for row in (baseline, folded, compact)] == [
            BASELINE, f"{BASELINE}, fused", "compact"]
        assert baseline[5] == "1.0" and float(compact[5]) > 0
        for row in (baseline, folded, compact):
            assert float(row[7]) == pytest.approx(float(row[3]) / float(row[6]), rel=0.05, abs=0.06)


def test_a_recorded_forward_keeps_the_weights_that_it_reads():
    """A recording has addresses, and keeps nothing alive; that of the stand-in keeps as little."""
    network, images = torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8)
    cpu, weights = torch.device("cpu"), weakref.ref(network)
    forward = speed_forward.RecordedForward(speed_forward.baseline_forward(network, cpu, torch.float32), images,
                                            lambda work: Recording(lambda: None, work()))
    run = speed_forward.timed(forward, images, cpu, torch.float32)
    del network, forward
    gc.collect()
    run()
    assert weights() is not None, "a graph reads the weights of its network, which must stay"


def test_on_cuda_every_row_has_its_graph_and_what_the_gpu_does(monkeypatch):
    """Without a GPU: what asks for one is given the CPU, and a recorder's stand-in."""
    cases = {name: speed_forward.Case(build_network(name).eval(), random_images(name, 1))
             for name in SCALE.networks}
    monkeypatch.setattr(speed_forward, "cuda_recorder", lambda _device: StandIn())
    made = []

    def predictor(network, grid, _device, dtype, cuda_graphs=True):
        made.append(cuda_graphs)
        return Predictor(network, grid, torch.device("cpu"), dtype)

    monkeypatch.setattr(speed_forward, "Predictor", predictor)
    monkeypatch.setattr(speed_forward, "baseline_forward", lambda network, *_: network)
    forwards = speed_forward.forwards(cases, torch.device("cuda"), torch.float32)
    assert list(forwards) == [BASELINE, f"{BASELINE}, fused", f"{BASELINE}, fused, CUDA graph",
                              "compact, no CUDA graph", "compact"]
    assert made == [False, True]
    activity = {name: Activity(busy_ms=0.5, launches=3.0) for name in forwards}
    rows = speed_forward.table(cases, dict.fromkeys(forwards, 2.0), torch.float32, Peak(1e12, 1e12), activity)
    assert all(row.endswith("| 25 % | 3 |") for row in rows[2:]) and rows[0].endswith("kernels run | launches a call |")


def test_time_in_which_a_gpu_is_busy_counts_once():
    def event(start, end, device=DeviceType.CUDA, **more):
        return SimpleNamespace(time_range=SimpleNamespace(start=start, end=end), device_type=device, **more)

    kernels = [event(0, 10), event(5, 12), event(6, 8), event(20, 25)]
    others = [event(0, 100, DeviceType.CPU), event(0, 50, is_user_annotation=True)]
    assert speed_activity.busy_us([*others, *kernels]) == 17
    assert speed_activity.busy_us([]) == 0


def test_a_profile_without_a_gpu_has_no_kernels():
    x = torch.ones(64, 64)
    assert speed_activity.measure(lambda: x @ x) == (0, 0)


def test_the_roofline_counts_operations_or_bytes():
    """A convolution from C channels to one, kernel 3: 9 C H W multiplications and as many additions."""
    network, images = torch.nn.Conv2d(4, 1, 3, padding=1, bias=False), torch.zeros(2, 4, 8, 16)
    operations, count = 2 * 9 * 4 * 8 * 16 * 2, 9 * 4 * 4 + 2 * 4 * 8 * 16 * 4
    for peak in (Peak(1e6, 1e15), Peak(1e15, 1e6)):
        expected = operations / 1e3 if peak.operations == 1e6 else count / 1e3
        assert roofline_ms(network, images, torch.float32, peak) == pytest.approx(expected)


def test_the_compact_network_has_the_gmac_of_the_readme():
    gmac = roofline_ms(LaneNet(), torch.zeros(1, 3, 168, 384), torch.float32, Peak(1e12, 1e15)) / 2
    assert f"{gmac:.2f} GMAC at 384x168" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.process
def test_the_inference_tables_go_from_files_to_lanes(capsys):
    one, batched, whole = tables(capsys, "inference", "inference.batch_size=2")
    for table in (one, batched):
        assert table[0][2:6] == list(speed_inference.PARTS)
        _, _, baseline, compact = table
        assert baseline[5] == "" and all(float(cell) >= 0 for cell in compact[2:9])
        assert float(compact[6]) <= float(compact[7])  # p50, p99
    assert whole[2][0] == "compact" and whole[2][7].endswith(" %") and whole[2][8].endswith(" %")
    assert float(whole[2][9].split()[0]) > 0.1


def test_on_cuda_the_parts_of_inference_have_memory_and_what_the_gpu_does(tmp_path, monkeypatch):
    """Without a GPU: what asks for one is a stand-in."""
    monkeypatch.setattr(speed_inference, "cuda_memory", lambda _case, images: 1e6 * len(images))
    monkeypatch.setattr(speed_inference, "measure", lambda call: call() and Activity(busy_ms=0.0, launches=4))
    paths = speed_inference.image_files(tmp_path, load_config(None, []), [], SCALE)
    case = speed_inference.predictor_case(speed_inference.random_predictor("compact", tmp_path, torch.device("cpu")))
    header, _, row = speed_inference.parts_table({"compact": case}, paths, 2, 1, torch.device("cuda"))
    assert header.endswith("| GPU memory | kernels run, forward | launches a call, forward |")
    assert row.endswith("| 2 MB | 0 % | 4 |") and header.count("|") == row.count("|")


@pytest.mark.slow
@pytest.mark.process
def test_reading_is_measured_with_one_thread_and_with_threads_and_processes_one_a_core(capsys, rendered):
    [[header, _, *rows]] = tables(capsys, "reading", f"data.root={rendered}", *TINY)
    assert header == ["by", "images/s", "CPU ms an image", "of which the script itself"]
    threads = [f"{cores()} threads"] if cores() > 1 else []
    assert [row[0] for row in rows] == ["1 thread", *threads, f"{max(2, cores())} processes"]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])


def test_a_training_of_tusimples_size_is_extrapolated(capsys, monkeypatch):
    monkeypatch.setattr(speed, "full_scale", lambda _device, _rounds: SCALE._replace(tusimple=(4, 2)))
    [[header, _, (seconds, rate, minutes)]] = tables(capsys, "tusimple", *TINY)
    assert header[2].endswith("extrapolated")
    least, most = float(seconds) - 0.005, float(seconds) + 0.005  # printed with two decimals, the rate with none
    assert 4 / most - 0.5 <= float(rate) <= 4 / least + 0.5
    assert least - 1e-4 <= float(minutes) * 60 / 50 * 4 / TUSIMPLE[0] <= most + 1e-4


def test_a_training_step_is_measured_alone(capsys):
    [[header, _, row]] = tables(capsys, "step", *TINY[:4])
    assert header == ["batch", "a step", "ms", "images/s"] and row[:2] == ["4", "as it comes"]
    assert float(row[3]) == pytest.approx(4e3 / float(row[2]), rel=0.01, abs=0.55), "without decimals, ms with one"


def test_steps_as_a_graph_change_the_weights_as_those_without():
    """Without a GPU, so the recorder is a stand-in."""
    weights = []
    for record in (None, StandIn()):
        torch.manual_seed(0)
        steps = speed_step.build_steps(load_config(None, TINY[:4]), 4, torch.device("cpu"), record)
        before = steps.setup.state.model.head.x_embedding.detach().clone()
        speed_step.timed(steps, 4, torch.device("cpu"))()
        weights.append(steps.setup.state.model.head.x_embedding.detach())
        assert not torch.equal(before, weights[-1])
    torch.testing.assert_close(*weights)
    assert record.recordings == 1 and record.replays == speed_step.STEPS


def test_the_parts_of_an_epoch_are_all_of_it(capsys, monkeypatch, tmp_path):
    """Of a quick training, which renders its own scenes."""
    monkeypatch.setattr(speed, "quick_scale", lambda _device: SCALE._replace(scenes=(4, 2)))
    [[_, _, *rows]] = tables(capsys, "training", "--quick", *TINY)
    shares = {part: float(share.split()[0]) for part, share in rows}
    assert list(shares) == [*speed_training.PARTS, "everything else"]
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert min(shares.values()) >= 0 and max(shares[part] for part in ("forward", "backward of the network")) > 1
    assert not list(tmp_path.iterdir()), "the default's scenes and cache are left alone"


def test_a_part_of_an_epoch_that_is_never_reached_is_an_error(rendered, monkeypatch):
    """As after a change of train_fixed.py. A root of one's own is trained on, and nothing is rendered."""
    first, *others = speed_training.PARTS

    def second_epoch(_device, words, folder):
        assert [word for word in words if word.startswith("data.root=")] == [f"data.root={rendered}"]
        Path(folder).mkdir()
        Path(folder, "log.jsonl").write_text("{}\n")
        return dict.fromkeys(others, 1.0), 20.0

    monkeypatch.setattr(speed_training, "second_epoch", second_epoch)
    with pytest.raises(RuntimeError, match=f"has not called: {first};"):
        next(speed_training.tables(torch.device("cpu"), SCALE._replace(scenes=(4, 2)), [f"data.root={rendered}"]))


def test_a_stopwatch_books_inner_parts_on_themselves_alone(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(speed_training.time, "perf_counter", lambda: next(clock))
    watch = speed_training.Stopwatch(torch.device("cpu"))
    watch.timed("outer", lambda: watch.timed("inner", lambda: None)())()
    assert dict(watch.seconds) == {"outer": 2, "inner": 1}


def test_a_gpu_alone_is_given_hours_of_work(capsys, monkeypatch):
    monkeypatch.setattr(speed, "SECTIONS", {name: lambda *_: iter([["| a |"]]) for name in speed.SECTIONS})
    assert speed.main(["--device", "cpu"]) == 0
    assert re.findall("## (.+) on cpu", capsys.readouterr().out) == [
        "reading", "forward", "inference", "step", "training"]


def test_a_quick_run_measures_a_little_of_everything(capsys, monkeypatch):
    scales = []
    monkeypatch.setattr(speed, "SECTIONS", {name: lambda _device, scale, _: scales.append(scale) or iter([["| a |"]])
                                            for name in speed.SECTIONS})
    cpu = torch.device("cpu")
    assert speed.main(["--quick", "--device", "cpu"]) == 0
    assert scales == 5 * [quick_scale(cpu)]
    full = full_scale(cpu, 15)
    for name in ("rounds", "networks", "batches", "files", "latencies", "seconds", "repeats", "tusimple"):
        assert getattr(quick_scale(cpu), name) < getattr(full, name), name
    assert quick_scale(torch.device("cuda")).networks == full.networks


def test_images_of_ones_own_are_measured_where_a_root_is_given(rendered, tmp_path):
    config = load_config(None, [f"data.root={rendered}"])
    paths = speed_inference.image_files(tmp_path, config, [f"data.root={rendered}"], SCALE)
    assert len(paths) == 3 and all(path.is_relative_to(rendered) for path in paths)


def test_an_unknown_section_is_named(capsys):
    with pytest.raises(SystemExit):
        speed.main(["inferense"])
    assert "forward, inference, step, training" in capsys.readouterr().err
