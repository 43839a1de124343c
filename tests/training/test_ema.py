"""The moving average of the weights: closed forms, what is copied as it is, and its state."""

import torch
from torch import nn

from training.ema import ExponentialMovingAverage


def network():
    """Three weights, three running statistics and a count."""
    return nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))


def set_all(model, value):
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(value)


def averages(values, decay):
    """Each weight or buffer of the average of a network that is set to these values, a step each."""
    model = network()
    ema = ExponentialMovingAverage(model, decay)
    for value in values:
        set_all(model, value)
        ema.update_parameters(model)
    return ema, [tensor.item() for tensor in (*ema.module.parameters(), *ema.module.buffers())]


def test_the_first_step_is_copied():
    ema, (*means, count) = averages([3.0], 0.9)
    assert means == [3.0] * 6 and count == 3 and int(ema.n_averaged) == 1


def test_memory_is_short_in_the_first_steps_and_reaches_the_decay():
    """The second value has weight 1 - 2/11, the third 1 - 3/12, none less than 1 - decay."""
    _, (mean, *_) = averages([1.0, 12.0], 0.9)
    assert abs(mean - (1.0 * 2 / 11 + 12.0 * 9 / 11)) < 1e-5
    _, (mean, *_) = averages([0.0, 0.0, 1.0], 0.9)
    assert abs(mean - 9 / 12) < 1e-5
    _, (mean, *_) = averages([0.0] * 200 + [1.0], 0.9)
    assert abs(mean - 0.1) < 1e-5


def test_running_statistics_are_averaged_and_counts_are_copied():
    _, (*means, count) = averages([1.0, 12.0], 0.9)
    assert len(means) == 6 and len(set(means)) == 1 and count == 12


def test_its_state_goes_on_where_it_was():
    whole, _ = averages([1.0, 2.0, 4.0], 0.5)
    half, _ = averages([1.0, 2.0], 0.5)
    rest, model = ExponentialMovingAverage(network(), 0.5), network()
    rest.load_state_dict(half.state_dict())
    set_all(model, 4.0)
    rest.update_parameters(model)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), rest.state_dict().values(), strict=True))


def test_the_count_of_steps_stays_on_the_cpu():
    """A GPU would have to finish all steps before it could tell how many there were."""
    assert ExponentialMovingAverage(network().to("meta"), 0.5).n_averaged.device == torch.device("cpu")
