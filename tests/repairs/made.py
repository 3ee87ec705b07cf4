"""Small networks, the server's root set and its training, for tests of repairs."""

import copy

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import load_arrays
from oleander.learning.root import Root
from oleander.learning.training import train
from oleander.settings.config import Experiment

IMAGE = ImageSpace(1, 4, (0.0,), (1.0,))
PLAIN = Experiment(augment="none", precision="fp32", batch_size=8, momentum=0.9, weight_decay=0.0)


def module_of(net, layout):
    """What a server gives as ``module``: a copy of this network with a model's numbers."""

    def module(state):
        made = copy.deepcopy(net)
        load_arrays(made, layout.unflatten(state))
        return made.eval()

    return module


def made_root(shard, experiment=PLAIN):
    """A root set that trains modules as clients do."""

    def fit(module, own, round_number, hooks=(), **settings):
        train(module, own, experiment.changed(**settings), round_number, hooks=hooks)

    def no_update(*_, **__):
        raise AssertionError("nobody asks for it")

    return Root(shard, no_update, fit)
