"""Several processes give what one gives: two started by torchrun on the CPU, over gloo."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from paths import ROOT

import inference_fixed
import train_fixed
from inference import inputs
from inference.sources import Source
from runtime import distributed

CLOCK = ("seconds", "images_per_second")
# A lane at the threshold may fall either way:
COUNTED = ("accuracy", "fp", "fn", "f1", "existence_accuracy", "threshold")


def torchrun(processes, script, *words, cwd):
    """The finished processes of a script that torchrun started."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}",
               str(ROOT / script), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def settings(rendered, tmp_path_factory):
    """24 images in five batches of 4 and 5, which two processes cannot always halve.

    A small learning rate, so that Adam does not magnify the last digits; a model this young is blind, and is kept
    all the same.
    """
    return ["model.width=96", "model.height=64", "train.batch_size=5", "train.device=cpu", "train.precision=fp32",
            "train.epochs=2", "train.learning_rate=0.0002", "guard.min_diversity=0", f"data.root={rendered}",
            f"data.cache_dir={tmp_path_factory.mktemp('pixels')}"]


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert train_fixed.main([*settings, f"train.checkpoint_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def together(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    done = torchrun(2, "train_fixed.py", *settings, f"train.checkpoint_dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_have_the_gradients_and_statistics_of_one():
    done = torchrun(2, "tests/fixtures/two_gradients.py", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    line = re.fullmatch(r"2 processes, worst difference (\S+)\n", done.stdout)
    assert float(line[1]) < 1e-4


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_train_as_one_does(alone, together):
    """Adam makes full steps of what is rounding error in a gradient near 0, hence one percent and not one digit."""
    one, two = log(alone), log(together[0])
    assert [r["epoch"] for r in two] == [1, 2]
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {*CLOCK, *COUNTED, "verdict", "epoch", "steps"}:
            # After six steps a row's columns are nearly level, and rounding chooses the likeliest: when the eight
            # images are shifted, lanes follow by a few hundredths more or less.
            tolerance = 0.05 if name == "sensitivity" else 1e-2
            assert theirs[name] == pytest.approx(mine[name], rel=1e-2, abs=tolerance), name
        assert theirs["verdict"] == mine["verdict"]


@pytest.mark.slow
@pytest.mark.process
def test_rank_0_alone_prints(together):
    assert together[1].count("epoch   1/2") == together[1].count("epoch   2/2") == 1
    assert together[1].count("the best model") == 1


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_score_as_one_does(settings, alone, tmp_path):
    words, statuses = [*settings, "--checkpoint", alone / "last.pth"], set()
    for name, processes in (("one.json", 1), ("two.json", 2)):
        done = torchrun(processes, "evaluate_fixed.py", *words, "--json", name, cwd=tmp_path)
        statuses.add(done.returncode)
        assert done.stdout.count("TuSimple metric") == 1
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert len(statuses) == 1 and one.pop("verdict") == two.pop("verdict")
    assert one == pytest.approx(two, rel=1e-5, abs=1e-6, nan_ok=True)


def tree(folder):
    """The content of every file below a folder, by its name there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_write_what_one_does(settings, rendered, alone, tmp_path, monkeypatch, capsys):
    """Five images in batches of two, one that cannot be read, a film, and an image for which one process is enough."""
    paths = [str(path) for path in sorted((rendered / "clips").rglob("*.jpg"))[:7]]
    broken, film = tmp_path / "broken.jpg", tmp_path / "film.avi"
    broken.write_text("no image")
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 180))
    for path in paths[:3]:
        writer.write(cv2.imread(path))
    writer.release()
    words = [*paths[:2], str(broken), *paths[2:5], paths[6], str(film), "absent", paths[5], *settings,
             "--checkpoint", str(alone / "last.pth"), "--threshold", "0", "inference.batch_size=2",
             "--save-images", "out", "--sheet", "sheet.png", "--json", "lanes.json", "--tusimple", "answer.json"]
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    monkeypatch.chdir(one)
    assert inference_fixed.main(words) == 1
    printed = capsys.readouterr()
    done = torchrun(2, "inference_fixed.py", *words, cwd=two)
    assert done.returncode == 1
    assert done.stdout == printed.out and "Sample 12: Lane" in done.stdout
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert errors == [line for line in done.stderr.splitlines() if line.startswith("error: ")] and len(errors) == 2
    assert tree(one) == tree(two) and len(tree(two)) == 3 + 8


@pytest.mark.slow
@pytest.mark.process
def test_a_process_that_cannot_write_ends_all_and_leaves_nothing_half_written(settings, rendered, alone, tmp_path):
    paths = sorted((rendered / "clips").rglob("*.jpg"))[:4]
    (tmp_path / "out" / f"00003_{paths[2].name}").mkdir(parents=True)  # where the second process draws its first image
    done = torchrun(2, "inference_fixed.py", *paths, *settings, "--checkpoint", alone / "last.pth", "--json",
                    "lanes.json", "--save-images", "out", "inference.batch_size=2", cwd=tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    assert f"error in process 1: {Path('out') / f'00003_{paths[2].name}'}" in done.stderr
    assert "Connection closed" not in done.stderr, "the first process says no more than that the other has ended"
    assert set(tree(tmp_path)) == {f"out/{number:05}_{paths[0].name}" for number in (1, 2)}


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_batches_are_those_of_one_process_and_the_frames_have_its_numbers(monkeypatch, world):
    kinds = ["image"] * 7 + ["missing"] + ["image"] * 4 + ["missing", "missing", "image"]
    sources = [Source(str(i), i, kind, error="missing") for i, kind in enumerate(kinds, start=1)]
    here, all_there, sizes = threading.local(), threading.Barrier(world, timeout=60), [0] * world

    def total(value):
        sizes[here.rank] = value
        all_there.wait()
        whole = sum(sizes)
        all_there.wait()
        return whole

    def turns_of(rank):
        here.rank = rank
        turns = inputs.shard_batches(sources, lambda image: image, False, 2)
        return [(first, [int(frame.source.name) for frame in batch]) for first, batch in turns]

    monkeypatch.setattr(inputs, "read_image", lambda number: np.full((2, 2, 3), number, np.uint8))
    monkeypatch.setattr(distributed, "rank", lambda: here.rank)
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    monkeypatch.setattr(distributed, "all_reduce_sum", total)
    with ThreadPoolExecutor(world) as processes:
        by_rank = list(processes.map(turns_of, range(world)))
    looked_at = [(first, batch) for turn in zip(*by_rank, strict=True) for first, batch in turn if batch]
    assert [batch for _, batch in looked_at] == [[1, 2], [3, 4], [5, 6], [7], [8], [9, 10], [11, 12], [13, 14], [15]]
    assert all(first == batch[0] for first, batch in looked_at)


@pytest.mark.slow
@pytest.mark.process
def test_a_collapse_is_printed_and_written_before_the_other_process_ends(settings, alone, tmp_path):
    done = torchrun(2, "evaluate_fixed.py", *settings, "guard.min_diversity=1", "guard.min_sensitivity=1",
                    "guard.first_steps=0", "--metric", "culane", "--json", "scores.json", "--checkpoint",
                    alone / "last.pth", cwd=tmp_path)
    assert done.returncode != 0 and "\ncollapsing: " in done.stdout
    assert json.loads((tmp_path / "scores.json").read_text())["verdict"] == "collapsing"


@pytest.mark.slow
@pytest.mark.process
def test_a_loss_without_a_term_trains_in_two_processes_into_a_folder_of_any_name(settings, tmp_path):
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    done = torchrun(2, "train_fixed.py", *settings, "train.epochs=1", "loss.existence=0",
                    f"train.checkpoint_dir={folder}", cwd=tmp_path)
    assert (done.returncode, len(log(folder))) == (0, 1), done.stderr


@pytest.mark.slow
@pytest.mark.process
def test_processes_with_other_settings_end_in_one_line_before_the_first_step(settings, tmp_path):
    """As on two machines, each with a config.yaml of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    runs = []
    for rank, rate in enumerate((0.0002, 0.001)):
        words = [*settings, f"train.learning_rate={rate}", "train.checkpoint_dir=run"]
        environment = os.environ | place | {"RANK": str(rank), "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
        runs.append(subprocess.Popen([sys.executable, ROOT / "train_fixed.py", *words], cwd=tmp_path, text=True,
                                     env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for rank, run in enumerate(runs):
        out, err = run.communicate(timeout=120)
        assert (run.returncode, out) == (1, ""), err
        assert err.strip().splitlines()[-1] == (
            f"error in process {rank}: train.learning_rate is 0.001 in process 1 and 0.0002 in process 0; give all "
            "processes the same settings and the same data")
    assert not (tmp_path / "run" / "last.pth").exists()


@pytest.mark.slow
@pytest.mark.process
def test_an_error_of_one_process_ends_all_and_is_shown(settings, tmp_path):
    done = torchrun(2, "train_fixed.py", *settings, "train.checkpoint_dir=run", "data.root=nowhere", cwd=tmp_path)
    assert done.returncode != 0
    assert "error in process 0: nowhere: no such folder" in done.stderr


def test_alone_nothing_is_shared():
    rows = torch.arange(6.0).view(3, 2)
    assert (distributed.rank(), distributed.world_size(), distributed.progress_disabled()) == (0, 1, None)
    assert distributed.shard([1, 2, 3]) == [1, 2, 3] and torch.equal(distributed.shard(rows), rows)
    assert distributed.all_gather(rows, 3) is rows and distributed.all_reduce_mean(rows) is rows
    assert distributed.gather_to_main(["a", "b"]) == ["a", "b"]
    assert distributed.all_reduce_max(15) == distributed.all_reduce_sum(15) == 15 and distributed.broadcast("x") == "x"
    model = torch.nn.BatchNorm2d(3)
    assert distributed.wrap_ddp(model, torch.device("cpu")) is model
    assert type(distributed.sync_batch_norm(model, torch.device("cpu"))) is torch.nn.BatchNorm2d
