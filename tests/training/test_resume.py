"""Going on: a run interrupted and resumed equals one that was not, a model may be a start, and the rest is refused."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from trainings import log, same_weights, signal_in_step, weights

import train_fixed
from config import ConfigError, load_config
from runtime import checkpoint
from runtime.checkpoint import CheckpointError
from training.run_dir import TrainingError
from training.schedule import Schedule, learning_rate_factors
from training.state import build_model

pytestmark = pytest.mark.usefixtures("elsewhere")


# Resuming ----------------------------------------------------------------------------------------------------


def test_a_run_interrupted_again_and_again_equals_an_uninterrupted_one(settings, trained, capsys):
    """In its first step, between two, in the last one of an epoch, and in the epoch after that.

    By either signal; each finishes its step. Settings of the machine may change on resuming.
    """
    run = [*settings, "train.epochs=2", "train.checkpoint_dir=run"]
    for steps, number, epoch, step in ((1, signal.SIGINT, 1, 1), (1, signal.SIGTERM, 1, 2), (1, signal.SIGINT, 1, 3),
                                       (2, signal.SIGTERM, 2, 2)):
        with signal_in_step(steps, number):
            assert train_fixed.main([*run, "--resume"] if Path("run/last.pth").exists() else run) == 128 + number
        errors = capsys.readouterr().err
        assert f"interrupted in epoch {epoch} after step {step};" in errors and "--resume" in errors
        progress = checkpoint.load_checkpoint("run/last.pth")["progress"]
        assert (progress["epoch"], progress["step"]) == (epoch, step)
    assert train_fixed.main([*run, "data.cache=false", "guard.patience=9", "--resume"]) == 0
    assert log(Path("run")) == log(trained)
    assert same_weights("run/last.pth", trained / "last.pth")
    assert same_weights("run/best_model.pth", trained / "best_model.pth")


def test_other_labels_are_not_resumed(rendered, settings):
    shutil.copytree(rendered, "roads")
    run = [*settings, "data.root=roads", "train.epochs=2", "train.checkpoint_dir=run"]
    with signal_in_step(1):
        assert train_fixed.main(run) == 130
    labels = Path("roads/label_data_val.json")
    lines = labels.read_text().splitlines(keepends=True)
    labels.write_text("".join([json.dumps(json.loads(lines[0]) | {"lanes": []}) + "\n", *lines[1:]]))
    with pytest.raises(TrainingError, match="images or labels are not those of the interrupted run"):
        train_fixed.main([*run, "--resume"])


def test_a_finished_run_has_nothing_to_resume(settings, trained):
    shutil.copytree(trained, "run")
    before = Path("run/log.jsonl").read_text()
    assert train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run", "--resume"]) == 0
    assert Path("run/log.jsonl").read_text() == before


@pytest.mark.parametrize("change", ["train.seed=1", "train.batch_size=4", "loss.curvature=0.2", "augment.flip=0",
                                    "model.slots=4", "train.learning_rate=0.001"])
def test_changed_settings_are_not_resumed(settings, trained, change):
    shutil.copytree(trained, "run")
    name, _, value = change.partition("=")
    with pytest.raises(CheckpointError, match=rf"{name}=.*now it is {re.escape(value)}") as caught:
        train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run", change, "--resume"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"with train.init_from={Path('run/best_model.pth')}")


def test_a_finished_run_may_be_made_longer(settings, trained, monkeypatch):
    """It goes on with the learning rates of the longer run, from the step that it was at."""
    shutil.copytree(trained, "run")
    factors, advance = [], Schedule.advance

    def recorded(self):
        factor, weight = advance(self)
        factors.append(float(factor))
        return factor, weight

    monkeypatch.setattr(Schedule, "advance", recorded)
    longer = [*settings, "train.epochs=3", "train.checkpoint_dir=run", "--resume"]
    assert train_fixed.main(longer) == 0
    assert log(Path("run"))[:2] == log(trained) and len(log(Path("run"))) == 3
    expected = learning_rate_factors(9, load_config(None, settings).train.warmup)[6:9]
    torch.testing.assert_close(torch.tensor(factors), expected.float())
    assert train_fixed.main(longer) == 0 and len(factors) == 3, "and is finished again"


def test_a_run_is_not_made_shorter(settings, trained):
    shutil.copytree(trained, "run")
    with pytest.raises(CheckpointError, match=r"train\.epochs=2, now it is 1: a run can be made longer, not shorter"):
        train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run", "--resume"])


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
    with pytest.raises(CheckpointError, match=r"run/last\.pth: no interrupted run here to resume; leave out --resume"):
        train_fixed.main([*settings, "train.checkpoint_dir=run", "--resume"])


# What the version before wrote ---------------------------------------------------------------------------------

OLD_NAMES = {("train", "optimizer"): "optimiser", ("augment", "color"): "colour", ("model", "cut_top"): "sky"}
OLD_STATES = {  # of last.pth: a state, and what the versions called it
    6: {"ema": "average", "optimizer": "optimiser", "schedule": "schedule"},
    7: {"ema": "ema", "optimizer": "optimizer", "schedule": "lr_scheduler"}}


def write_as_version(version, source, target):
    """A checkpoint under the keys that an earlier version had."""
    payload = torch.load(source, weights_only=True)
    for (section, name), old in OLD_NAMES.items():
        settings = payload["config"][section]
        if version == 6:
            settings[old] = settings.pop(name)
    del payload["config"]["train"]["cuda_graph"]
    payload = {OLD_STATES[version].get(name, name): value for name, value in payload.items()}
    torch.save(payload | {"version": version}, target)


@pytest.mark.parametrize("version", [6, 7])
def test_a_run_of_an_earlier_version_is_not_resumed_and_stays_as_it_was(settings, trained, version):
    Path("run").mkdir()
    write_as_version(version, trained / "last.pth", "run/last.pth")
    before = Path("run/last.pth").read_bytes()
    with pytest.raises(CheckpointError, match=r"^run/last\.pth: the interrupted run is of an earlier version; "
                                              r"finish it .*train\.init_from=run/last\.pth$") as caught:
        train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run", "--resume"])
    assert "\n" not in str(caught.value)
    assert Path("run/last.pth").read_bytes() == before and len(list(Path("run").iterdir())) == 1


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("name", ["best_model.pth", "last.pth"])
def test_a_run_may_start_from_a_model_of_an_earlier_version(settings, trained, name, version):
    write_as_version(version, trained / name, "old.pth")
    config = load_config(None, [*settings, "train.init_from=old.pth"])
    started, saved = build_model(config, torch.device("cpu"), False).state_dict(), torch.load("old.pth")
    prefix, expected = ("module.", saved["ema"]) if "ema" in saved else ("", saved["model"])  # 6 named it otherwise
    assert all(torch.equal(value, expected[prefix + name]) for name, value in started.items())


def test_a_run_that_starts_from_an_interrupted_one_takes_the_average_that_was_validated(settings, trained):
    config, last = load_config(None, [*settings, f"train.init_from={trained / 'last.pth'}"]), trained / "last.pth"
    started = build_model(config, torch.device("cpu"), False).state_dict()
    average = checkpoint.load_model(last, torch.device("cpu"))[0].state_dict()
    assert all(torch.equal(started[name], average[name]) for name in average)
    assert not all(torch.equal(started[name], value) for name, value in weights(last).items())


# Starting from a model, and keeping the earlier one -----------------------------------------------------------


def test_a_run_may_start_from_a_model_and_keeps_the_earlier_best(settings, trained):
    """With a learning rate of 0 it ends with the weights that it started from."""
    shutil.copytree(trained, "run")
    best = trained / "best_model.pth"
    assert train_fixed.main([*settings, "train.epochs=1", "train.learning_rate=0", "train.checkpoint_dir=run",
                             f"train.init_from={best}", "guard.min_diversity=0"]) == 0
    before, after = weights(best), weights("run/last.pth")
    learned = [k for k in before if "running" not in k and "num_batches" not in k]
    assert len(learned) > 50
    assert all(torch.equal(before[k], after[k]) for k in learned)
    assert same_weights("run/earlier-1/best_model.pth", trained / "best_model.pth")
    assert log(Path("run/earlier-1")) == log(trained)


def test_a_share_of_the_start_stays_in_the_model_that_is_saved(settings, trained):
    """What is trained is the same with and without it."""
    start = trained / "best_model.pth"
    words = [*settings, "train.learning_rate=0.0001", f"train.init_from={start}", "guard.min_diversity=0"]
    assert train_fixed.main([*words, "train.epochs=2", "train.checkpoint_dir=plain"]) == 0
    words += ["train.init_share=0.25", "train.checkpoint_dir=run"]
    assert train_fixed.main([*words, "train.epochs=2"]) == 0
    before, plain, shared = (torch.load(path, weights_only=True) for path in (start, "plain/last.pth", "run/last.pth"))
    assert all(torch.equal(plain["model"][k], shared["model"][k]) for k in plain["model"])
    saved = {k.removeprefix("module."): v for k, v in shared["ema"].items() if k.startswith("module.")}
    moved = 0
    for name, value in before["model"].items():
        if value.is_floating_point():
            mean = plain["ema"][f"module.{name}"]
            torch.testing.assert_close(saved[name], 0.25 * value + 0.75 * mean, rtol=1e-4, atol=1e-6)
            moved += not torch.allclose(saved[name], mean)
    assert moved > 50
    assert weights("run/best_model.pth").keys() == before["model"].keys()
    with pytest.raises(CheckpointError, match=r"had train\.init_share=0\.25, now it is 0\.0"):
        train_fixed.main([*words[:-2], "train.checkpoint_dir=run", "train.epochs=2", "--resume"])


def test_a_share_needs_a_start(settings):
    with pytest.raises(ConfigError, match=r"train\.init_share is 0\.5, but .* name one with train\.init_from"):
        train_fixed.main([*settings, "data.root=absent", "train.init_share=0.5", "train.checkpoint_dir=run"])


def test_a_start_that_does_not_fit_is_refused(settings, trained):
    with pytest.raises(CheckpointError, match=r"best_model\.pth: its weights do not fit this network: it has "
                                              r"model\.slots=6, now 4; give the same settings"):
        train_fixed.main([*settings, "model.slots=4", "train.checkpoint_dir=run",
                          f"train.init_from={trained / 'best_model.pth'}"])
