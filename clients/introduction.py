"""How a client of a real network and its server meet: who are you, what do you hold, and why you are sent away.

The server's hello holds the experiment and what the server expects; the client answers with hashes of what it would train on, with
those of its copies of plug-ins from outside, and with its versions, and the server compares (``oleander.network.roster``). Paths
are each machine's own: a client's node config may name its ``dataset``, ``data-dir``, ``blend-image``, ``edge-case-images`` and
``plugins``.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from attacks import Attack, attack_of, fingerprint
from clients.plugins import ATTACKING, HONEST, own_hashes, with_own_copies
from oleander.datasets.data import Dataset
from oleander.datasets.partition import shard_of, shard_sha256
from oleander.learning.weights import layout_of
from oleander.settings.config import Experiment
from oleander.settings.registry import model_name
from oleander.system.environment import versions
from oleander.system.errors import UserError

NodeConfig = Mapping[str, Any]
OWN = {name.replace("_", "-"): name for name in ("dataset", "data_dir", "blend_image", "edge_case_images")}
"""Name in a node's config → the setting that it replaces there."""


def at_home(experiment: Experiment, node_config: NodeConfig) -> Experiment:
    """The server's settings with this machine's own paths."""
    own: dict[str, Any] = {setting: str(node_config[name]) for name, setting in OWN.items() if node_config.get(name)}
    return experiment.changed(**own)


def introduce(
    client_id: int,
    hello: Mapping[str, str],
    experiment_of: Callable[[], Experiment],
    dataset_of: Callable[[Experiment], Dataset],
    node_config: NodeConfig = {},  # noqa: B006  # never changed
) -> dict[str, str]:
    """What the client holds, as hashes; or a ``problem`` that keeps it from taking part, in words for both sides."""
    known = {"versions": json.dumps(versions())}
    if json.loads(hello["versions"])["oleander"] != versions()["oleander"]:
        return known  # its settings may be others; the server says what is wrong
    try:
        experiment = experiment_of()
        if own := own_hashes(experiment, node_config):
            known |= {"plugins": json.dumps(own)}
        if not 0 <= client_id < experiment.clients:
            return known
        dataset = dataset_of(experiment)
        shard = shard_sha256(shard_of(client_id, dataset, experiment))
        attacks = client_id in experiment.malicious_clients
        mine = with_own_copies(experiment, node_config, ATTACKING if attacks else HONEST)
        model_name(mine)
        classes = len(dataset.classes)
        layout = layout_of(mine.model, classes, dataset.image, mine.norm)  # what a model's file imports may not be here
        attack = attack_of(mine, dataset.image, lambda: layout) if attacks else Attack()
    except (UserError, OSError) as error:
        return known | {"problem": str(error)}
    return known | {
        "dataset-sha256": dataset.fingerprint,
        "shard-sha256": shard,
        "trigger-sha256": fingerprint(attack, dataset) if attack.trigger or attack.material else "",
    }
