"""Checkpoints of the uncertainty-weighted loss, whose models collapsed: refused by what they show of it."""

import zipfile

import numpy as np
import pytest
import torch

from config import load_config
from runtime import checkpoint
from runtime.checkpoint import CheckpointError, load_checkpoint, save_checkpoint


def refusal(path, *arguments):
    """The message with which load_checkpoint refuses a file: one line that begins with the path."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, *arguments)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("content", "evidence"), [
    ({"model_state_dict": {"backbone.weight": torch.zeros(1)}, "criterion": {"log_var_reg": torch.zeros(1)}},
     "log_var_reg"),
    ({"loss.log_var_existence": torch.zeros(1)}, "log_var_existence"),
    ({"model": {"criterion.log_vars": torch.zeros(3)}}, "log_vars"),
    ({"model": {"criterion.log_vars.0": torch.zeros(3)}}, "log_vars.0"),
    ({"train_losses": [0.4, -0.1, -2.47]}, "train_losses' is -0.1, below zero"),
    ({"log_sigma": torch.zeros(1)}, "log_sigma"),
    ({"epoch": 3, "val_loss": -2.47, "model": {}}, "-2.47"),
    ({"metrics": {"val_loss": -2.47}}, "-2.47"), ({"val_loss": -0.01}, "-0.01"),
    ({"format": checkpoint.FORMAT, "version": 1, "best_val_loss": -2.47}, "-2.47"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_the_collapsed_checkpoint_is_refused_by_its_evidence(tmp_path, content, evidence):
    path = tmp_path / "best_model.pth"
    torch.save(content, path)
    message = refusal(path)
    assert evidence in message
    assert "uncertainty-weighted loss" in message and "python train_fixed.py" in message


@pytest.mark.parametrize(("purpose", "words"), [
    ("used", "cannot be used here"),
    ("resumed", "cannot be resumed here"),
    ("started from", "cannot be started from here"),
])
def test_the_refusal_names_the_purpose(tmp_path, purpose, words):
    torch.save({"val_loss": -2.47}, tmp_path / "m.pth")
    assert words in refusal(tmp_path / "m.pth", purpose)


def test_our_own_checkpoints_show_no_such_evidence(tmp_path):
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, load_config(None), model={"layer.weight": torch.zeros(2)}, scores={"val_loss": 0.5})
    assert checkpoint.uncertainty_weighting_evidence(torch.load(path, weights_only=True)) == ""
    assert checkpoint.uncertainty_weighting_evidence({"val_loss": 0.0, "loss": {"existence": 1.0}}) == ""
    assert checkpoint.uncertainty_weighting_evidence({"val_loss": float("nan"), "existence": -1}) == ""


def test_a_compressed_file_is_not_unpacked_to_look_for_names(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(1_000_000))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    assert "compressed, which ours never are" in refusal(tmp_path / "bomb.pth")


def test_an_old_checkpoint_with_objects_in_it_is_known_by_the_names_in_it(tmp_path):
    """np.mean of losses is a NumPy scalar, which PyTorch does not load with weights_only."""
    torch.save({"criterion": {"log_vars": torch.zeros(3)}, "val_loss": np.float64(-2.47)}, tmp_path / "old.pth")
    assert "it contains 'log_vars': this comes from the uncertainty-weighted loss" in refusal(tmp_path / "old.pth")
    torch.save({"weights": torch.zeros(3), "val_loss": np.float64(0.5)}, tmp_path / "other.pth")
    assert "(it holds more than tensors and plain values)" in refusal(tmp_path / "other.pth")
