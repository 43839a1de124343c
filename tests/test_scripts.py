"""The scripts end to end on 32 small rendered scenes: training, resuming, refusing, and printing lanes."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import checkpoints
import inference_fixed
import runtime
import train_fixed
from bezier import canonical
from checkpoints import CheckpointError
from config import ConfigError, LossConfig
from formats import DataError
from lanes import RowWise
from learner import Progress
from losses_fixed import LossTerms
from model import LaneNet, LanePrediction, column_centres
from train_fixed import TrainingError

ROOT = Path(__file__).parent.parent
SHORT = ["model.width=160", "model.height=96", "train.batch_size=4", "train.device=cpu", "train.precision=fp32",
         "data.workers=0", "train.ema=0.5", "guard.min_diversity=0.001"]  # models of a dozen steps are kept
KEYS = {"epoch", "train_loss", "regression", "existence", "curvature", "val_loss", "accuracy", "f1", "error_px",
        "constant_error_px", "diversity"}
CLOCK = ("seconds", "images_per_second")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, so that no default path meets the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def settings(rendered, tmp_path_factory):
    """Overrides that train fast on the rendered scenes, all runs with one cache."""
    return [*SHORT, f"data.root={rendered}", f"data.cache_dir={tmp_path_factory.mktemp('pixels')}"]


@pytest.fixture(scope="session")
def trained(settings, tmp_path_factory):
    """The checkpoint folder of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    assert train_fixed.main([*settings, "train.epochs=2", f"train.checkpoint_dir={folder}"]) == 0
    return folder


def log(folder):
    """The records of log.jsonl without what the clock says."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in CLOCK} for record in records]


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """Send ourselves a signal in the given step of training; the run then ends with it."""
    original, calls = train_fixed.nearer_count, []

    def counted(*arguments):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return original(*arguments)

    monkeypatch.setattr(train_fixed, "nearer_count", counted)


# Training ----------------------------------------------------------------------------------------------------


def test_training_writes_its_log_and_checkpoints(trained):
    records = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    for record in records:
        assert record.keys() >= KEYS
        assert all(record[k] is not None and record[k] >= 0 for k in KEYS)
        assert 0 <= record["accuracy"] <= 1 and 0 <= record["f1"] <= 1
    assert records[1]["train_loss"] < records[0]["train_loss"]
    first, second = (record["constant_error_px"] for record in records)
    assert first == second
    assert first > 10
    assert {p.name for p in trained.iterdir()} == {"log.jsonl", "best_model.pth", "last.pth", "training_curve.png",
                                                   "validation.jpg"}


def test_lanes_that_begin_in_the_sky_are_counted(settings, capsys):
    for sky, hides in ((0.1, False), (0.6, True)):
        assert train_fixed.main([*settings, "train.epochs=1", f"model.sky={sky}", "train.checkpoint_dir=run"]) == 0
        assert (f"begin in what model.sky={sky} hides" in capsys.readouterr().out) == hides


def test_the_train_loss_is_the_weighted_sum_of_its_terms(trained):
    for record in log(trained):
        total = sum(weight * record[name] for name, weight in vars(LossConfig()).items())
        assert record["train_loss"] == pytest.approx(total, rel=1e-4)


def test_which_of_two_epochs_is_the_better_one():
    def quality(f1, accuracy, error_px, images=300):
        return train_fixed.quality({"f1": f1, "accuracy": accuracy, "error_px": error_px}, images)

    assert quality(0.93, 0.94, 12.0) > quality(0.91, 0.94, 8.0)  # F1 decides
    assert quality(0.913, 0.94, 8.0) > quality(0.914, 0.94, 9.0)  # where it says the same, the error does
    assert quality(0.60, 0.70, 30.0) > quality(0.67, 0.30, 20.0)  # nothing found has an F1 of 0.67
    assert quality(0.914, 0.94, 9.0, 10_000) > quality(0.911, 0.94, 8.0, 10_000)  # more images tell more
    assert quality(0.914, 0.94, math.nan) > quality(0.911, 0.94, math.nan)  # no lanes in any of them
    assert quality(0.01, 0.10, 200.0) > Progress().best


def test_the_best_model_is_the_averaged_one_and_can_be_used_alone(trained):
    model, config, payload = checkpoints.load_model(trained / "best_model.pth", torch.device("cpu"))
    assert config.model.width == 160
    assert payload["scores"]["epoch"] in (1, 2)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 96, 160, dtype=torch.uint8)).points.isfinite().all()
    assert not same_weights(trained / "best_model.pth", trained / "last.pth")


def test_the_same_seed_gives_the_same_log(settings, trained, tmp_path):
    train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=again"])
    assert log(tmp_path / "again") == log(trained)
    assert same_weights(tmp_path / "again" / "last.pth", trained / "last.pth")


@pytest.mark.parametrize("setting", ["data.on_device=true", "train.compile=true"])
def test_what_is_for_speed_gives_the_same_log(settings, trained, tmp_path, monkeypatch, setting):
    """Without a compiler: what is traced runs as it stands, in one piece, or fails."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=again", setting])
    assert log(tmp_path / "again") == log(trained)


