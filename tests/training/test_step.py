"""Steps of training: what one changes, what an epoch adds up, where it stops, and which losses end it."""

import itertools
import math
import os
import signal

import pytest
import torch
from trainings import signal_in_step

from config import load_config
from dataset import LaneDataset
from formats.registry import list_samples
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget, shift_slots
from losses_fixed import LaneLoss, LossTerms
from model import LanePrediction
from runtime import checkpoint
from runtime.signals import Interrupt
from training.epoch import epoch_params, epoch_seed, train_epoch
from training.loss_check import CHECK_EVERY, refuse_invalid_loss
from training.optimizer import MuonAdamW
from training.run_dir import TrainingError
from training.state import TrainProgress, build_state
from training.step import step, step_setup

CPU = torch.device("cpu")
BATCH_INDICES = [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.fixture(scope="module")
def images(rendered):
    return LaneDataset(list_samples(rendered, "tusimple"), InputGrid(64, 64), 6)


def setup_of(*overrides, loss=None):
    config = load_config(None, ["model.width=64", "model.height=64", "data.workers=0",
                                "train.input_scale=1", *overrides])
    torch.manual_seed(0)
    model = checkpoint.build_model(config)
    return step_setup(build_state(model, config, 10, CPU, torch.float32), model, loss or LaneLoss(), config, CPU,
                      torch.float32)


class RecordedLoss(LaneLoss):
    """The loss, whose terms are kept with the number of images; `change` gives those that training gets."""

    def __init__(self, change=lambda terms, _step: terms):
        super().__init__()
        self.change, self.terms, self.counts = change, [], []

    def __call__(self, points, *rest):
        self.terms.append(self.change(super().__call__(points, *rest), len(self.terms) + 1))
        self.counts.append(len(points))
        return self.terms[-1]


def test_an_epoch_adds_up_the_terms_of_all_its_images(images):
    setup = setup_of(loss=RecordedLoss())
    progress = train_epoch(setup, images, BATCH_INDICES, TrainProgress(), Interrupt())
    assert (progress.epoch, progress.step) == (1, 3) and setup.loss.counts == [3, 3, 2]
    expected = sum(count * torch.stack(terms).detach() for terms, count in
                   zip(setup.loss.terms, setup.loss.counts, strict=True))
    torch.testing.assert_close(progress.sums, expected)
    assert len(progress.sums) == len(LossTerms._fields)


def test_a_step_changes_all_weights_and_moves_schedule_and_average_once(images):
    setup = setup_of()
    before = {name: weight.detach().clone() for name, weight in setup.state.model.named_parameters()}
    train_epoch(setup, images, BATCH_INDICES[:1], TrainProgress(), Interrupt())
    assert [name for name, weight in setup.state.model.named_parameters() if torch.equal(weight, before[name])] == []
    assert int(setup.state.schedule.steps) == 1 and float(setup.state.optimizer.count) == 1
    pairs = zip(setup.state.model.parameters(), setup.state.ema.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the first weights are the average"
    assert setup.state.model.training


def test_above_a_line_the_count_that_the_network_made_is_not_corrected():
    """A line at 0.48 is left 1 by its label and right 1 by the prediction, which is as right."""
    points, setup = torch.zeros(1, 6, 6, 2), setup_of()
    points[0, 2] = torch.stack((torch.linspace(0.5, 0.48, 6), torch.linspace(0.4, 1, 6)), dim=-1)
    target = LaneTarget(points, torch.arange(6)[None] == 2)
    other, weight = shift_slots(target, torch.tensor([1])), next(setup.state.model.parameters())

    def network(_images, with_rows):
        logits = torch.where(other.exists, 9.0, -9.0)
        return LanePrediction(other.points + 0 * weight.sum(), logits + 0 * weight.sum()), None

    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    step(setup._replace(ddp_model=network), pixels, target, epoch_params(setup.config, 1.0, 1, 1), 1)
    terms = LossTerms(*setup.losses.last.tolist())
    assert terms.existence < 1e-3 and terms.regression < 1e-6


def test_a_step_whose_gradients_overflow_in_half_precision_changes_no_weight():
    setup = setup_of()
    state = build_state(setup.state.model, setup.config, 10, CPU, torch.float16)
    before, weight = [tensor.detach().clone() for tensor in state.optimizer.tensors()], next(state.model.parameters())

    def network(_images, with_rows):
        return LanePrediction(torch.zeros(1, 6, 6, 2) + 1e38 * weight.sum(), torch.zeros(1, 6)), None

    target = LaneTarget(torch.zeros(1, 6, 6, 2), torch.ones(1, 6, dtype=torch.bool))
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    step(setup._replace(state=state, ddp_model=network), pixels, target, epoch_params(setup.config, 1.0, 1, 1), 1)
    assert all(map(torch.equal, before, state.optimizer.tensors())) and float(state.scaler.scale) == 2**15


def test_gradients_are_clipped(images, monkeypatch):
    norms = []

    def record(optimizer, _factor):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.stack([grad.norm() for grad in grads]).norm()))

    monkeypatch.setattr(MuonAdamW, "step", record)
    for clip_norm in (1e9, 0.01):
        train_epoch(setup_of(f"train.clip_norm={clip_norm}"), images, BATCH_INDICES[:1], TrainProgress(), Interrupt())
    free, clipped = norms
    assert free > 1 and clipped == pytest.approx(0.01, rel=1e-3)


