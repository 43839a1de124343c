"""The schedule: closed forms, the formula that LambdaLR would be given, and a device that is never asked."""

import itertools
import math

import pytest
import torch

from config import TrainConfig, load_config
from training.ema import update_weights
from training.schedule import FINAL_RATE, Schedule, coarse_epochs, input_size, learning_rate_factors, share_done


def test_the_learning_rate_warms_up_to_its_value_and_falls_along_a_cosine():
    schedule = Schedule(TrainConfig(warmup=0.2), 20)
    rates = [schedule.advance()[0].item() for _ in range(25)]  # five more than there should be
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert rates[12] == pytest.approx(FINAL_RATE + (1 - FINAL_RATE) / 2), "half way down after half of the other steps"
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:21]))
    assert rates[20:] == pytest.approx([0.01] * 5) and FINAL_RATE == 0.01


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.05), (7, 0.9), (100, 0.0), (2625, 0.05)])
def test_the_rates_are_those_of_a_lambda_for_each_step(steps, warmup):
    rise = max(1, round(warmup * steps))

    def factor(step):
        if step < rise:
            return (step + 1) / rise
        share = min(1.0, (step - rise) / max(1, steps - rise))
        return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, expected = torch.optim.lr_scheduler.LambdaLR(optimizer, factor), []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert learning_rate_factors(steps, warmup).tolist()[:-1] == pytest.approx(expected, rel=1e-9)


def test_the_weights_of_the_average_come_with_it():
    schedule = Schedule(TrainConfig(ema=0.7), 30)
    weights = [schedule.advance()[1].item() for _ in range(31)]
    assert weights == pytest.approx(update_weights(30, 0.7).tolist())


def test_a_restored_schedule_goes_on():
    whole, rest = (Schedule(TrainConfig(), 10) for _ in range(2))
    for _ in range(4):
        whole.advance()
    rest.load_state_dict(whole.state_dict())
    assert [part.item() for part in rest.advance()] == [part.item() for part in whole.advance()]
    assert rest.state_dict().keys() == {"steps"}, "the table follows from the settings"


def test_its_device_is_not_asked():
    factor, weight = Schedule(TrainConfig(), 10).to("meta").advance()
    assert factor.device.type == weight.device.type == "meta" and factor.shape == weight.shape == ()


@pytest.mark.parametrize(("epochs", "coarse", "expected"), [(1, 0.5, 0), (2, 0.5, 1), (7, 0.5, 3), (10, 0.5, 5),
                                                            (4, 0.0, 0), (4, 1.0, 3)])
def test_the_first_epochs_are_coarse_and_the_last_never_is(epochs, coarse, expected):
    assert coarse_epochs(TrainConfig(epochs=epochs, coarse=coarse)) == expected


@pytest.mark.parametrize(("width", "height", "scale", "coarse", "fine"), [
    (384, 168, 0.87, (104, 224), (144, 320)), (320, 144, 1, (104, 224), (144, 320)),
    (800, 216, 1, (152, 576), (216, 800)), (64, 64, 1, (48, 32), (64, 64)), (64, 64, 0.5, (40, 32), (40, 32)),
    (480, 208, 0.87, (128, 288), (184, 416))])
def test_images_to_train_on_are_scaled_in_whole_cells_and_coarse_ones_once_more(width, height, scale, coarse, fine):
    config = load_config(None, [f"model.width={width}", f"model.height={height}", f"train.input_scale={scale}",
                                "train.epochs=4"])
    assert [input_size(config, epoch) for epoch in (1, 2, 3, 4)] == [coarse] * 2 + [fine] * 2


def test_the_share_done_grows_to_one_by_less_in_coarse_epochs():
    shares = [share_done(TrainConfig(epochs=4), epoch) for epoch in range(5)]
    steps = [later - earlier for earlier, later in itertools.pairwise(shares)]
    assert shares[0] == 0 and shares[-1] == 1
    assert steps[0] == pytest.approx(steps[1]) and steps[2] == pytest.approx(steps[3]) and steps[0] < steps[2]
