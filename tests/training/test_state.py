"""What training changes: schedule, groups of the optimizer, what is saved, what a resumed run may change."""

import dataclasses

import pytest
import torch

from config import CameraConfig, Config, ModelConfig, TrainConfig
from runtime import checkpoint
from runtime.checkpoint import CheckpointError
from training.optimizer import BETAS
from training.state import (
    MAY_CHANGE,
    TrainProgress,
    build_optimizer,
    build_state,
    load_last,
    restore,
    to_payload,
)

CPU = torch.device("cpu")
PAYLOAD_KEYS = {"model", "ema", "optimizer", "schedule", "scaler", "progress"}
PROGRESS_KEYS = {"epoch", "step", "sums", "best", "collapsed_epochs", "seconds", "data"}
LENGTH = {"train.epochs"}  # which may grow
SETTINGS_OF_THE_MACHINE = {
    "data.cache", "data.cache_dir", "data.cache_gb", "data.workers", "data.on_device", "train.device", "train.compile",
    "train.cuda_graph", "train.checkpoint_dir", "train.tensorboard", "inference.batch_size", "guard.patience"}
NOT_SAVED = {f"camera.{field.name}" for field in dataclasses.fields(CameraConfig)}


def config_of(**train):
    return Config(model=ModelConfig(width=64, height=64), train=TrainConfig(**train))


def state_of(config, steps=20, seed=0):
    torch.manual_seed(seed)
    return build_state(checkpoint.build_model(config), config, steps, CPU, torch.float32)


def train(state, steps):
    """Steps with gradients that are the weights themselves."""
    for _ in range(steps):
        for parameter in state.model.parameters():
            parameter.grad = parameter.detach().clone()
        factor, weight = state.schedule.advance()
        state.optimizer.step(factor)
        state.ema.update(weight)


# The groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_weight_is_in_one_group_and_only_matrices_and_kernels_decay(name):
    model = checkpoint.build_model(Config())
    optimizer = build_optimizer(model, config_of(optimizer=name, weight_decay=0.3, learning_rate=0.02))
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    for group in optimizer.param_groups:
        assert group["lr"] == 0.02
        assert group["weight_decay"] == (0.3 if all(p.ndim > 1 for p in group["params"]) else 0)
        assert len({p.ndim > 1 for p in group["params"]}) == 1
    assert any(group["is_kernel"] for group in optimizer.param_groups) == (name == "muon")
    assert {group["betas"] for group in optimizer.param_groups} == {BETAS if name == "muon" else (0.9, 0.999)}


def test_muon_steps_all_kernels_but_the_one_of_three_colors():
    model = checkpoint.build_model(Config())
    first, *_ = build_optimizer(model, config_of(optimizer="muon")).param_groups
    assert first["is_kernel"]
    kernels = [p for p in model.parameters() if p.ndim == 4]
    assert {p.shape[1] for p in set(kernels) - set(first["params"])} == {3}
    assert set(first["params"]) == {p for p in kernels if p.shape[1] != 3}


# last.pth ----------------------------------------------------------------------------------------------------


def test_the_keys_of_a_saved_run_are_these(tmp_path):
    """A change of one of them takes a new checkpoint.VERSION."""
    assert checkpoint.VERSION == 10
    config = config_of()
    payload = to_payload(state_of(config), TrainProgress())
    assert payload.keys() == PAYLOAD_KEYS and payload["progress"].keys() == PROGRESS_KEYS
    checkpoint.save_checkpoint(tmp_path / "last.pth", config, **payload)
    assert load_last(tmp_path / "last.pth", config).keys() == PAYLOAD_KEYS | {"format", "version", "config"}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_restored_state_goes_on_as_the_saved_one(tmp_path, optimizer):
    config, path = config_of(optimizer=optimizer), tmp_path / "last.pth"
    whole, rest = state_of(config), state_of(config, seed=1)
    train(whole, 2)
    progress = TrainProgress(2, 3, torch.arange(5.0), (0.5, -3.0, 0.51), 1, 12.5, "fingerprint")
    checkpoint.save_checkpoint(path, config, **to_payload(whole, progress))
    restored = restore(rest, load_last(path, config), path)
    assert torch.equal(restored.sums, progress.sums)
    assert restored._replace(sums=None) == progress._replace(sums=None)
    train(whole, 2)
    train(rest, 2)
    for name in ("model", "ema"):
        pairs = zip(getattr(whole, name).state_dict().values(), getattr(rest, name).state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name
    assert int(whole.schedule.steps) == int(rest.schedule.steps) == 4
    assert float(whole.optimizer.count) == float(rest.optimizer.count) == 4


def other_value(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, *value) or (1.0,)
    return value + (1 if isinstance(value, (int, float)) else "x")


def test_only_settings_of_the_machine_and_the_length_may_change_on_resuming(tmp_path):
    """Every setting, one at a time."""
    assert set(MAY_CHANGE) == SETTINGS_OF_THE_MACHINE | LENGTH
    config, path = Config(), tmp_path / "last.pth"
    checkpoint.save_checkpoint(path, config, progress={})
    changed = set()
    for section in dataclasses.fields(Config):
        values = getattr(config, section.name)
        for field in dataclasses.fields(values):
            name = f"{section.name}.{field.name}"
            other = dataclasses.replace(values, **{field.name: other_value(getattr(values, field.name))})
            changed_config = dataclasses.replace(config, **{section.name: other})
            if name in SETTINGS_OF_THE_MACHINE | LENGTH | NOT_SAVED:
                assert load_last(path, changed_config)["progress"] == {}
            else:
                with pytest.raises(CheckpointError, match=f"{name}=.*now it is.*same settings again") as caught:
                    load_last(path, changed_config)
                assert "\n" not in str(caught.value)
            changed.add(name)
    assert changed > SETTINGS_OF_THE_MACHINE and len(changed) > 45
