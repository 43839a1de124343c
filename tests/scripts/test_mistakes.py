"""Mistakes of the user, as one sees them: one line that names what is wrong, and a status for the shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT

import inference_fixed
import train_fixed
from config import ConfigError
from formats.base import DataError
from model import LaneNet
from renderer import dataset_writer
from runtime import cli

pytestmark = pytest.mark.usefixtures("elsewhere")


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


@pytest.mark.slow
@pytest.mark.process
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
        cli.run(lambda: train_fixed.main([*settings, "train.checkpoint_dir=run", "train.epochs=1", *arguments]))
    assert caught.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0]


@pytest.mark.parametrize(("words", "message"), [
    (["train.init_from=absent.pth"], "absent.pth: no checkpoint here"),
    (["train.init_from=foreign.pth"], "foreign.pth: not a checkpoint"),
    (["data.root=[data/synthetic, absent]"], "absent: no such folder")])
def test_what_a_training_starts_from_is_looked_at_before_anything_is_rendered(monkeypatch, words, message):
    torch.save({"a": 1}, "foreign.pth")
    monkeypatch.setattr(dataset_writer, "write_dataset", None)
    with pytest.raises(ValueError, match=message):
        train_fixed.main(["train.device=cpu", *words])


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "best_model.pth: no checkpoint here; make one with: python train_fixed.py, or take the one that comes with "
         "the repository: models/rendered_roads.pth"),
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
        cli.run(lambda: inference_fixed.main([*arguments, "train.device=cpu"]))
    assert words in one_line(caught.value.code, capsys.readouterr().err)


def test_no_model_is_built_before_the_settings_are_checked(settings, monkeypatch):
    def built(*_):
        raise AssertionError("too early")

    monkeypatch.setattr(LaneNet, "__init__", built)
    with pytest.raises(ConfigError, match=r"did you mean 'loss\.regression'"):
        train_fixed.main([*settings, "loss.regresion=1"])
    assert not Path("checkpoints_fixed").exists()


def test_a_split_that_leaves_nothing_to_validate_on_is_named(settings):
    with pytest.raises(ConfigError, match=r"data\.split=clip>=999999 leaves no image to validate on"):
        train_fixed.main([*settings, "data.split=clip>=999999", "train.checkpoint_dir=run"])


def test_a_split_that_leaves_nothing_to_train_on_is_named(settings):
    with pytest.raises(ConfigError, match=r"data\.split leaves no image of .* to train on"):
        train_fixed.main([*settings, "data.split=all", "train.checkpoint_dir=run"])


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