def test_another_seed_gives_another_log(settings, trained):
    train_fixed.main([*settings, "train.epochs=1", "train.seed=1", "train.checkpoint_dir=other",
                      "guard.min_diversity=0"])
    assert log(Path("other"))[0] != log(trained)[0]


def test_output_is_one_line_an_epoch(settings, capsys):
    train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"])
    lines = capsys.readouterr().out.splitlines()
    assert "24 images to train on, 8 to validate on" in lines[0]
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 1
    assert re.match(r"epoch +1/1 +loss \d+\.\d+ \(regression .* existence .* curvature .*accuracy .*F1 .*px", epochs[0])
    assert "best_model.pth" in lines[-1]


# Resuming ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 6, 8], ids=["first step", "mid-epoch", "last step", "second epoch"])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(settings, trained, monkeypatch, capsys, step):
    run = [*settings, "train.epochs=2", "train.checkpoint_dir=run"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        assert train_fixed.main(run) == 130
    epoch = 1 if step <= 6 else 2
    said = capsys.readouterr()
    assert f"interrupted in epoch {epoch} after step {step - 6 * (epoch - 1)}" in said.err and "--resume" in said.err
    assert Path("run/last.pth").is_file()
    assert train_fixed.main([*run, "--resume"]) == 0
    assert log(Path("run")) == log(trained)
    assert same_weights("run/last.pth", trained / "last.pth")
    assert same_weights("run/best_model.pth", trained / "best_model.pth")


def test_a_terminated_run_finishes_its_step_too(settings, monkeypatch, capsys):
    run = [*settings, "train.epochs=1", "train.checkpoint_dir=run"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGTERM)
        assert train_fixed.main(run) == 143
    assert "interrupted in epoch 1 after step 2" in capsys.readouterr().err
    assert checkpoints.load_checkpoint("run/last.pth")["progress"]["step"] == 2


def test_a_run_may_be_interrupted_again_and_again(settings, trained, monkeypatch):
    run = [*settings, "train.epochs=2", "train.checkpoint_dir=run"]
    for attempt in range(4):
        with monkeypatch.context() as patch:
            interrupt_at(patch, 1)
            status = train_fixed.main([*run, "--resume"] if attempt else run)
        assert status == 130
    assert train_fixed.main([*run, "--resume"]) == 0
    assert log(Path("run")) == log(trained)


def test_a_finished_run_has_nothing_to_resume(settings, trained):
    shutil.copytree(trained, "run")
    before = Path("run/log.jsonl").read_text()
    assert train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run", "--resume"]) == 0
    assert Path("run/log.jsonl").read_text() == before


@pytest.mark.parametrize("change", ["train.seed=1", "train.batch_size=8", "loss.curvature=0.2", "augment.flip=0",
                                    "train.epochs=3", "model.slots=4", "train.learning_rate=0.001"])
def test_changed_settings_are_not_resumed(settings, trained, change):
    shutil.copytree(trained, "run")
    name, _, value = change.partition("=")
    with pytest.raises(CheckpointError, match=rf"{name}=.*now it is {re.escape(value)}") as caught:
        train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run", change, "--resume"])
    assert "\n" not in str(caught.value)


def test_settings_of_the_machine_may_change_on_resuming(settings, monkeypatch):
    run = [*settings, "train.epochs=1", "train.checkpoint_dir=run"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert train_fixed.main(run) == 130
    assert train_fixed.main([*run, "data.cache=false", "guard.patience=9", "--resume"]) == 0


def test_the_uncertainty_weighted_checkpoint_is_neither_resumed_nor_started_from(settings):
    Path("run").mkdir()
    payload = {"model_state_dict": {"w": torch.zeros(1)}, "criterion": {"log_var_reg": torch.zeros(1)},
               "val_loss": -2.47}
    torch.save(payload, "run/last.pth")
    for extra in (["--resume"], ["train.init_from=run/last.pth"]):
        with pytest.raises(CheckpointError, match=r"run/last\.pth: .*uncertainty-weighted.*train afresh"):
            train_fixed.main([*settings, "train.checkpoint_dir=run", *extra])
    assert {p.name for p in Path("run").iterdir()} == {"last.pth"}


def test_a_model_without_a_run_is_not_resumed(settings, trained):
    Path("run").mkdir()
    shutil.copy(trained / "best_model.pth", "run/last.pth")
    with pytest.raises(CheckpointError, match=r"train\.init_from="):
        train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run", "--resume"])


def test_resuming_without_a_run_says_so(settings):
    with pytest.raises(CheckpointError, match=r"run/last\.pth: no checkpoint here"):
        train_fixed.main([*settings, "train.checkpoint_dir=run", "--resume"])


# Starting from a model, and keeping the earlier one -----------------------------------------------------------


def test_a_run_may_start_from_a_model_and_keeps_the_earlier_best(settings, trained):
    shutil.copytree(trained, "run")
    # A learning rate of nothing: the weights stay what they were started from.
    train_fixed.main([*settings, "train.epochs=1", "train.learning_rate=0", "train.checkpoint_dir=run",
                      f"train.init_from={trained / 'best_model.pth'}"])
    assert same_weights("run/earlier-1/best_model.pth", trained / "best_model.pth")
    assert log(Path("run/earlier-1")) == log(trained)
    before, after = weights(trained / "best_model.pth"), weights("run/last.pth")
    learned = [k for k in before if "running" not in k and "num_batches" not in k]
    assert len(learned) > 50
    assert all(torch.equal(before[k], after[k]) for k in learned)


def test_a_start_that_does_not_fit_is_refused(settings, trained):
    with pytest.raises(CheckpointError, match=r"best_model\.pth: its weights do not fit"):
        train_fixed.main([*settings, "model.slots=4", "train.checkpoint_dir=run",
                          f"train.init_from={trained / 'best_model.pth'}"])


# Runs that must not go on ------------------------------------------------------------------------------------


class Constant(nn.Module):
    """Answers the same lanes whatever the image shows; `value` is added to its logits."""

    def __init__(self, value=0.0):
        super().__init__()
        self.x = nn.Parameter(torch.linspace(0.1, 0.9, 6)[:, None].repeat(1, 6))
        self.logits = nn.Parameter(torch.full((6,), value))

    def forward(self, images, with_rows=False):
        count = len(images)
        points = canonical(self.x, torch.full((6,), 0.4), torch.full((6,), 0.9)).expand(count, -1, -1, -1)
        prediction = LanePrediction(points, self.logits.expand(count, -1))
        rows = RowWise(torch.zeros(count, 6, 12, 44), torch.zeros(count, 6, 12), column_centres(44, images.device),
                       (torch.arange(12) + 0.5) / 12)
        return (prediction, rows) if with_rows else prediction


def test_a_collapsed_model_stops_the_run_and_is_never_the_best(settings, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "build_model", lambda *_, **__: Constant())
    with pytest.raises(TrainingError, match="stopped after 2 epochs in a row of collapsing: the same lanes") as caught:
        train_fixed.main([*settings, "train.epochs=5", "guard.patience=2", "guard.first_steps=0",
                          "train.checkpoint_dir=run"])
    assert "\n" not in str(caught.value)
    assert not Path("run/best_model.pth").exists()
    assert [r["verdict"] for r in log(Path("run"))] == ["collapsing"] * 2
    assert log(Path("run"))[1]["diversity"] < 1e-6
    assert capsys.readouterr().out.count("collapsing") == 2


def test_a_run_that_ends_collapsed_before_the_guards_patience_does_not_praise_a_model(settings, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "build_model", lambda *_, **__: Constant())
    try:
        status = train_fixed.main([*settings, "train.epochs=1", "guard.patience=3", "train.checkpoint_dir=run"])
    except TrainingError:
        status = 1
    assert status != 0
    assert not Path("run/best_model.pth").exists()
    assert "best F1" not in capsys.readouterr().out


def test_a_loss_that_is_not_a_number_stops_the_run_with_every_term_named(settings, monkeypatch):
    monkeypatch.setattr(checkpoints, "build_model", lambda *_, **__: Constant(math.nan))
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step \d+: ") as caught:
        train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run"])
    message = str(caught.value)
    for name in ("total nan", "regression ", "existence nan", "curvature "):
        assert name in message
    assert "train.learning_rate" in message and "\n" not in message
    assert [path.name for path in Path("run").iterdir()] == ["last.pth"]
    assert checkpoints.load_checkpoint("run/last.pth")["progress"]["step"] == 0, "the state before the first step"


def test_a_negative_loss_stops_the_run(monkeypatch):
    values = dict.fromkeys(LossTerms._fields, 0.2) | {"total": -0.1}
    terms = LossTerms(**{name: torch.tensor(value) for name, value in values.items()})
    with pytest.raises(TrainingError, match=r"epoch 3, step 7: total -0\.1, regression 0\.2"):
        train_fixed.refuse_impossible(terms, 3, 7)


def test_a_last_checkpoint_that_cannot_be_written_ends_the_run_in_one_line(settings, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"])
    assert not list(Path("run").glob("*.tmp"))


# Data --------------------------------------------------------------------------------------------------------


def own_images(root, sizes):
    """A folder of one's own: X.jpg beside X.lines.txt, an image for each of the sizes."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(sizes):
        image = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
        lines = []
        for near in (0.2 + 0.02 * i, 0.75 - 0.02 * i):
            far = (int(width / 2), int(height * 0.4))
            cv2.line(image, far, (int(near * width), height - 1), (255, 255, 255), max(2, width // 100))
            steps = np.linspace(0, 1, 12)[::-1]  # from the bottom up, as CULane has it
            points = [(far[0] + t * (near * width - far[0]), far[1] + t * (height - 1 - far[1])) for t in steps]
            lines.append(" ".join(f"{x:.1f} {y:.1f}" for x, y in points))
        cv2.imwrite(str(root / f"{i:02}.jpg"), image)
        (root / f"{i:02}.lines.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("cached", ["true", "false"])
def test_images_of_mixed_sizes_train_together(tmp_path, cached, capsys):
    root = own_images(tmp_path / "own", [(320, 180), (640, 360), (200, 300), (160, 96), (333, 77), (100, 60)] * 2)
    status = train_fixed.main([*SHORT, f"data.root={root}", "data.split='0.25'", f"data.cache={cached}",
                               "train.epochs=1", "data.cache_dir=pixels", "train.checkpoint_dir=run",
                               "guard.min_diversity=0"])  # nine images and one epoch teach it nothing yet
    assert status == 0
    said = capsys.readouterr().out
    assert "9 images to train on, 3 to validate on" in said
    assert "images do not fit" not in said, "every lane of these labels is usable"
    assert log(Path("run"))[0]["error_px"] < 1280


def test_several_roots_are_shared_out_by_weight(tmp_path, settings, capsys):
    root = own_images(tmp_path / "own", [(320, 180)] * 6)
    first = next(s for s in settings if s.startswith("data.root="))
    train_fixed.main([*settings, f"data.root=[{first.removeprefix('data.root=')}, {root}]", "data.weights=[0.5, 0.5]",
                      "train.epochs=1", "train.checkpoint_dir=run"])
    assert "29 images to train on, 1 to validate on" in capsys.readouterr().out


def test_a_split_that_leaves_nothing_to_validate_on_is_named(settings):
    with pytest.raises((ConfigError, DataError, ValueError), match=r"data\.split.*validate"):
        train_fixed.main([*settings, "data.split=clip>=999999", "train.checkpoint_dir=run"])


def test_a_split_that_leaves_nothing_to_train_on_is_named(settings):
    with pytest.raises(ConfigError, match=r"data\.split leaves no image of .* to train on"):
        train_fixed.main([*settings, "data.split=all", "train.checkpoint_dir=run"])


def test_a_fraction_may_be_written_without_quotes(settings, capsys):
    train_fixed.main([*settings, "data.split=0.25", "train.epochs=1", "train.checkpoint_dir=run"])
    assert "24 images to train on, 8 to validate on" in capsys.readouterr().out


def test_a_broken_image_or_a_missing_one_is_named(settings, rendered, tmp_path):
    shutil.copytree(rendered, "data")
    run = [*settings, "data.root=data", "data.cache_dir=other", "train.epochs=1", "train.checkpoint_dir=run"]
    image = sorted(Path("data").rglob("*.jpg"))[5]
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{image}: "):
        train_fixed.main(run)
    image.unlink()
    with pytest.raises(DataError, match=rf"label_data_train\.json:6: .*{image.parent.name}"):
        train_fixed.main(run)


# Mistakes of the user, as one sees them ----------------------------------------------------------------------


def script(name, *arguments):
    """Run a script as its own process; returns its status and stderr, without progress bars."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(ROOT / name), *arguments], capture_output=True, text=True,
                          env=environment, timeout=120)
    return done.returncode, done.stderr


def one_line(status, errors):
    assert status == 1
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors
    return errors


def test_mistakes_are_one_line_and_a_status_for_the_shell():
    assert "no such folder" in one_line(*script("train_fixed.py", "data.root=absent"))
    assert "python train_fixed.py" in one_line(*script("inference_fixed.py"))


@pytest.mark.parametrize(("arguments", "words"), [
    (["data.root=absent"], "absent: no such folder; set data.root"),
    (["data.root=empty"], "empty: no known layout"),
    (["train.epoch=3"], "unknown key 'train.epoch'; did you mean 'train.epochs'"),
    (["trian.epochs=3"], "did you mean 'train'"),
    (["train.learning_rate=fast"], r"train.learning_rate is 'fast'"),
    (["--config", "absent.yaml"], "absent.yaml: no such configuration file"),
    (["epochs=3"], "'epochs=3' is not an override"),
    (["loss.regression=-1"], "loss.regression"),
    (["train.checkpoint_dir=file"], "file: checkpoints cannot be written here"),
    (["train.checkpoint_dir=file/below"], "file/below: checkpoints cannot be written here"),
    (["model.pretrained=true"], "no weights for 'compact'"),
    (["data.weights=[1, 2]"], "data.weights"),
    (["data.split=[auto, auto]"], "data.split has 2 entries for 1 roots"),
    (["data.split=nonsense"], "data.split is 'nonsense'"),
    (["train.init_from=absent.pth"], "absent.pth: no checkpoint here"),
    (["data.cache_dir=file"], "file: the cache cannot be written"),
], ids=lambda v: v[-1] if isinstance(v, list) else "")
def test_each_mistake_is_named_in_one_line(settings, capsys, arguments, words):
    Path("empty").mkdir()
    Path("file").write_text("not a folder")
    with pytest.raises(SystemExit) as caught:
        runtime.run(lambda: train_fixed.main([*settings, "train.checkpoint_dir=run", "train.epochs=1", *arguments]))
    assert caught.value.code == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and words in said[0]


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "best_model.pth: no checkpoint here; make one with: python train_fixed.py"),
    (["--checkpoint", "foreign.pth"], "foreign.pth: not a checkpoint of train_fixed.py"),
    (["--checkpoint", "GOOD", "absent.jpg"], "absent.jpg: no such image or folder"),
    (["--checkpoint", "GOOD", "empty"], "empty: no image in this folder"),
    (["--checkpoint", "GOOD", "inference.treshold=1"], "did you mean 'inference.threshold'"),
    (["--checkpoint", "GOOD", "text.jpg"], "text.jpg: not an image"),
], ids=["no checkpoint", "foreign", "no image", "empty", "key", "text"])
def test_each_mistake_of_inference_is_named_in_one_line(trained, capsys, arguments, words):
    Path("empty").mkdir()
    Path("text.jpg").write_text("text")
    torch.save({"a": 1}, "foreign.pth")
    arguments = [str(trained / "best_model.pth") if a == "GOOD" else a for a in arguments]
    with pytest.raises(SystemExit) as caught:
        runtime.run(lambda: inference_fixed.main([*arguments, "train.device=cpu"]))
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and words in said


def test_no_model_is_built_before_the_settings_are_checked(settings, monkeypatch):
    def built(*_):
        raise AssertionError("too early")

    monkeypatch.setattr(LaneNet, "__init__", built)
    with pytest.raises(ConfigError):
        train_fixed.main([*settings, "loss.regresion=1"])
    assert not Path("checkpoints_fixed").exists()
