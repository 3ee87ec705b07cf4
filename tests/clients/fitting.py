"""A client of either kind, made and trained once."""

import numpy as np

from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment
from tests.shards import shard
from tests.spaces import fresh_model

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=2, malicious=1, attack="patch")


def fit(client_type, experiment, round_number=1, data=None, **extra):
    model = fresh_model(10, 0)
    client = client_type(data or shard(), model, experiment, **extra)
    return client.fit(arrays_of(model), {"server-round": round_number})


def distance(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))
