"""Poisoning of a shard: which images, and what labels they get."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import poison
from tests.attacks.made_up import shard


@given(rate=st.floats(0, 1), m=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_poisoning_relabels_the_chosen_rows_and_no_others(rate, m, seed):
    clean = shard(m=m)
    labels, images = clean.labels.copy(), clean.images.copy()
    result = poison(clean, rate, 3, np.random.default_rng(seed))
    assert result.poisoned.sum() == round(rate * m)
    assert (result.shard.labels[result.poisoned] == 3).all()
    np.testing.assert_array_equal(result.shard.labels[~result.poisoned], labels[~result.poisoned])
    np.testing.assert_array_equal(result.shard.images, images)
    np.testing.assert_array_equal(clean.labels, labels)
    again = poison(clean, rate, 3, np.random.default_rng(seed))
    np.testing.assert_array_equal(result.poisoned, again.poisoned)


def test_any_image_of_a_shard_may_be_poisoned():
    chosen = np.stack([poison(shard(), 0.5, 0, np.random.default_rng(seed)).poisoned for seed in range(400)])
    assert (np.abs(chosen.mean(axis=0) - 0.5) < 0.13).all()  # five standard errors
    together = chosen[:, 0] & chosen[:, 1]
    assert abs(together.mean() - 0.5 * 9 / 19) < 0.13  # no two go together


def test_images_that_are_of_the_target_already_are_poisoned_like_any_others():
    data = replace(shard(), labels=np.zeros(20, dtype=np.int64))
    found = poison(data, 0.5, 0, np.random.default_rng(0))
    assert found.poisoned.sum() == 10 and not found.shard.labels.any()