def test_an_epoch_in_two_parts_is_the_whole_epoch(images):
    whole, parts = setup_of(), setup_of()
    expected = train_epoch(whole, images, BATCH_INDICES, TrainProgress(), Interrupt())
    with Interrupt().caught() as interrupt, signal_in_step(2, signal.SIGTERM):
        progress = train_epoch(parts, images, BATCH_INDICES, TrainProgress(), interrupt)
    assert interrupt.signal == signal.SIGTERM and progress.step == 2, "the step is finished"
    progress = train_epoch(parts, images, BATCH_INDICES, progress, Interrupt())
    assert progress.step == 3 and torch.equal(progress.sums, expected.sums)
    pairs = zip(whole.state.model.state_dict().values(), parts.state.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_second_signal_ends_an_epoch_at_once(images):
    def stop_twice(terms, step):
        for _ in range(2 if step == 1 else 0):
            os.kill(os.getpid(), signal.SIGTERM)
        return terms

    setup = setup_of(loss=RecordedLoss(stop_twice))
    with pytest.raises(KeyboardInterrupt), Interrupt().caught() as interrupt:
        train_epoch(setup, images, BATCH_INDICES, TrainProgress(), interrupt)
    assert float(setup.state.optimizer.count) == 0, "in the midst of its first step"


def test_no_two_epochs_and_no_two_images_have_the_same_views():
    seeds = {epoch_seed(seed, epoch) for seed, epoch in itertools.product((*range(5), 2**31), range(1, 51))}
    assert len(seeds) == 6 * 50
    torch.Generator().manual_seed(epoch_seed(2**31, 100_000))  # the largest there are
    config = load_config(None)
    views = torch.cat([epoch_params(config, 1.5, epoch, 100).matrix.flatten(1) for epoch in (1, 2)])
    assert len(views.unique(dim=0)) == 200
    assert torch.equal(epoch_params(config, 1.5, 2, 100).matrix.flatten(1), views[100:])


# Losses that end a run ---------------------------------------------------------------------------------------


def test_a_loss_that_was_infinite_in_an_earlier_step_ends_the_epoch(images):
    """The loss is read every CHECK_EVERY steps only; no step between may go unnoticed."""
    assert len(BATCH_INDICES) < CHECK_EVERY
    setup = setup_of(loss=RecordedLoss(
        lambda terms, step: terms._replace(existence=torch.tensor(math.inf)) if step == 2 else terms))
    with pytest.raises(TrainingError, match=r"in epoch 3, step 3: total \d.*existence inf"):
        train_epoch(setup, images, BATCH_INDICES, TrainProgress(epoch=3), Interrupt())
    assert len(setup.loss.terms) == 3


def test_a_negative_loss_ends_the_run():
    values = dict.fromkeys(LossTerms._fields, 0.2) | {"total": -0.1}
    terms = LossTerms(**values)
    with pytest.raises(TrainingError, match=r"epoch 3, step 7: total -0\.1, regression 0\.2"):
        refuse_invalid_loss(terms, 3, 7)


@pytest.mark.parametrize("name", LossTerms._fields)
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_every_term_is_checked(name, value):
    terms = LossTerms(*(0.0 for _ in LossTerms._fields))
    refuse_invalid_loss(terms, 1, 1)
    with pytest.raises(TrainingError, match=rf"{name} {value:.4g}"):
        refuse_invalid_loss(terms._replace(**{name: value}), 1, 1)
