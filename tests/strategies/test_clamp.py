"""The clamp, against NumPy's own."""

from dataclasses import replace

import numpy as np

from oleander.learning.parameters import ModelState
from strategies.clamp import clamp
from tests.cohorts import random_cohort


def test_clamp_forces_the_values_of_local_models_into_the_bound():
    cohort = random_cohort(5, d=20)
    start = ModelState(np.linspace(-9, 9, 20).astype(np.float32), cohort.start.statistics)
    cohort = replace(cohort, start=start)
    for clip_norm, bound in (
        (2.5, 2.5),
        ("median", np.median(np.linalg.norm(cohort.deltas.astype(np.float64), axis=1))),
    ):
        models = clamp(cohort, clip_norm=clip_norm).deltas + start.weights
        np.testing.assert_allclose(models, np.clip(cohort.deltas + start.weights, -bound, bound), rtol=1e-5, atol=1e-5)
