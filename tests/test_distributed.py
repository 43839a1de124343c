"""Several processes give what one gives: two started by torchrun on the CPU, over gloo."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import distributed
import train_fixed

ROOT = Path(__file__).parent.parent
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


def test_two_processes_have_the_gradients_and_statistics_of_one():
    done = torchrun(2, "tests/two_gradients.py", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"2 processes, worst difference (\S+)\n", done.stdout)
    assert float(found[1]) < 1e-4


def test_two_processes_train_as_one_does(alone, together):
    """Adam makes full steps of what is rounding error in a gradient near 0, hence one percent and not one digit."""
    one, two = log(alone), log(together[0])
    assert [r["epoch"] for r in two] == [1, 2]
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {*CLOCK, *COUNTED, "verdict", "epoch", "steps"}:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-2, abs=1e-2), name
        assert theirs["verdict"] == mine["verdict"]


def test_rank_0_alone_prints(together):
    assert together[1].count("epoch   1/2") == together[1].count("epoch   2/2") == 1
    assert together[1].count("the best model") == 1


def test_two_processes_score_as_one_does(settings, alone, tmp_path):
    words = [*settings, "--checkpoint", alone / "last.pth"]
    for name, processes in (("one.json", 1), ("two.json", 2)):
        done = torchrun(processes, "evaluate_fixed.py", *words, "--json", name, cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout.count("TuSimple metric") == 1
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert one.pop("verdict") == two.pop("verdict")
    assert one == pytest.approx(two, rel=1e-5, abs=1e-6, nan_ok=True)


def test_an_error_of_one_process_ends_all_and_is_shown(settings, tmp_path):
    done = torchrun(2, "train_fixed.py", *settings, "train.checkpoint_dir=run", "data.root=nowhere", cwd=tmp_path)
    assert done.returncode != 0
    assert "error in process 0: nowhere: no such folder" in done.stderr


def test_alone_nothing_is_shared():
    rows = torch.arange(6.0).view(3, 2)
    assert (distributed.rank(), distributed.world(), distributed.silent()) == (0, 1, None)
    assert distributed.share([1, 2, 3]) == [1, 2, 3] and torch.equal(distributed.share(rows), rows)
    assert distributed.gathered(rows, 3) is rows and distributed.mean(rows) is rows
    assert distributed.gathered_objects(["a", "b"], 2) == ["a", "b"]
    assert distributed.largest(15) == 15 and distributed.from_first("x") == "x"
    model = torch.nn.BatchNorm2d(3)
    assert distributed.shared(model, torch.device("cpu")) is model
    assert type(distributed.with_shared_statistics(model, torch.device("cpu"))) is torch.nn.BatchNorm2d
