"""What an attacker's hooks do to its training, seen in the model; without any, a training is what it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from oleander.learning.training import Hooks, train
from oleander.settings.config import Experiment
from tests.shards import shard

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=2)


pytestmark = pytest.mark.usefixtures("one_thread")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)

    def forward(self, pixels):
        return self.linear(pixels.flatten(1))


def trained(*hooks, **settings):
    model = Small()
    fit = train(model, shard(), replace(SETTINGS, **settings), 1, hooks=hooks)
    return fit, [weight.detach().numpy() for weight in model.parameters()]


def start():
    return [weight.detach() for weight in Small().parameters()]


def test_hooks_that_change_nothing_change_no_bit():
    same = Hooks(loss=lambda loss, weights: loss, gradients=lambda g: g, weights=lambda w: w)
    plain, one, none = trained(), trained(same), trained(Hooks())
    assert plain[0] == one[0] == none[0]
    for a, b, c in zip(plain[1], one[1], none[1], strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()


def test_a_gradient_that_is_masked_stays_away_and_weight_decay_does_not():
    first = lambda gradients: [gradients[0] * 0, *gradients[1:]]  # noqa: E731
    _, weights = trained(Hooks(gradients=first), weight_decay=0.0)
    np.testing.assert_array_equal(weights[0], start()[0].numpy())
    assert not np.array_equal(weights[1], start()[1].numpy())
    _, weights = trained(Hooks(gradients=first))
    assert not np.array_equal(weights[0], start()[0].numpy())


def test_weights_are_put_where_the_hook_says_after_every_step():
    seen = []

    def back(weights):
        seen.append([w.clone() for w in weights])
        return [start()[0], weights[1]]

    _, weights = trained(Hooks(weights=back))
    np.testing.assert_array_equal(weights[0], start()[0].numpy())
    assert len(seen) == 6  # 20 images in batches of 8, twice
    assert not torch.equal(seen[0][0], start()[0])


def test_the_loss_that_is_minimised_may_be_another_and_the_reported_one_stays_cross_entropy():
    held = Hooks(loss=lambda loss, weights: 0 * loss + sum((w**2).sum() for w in weights))
    fit, weights = trained(held, weight_decay=0.0, lr=0.1, momentum=0.0)
    for w, before in zip(weights, start(), strict=True):
        np.testing.assert_allclose(w, before.numpy() * 0.8**6, rtol=1e-4)  # w − 0.1 · 2 w, six times
    assert 1.5 < fit.loss < 3  # ln 10 and a little


def test_hooks_come_one_after_the_other():
    add, double = Hooks(weights=lambda w: [x * 0 + 1 for x in w]), Hooks(weights=lambda w: [x * 2 for x in w])
    assert trained(add, double)[1][0].max() == 2 and trained(double, add)[1][0].max() == 1
