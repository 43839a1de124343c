"""The moving average of the weights: closed forms, what is copied as it is, and its state."""

import pytest
import torch
from torch import nn

from training.ema import ExponentialMovingAverage, move_together, update_weights


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
    ema, weights = ExponentialMovingAverage(model), update_weights(len(values), decay).float()
    for value, weight in zip(values, weights[:-1], strict=True):  # the last one is for after the last step
        set_all(model, value)
        ema.update(weight)
    return ema, [tensor.item() for tensor in (*ema.module.parameters(), *ema.module.buffers())]


def test_the_first_step_is_copied():
    _, (*means, count) = averages([3.0], 0.9)
    assert means == [3.0] * 6 and count == 3


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


def test_a_share_stays_what_the_model_was_at_first():
    """Of the average of what it became, 1 - share; of what it was, the rest. Counts are copied."""
    model, average = network(), network()
    set_all(model, 5.0)
    ema, plain = ExponentialMovingAverage(model, 0.25), ExponentialMovingAverage(average)
    for value, weight in zip((1.0, 12.0, 3.0), update_weights(3, 0.9).float()[:-1], strict=True):
        for each, network_ in ((ema, model), (plain, average)):
            set_all(network_, value)
            each.update(weight)
    mixed, means = ([tensor.item() for tensor in (*each.module.parameters(), *each.module.buffers())]
                    for each in (ema, plain))
    assert mixed == pytest.approx([0.25 * 5.0 + 0.75 * mean for mean in means[:-1]] + [3.0])
    assert all(tensor.eq(5.0).all() for tensor in ema.starts)
    restored = ExponentialMovingAverage(network(), 0.25)
    restored.load_state_dict(ema.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(restored.starts, ema.starts, strict=True))
    assert restored.starts[0] is next(restored.start.parameters())


def test_the_weights_are_those_of_one_update_after_the_other():
    for decay in (0.0, 0.5, 0.998):
        expected = [1.0] + [1 - min(decay, (1 + n) / (10 + n)) for n in range(1, 3000)]
        assert update_weights(2999, decay).tolist() == pytest.approx(expected, rel=1e-12)


def test_on_a_device_that_is_not_the_cpu_nothing_is_read_back():
    """`meta` has no numbers: asked for one, as for the value of a weight, it raises an error."""
    model = network().to("meta")
    ExponentialMovingAverage(model).update(torch.zeros((), device="meta"))


def test_what_a_gpu_calculates_is_the_same_and_does_not_drift():
    """The fit matrix and the colors' scale never change; their mean in the validated model must not, either."""
    constant, mean, value = torch.rand(3, 1000, generator=torch.Generator().manual_seed(0)).unbind()
    means, expected = [constant.clone(), mean.clone()], mean.clone()
    for weight in update_weights(300, 0.998).float():
        move_together(means, [constant, value], weight)
        expected.lerp_(value, weight)
    assert torch.equal(means[0], constant)
    torch.testing.assert_close(means[1], expected, rtol=1e-6, atol=1e-6)


def test_its_state_goes_on_where_it_was():
    whole, _ = averages([1.0, 2.0, 4.0], 0.5)
    half, _ = averages([1.0, 2.0], 0.5)
    model = network()
    rest = ExponentialMovingAverage(model)
    rest.load_state_dict(half.state_dict())
    set_all(model, 4.0)
    rest.update(update_weights(3, 0.5)[2].float())
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), rest.state_dict().values(), strict=True))
