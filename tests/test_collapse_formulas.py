"""The mathematics in MODEL_COLLAPSE_FIX.md: what uncertainty weighting minimizes, and that ours cannot."""

import math

import pytest
import torch

from geometry.slots import LaneTarget
from losses_fixed import LaneLoss


def uncertainty_weighted(terms, s):
    return sum(0.5 * (torch.exp(-s_i) * term + s_i) for term, s_i in zip(terms, s, strict=True))


@pytest.mark.parametrize("term", [1e-6, 0.003, 1.0, 40.0])
def test_the_learned_weight_settles_at_one_over_the_term(term):
    s = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([s], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = uncertainty_weighted([term], s)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert s.item() == pytest.approx(math.log(term), abs=1e-3)
    assert uncertainty_weighted([term], s).item() == pytest.approx(0.5 * (1 + math.log(term)), abs=1e-6)


def test_one_easy_term_takes_the_learned_total_below_any_bound_while_the_hard_one_starves():
    hard = 5.0
    totals, weights = [], []
    for easy in (1e-2, 1e-6, 1e-12):
        s = torch.tensor([math.log(easy), math.log(hard)], dtype=torch.float64)
        totals.append(uncertainty_weighted([easy, hard], s).item())
        weights.append((torch.exp(-s[0]) / torch.exp(-s[1])).item())
    assert totals == pytest.approx([0.5 * (2 + math.log(easy) + math.log(hard)) for easy in (1e-2, 1e-6, 1e-12)])
    assert totals[0] > totals[1] > totals[2]
    assert weights[2] == pytest.approx(hard / 1e-12)


def test_straight_constant_lanes_leave_our_total_above_zero():
    """The prediction that drove the old loss down: straight, certain, the same for both images."""
    t = torch.linspace(0, 1, 6)
    y = 0.4 + 0.6 * t
    curved = torch.stack((0.5 + 0.2 * t**2, y), -1)
    other = torch.stack((0.5 - 0.2 * t**2, y), -1)
    target = LaneTarget(torch.stack((curved, other))[:, None], torch.ones(2, 1, dtype=torch.bool))
    straight = torch.stack((torch.full_like(t, 0.5), y), -1).expand(2, 1, 6, 2)
    terms = LaneLoss()(straight, torch.full((2, 1), 20.0), target)
    assert terms.existence < 1e-6  # minimized
    assert terms.curvature > 0.1 and terms.regression > 0.5  # but not these
    assert terms.total > 0.5
