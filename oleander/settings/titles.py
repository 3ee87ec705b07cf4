"""What a run or a study is called in plain English: made from its settings, so that no title says what was not run."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from oleander.settings.config import Experiment, shown_value
from oleander.settings.kinds import has_trigger
from oleander.settings.steps import short_value, split
from oleander.settings.sweeps import varied, words
from oleander.system.foreign import shortened

NAMES = {
    "a3fl": "A3FL", "alie": "ALIE", "blend": "Blend", "chameleon": "Chameleon", "dba": "DBA", "fcba": "FCBA", "iba": "IBA",
    "ipm": "IPM", "min_max": "Min-Max", "min_sum": "Min-Sum", "mimic": "Mimic", "neurotoxin": "Neurotoxin", "patch": "BadNets patch",
    "pgd": "PGD", "poisonedfl": "PoisonedFL", "sig": "SIG", "wanet": "WaNet",
    "alignins": "AlignIns", "bulyan": "Bulyan", "clamp": "clamping", "clip": "clipping", "crfl": "CRFL", "deepsight": "DeepSight",
    "dnc": "DnC", "fedadam": "FedAdam", "fedavg": "FedAvg", "fedavgm": "FedAvgM", "flame": "FLAME", "fldetector": "FLDetector",
    "fltrust": "FLTrust", "foolsgold": "FoolsGold", "freqfed": "FreqFed", "krum": "Krum", "lasa": "LASA", "multi_krum": "Multi-Krum",
    "multi_metrics": "Multi-Metrics", "nnm": "NNM", "rfa": "RFA", "rflbat": "RFLBAT", "rlr": "RLR", "signguard": "SignGuard",
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "emnist": "EMNIST", "fashion_mnist": "Fashion-MNIST", "gtsrb": "GTSRB",
    "mnist": "MNIST", "svhn": "SVHN", "tiny_imagenet": "Tiny ImageNet", "toy": "toy images",
    "cnn": "CNN", "mobilenet_v2": "MobileNetV2", "resnet18": "ResNet-18", "resnet18light": "ResNet18Light", "vgg11": "VGG-11",
}  # fmt: skip
"""How papers write what the command line writes in small letters; any other name stands as it is."""
LISTED = 3
"""So many names are listed; of more, only how many they are is said."""
LONGEST = 60
"""Characters of one name."""
SAID = ("attack", "malicious", "clients", "strategy", "dataset", "model")
"""Settings that every title says."""


def named(step: str) -> str:
    """A plug-in's name as it is read."""
    return NAMES.get(step, shortened(step, LONGEST).replace("_", " "))


def steps(name: str, joined: str) -> str:
    """The steps of a setting of an experiment as they are read: ``clipping + FedAvg``."""
    return " + ".join(map(named, split(str(short_value(name, joined)))))


def sentence(
    attack: Sequence[str], malicious: Sequence[int], clients: Sequence[int], strategy: Sequence[str],
    dataset: Sequence[str], model: Sequence[str] = (),
) -> str:  # fmt: skip
    """*Who does what against which defence, on what*; each part may have several values, where a study varies it.

    Args:
        attack: steps, as ``--attack`` has them.
        malicious: how many clients attack.
        clients: how many there are; none where that is not known.
        strategy: steps, as ``--strategy`` has them.
        dataset: names.
        model: names; none where that is not known.
    """
    on = _list(dataset, _images, "datasets")
    on += f" ({_list(model, lambda name: named(str(short_value('model', name))), 'models')})" if model else ""
    rules = _list(strategy, lambda joined: steps("strategy", joined), "strategies")
    what = _list(attack, lambda joined: "no attack" if joined == "none" else steps("attack", joined), "attacks")
    if set(attack) == {"none"}:
        return f"No attack: {rules} on {on}"
    if set(malicious) == {0}:
        only = f", only the trigger of {what} is measured" if any(map(has_trigger, attack)) else ""
        return f"No attacker{only}: {rules} on {on}"
    of = f" of {_numbers(clients)}" if clients else ""
    one = set(clients or malicious) == {1}
    who = f"{_numbers(malicious)}{of} {'client' if one else 'clients'}"
    return f"{what[:1].upper()}{what[1:]} by {who}, against {rules}, on {on}"


def title(experiments: Sequence[Experiment]) -> str:
    """The sentence of these runs, then what else they differ in but their seeds."""
    said = sentence(*(_once(getattr(e, name) for e in experiments) for name in SAID))
    for name in (name for name in varied(experiments) if name not in SAID):
        values = _once(shown_value(short_value(name, getattr(e, name))) for e in experiments if name in e.settings())
        told = _listed(values) if len(values) <= 2 * LISTED else f"varied ({len(values)} values)"
        said += f"; {words(name)} {told}"
    return said


def _once(values: Iterable[str | int]) -> list[Any]:
    return list(dict.fromkeys(values))


def _images(dataset: str) -> str:
    """A dataset's name; of a folder its own name, not where it is."""
    source, colon, where = dataset.partition(":")
    if colon and (source == "folder" or where.startswith(("/", "~"))):
        return where.rstrip("/").rpartition("/")[2] or where
    return named(str(short_value("dataset", dataset)))


def _list(values: Sequence[str], read: Callable[[str], str], many: str) -> str:
    found = _once(map(read, values))
    return f"{len(found)} {many}" if len(found) > LISTED else _listed(found)


def _listed(found: Sequence[str]) -> str:
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _numbers(values: Sequence[int]) -> str:
    found = sorted(set(values))
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return str(found[0]) if len(found) == 1 else f"{', '.join(map(str, found[:-1]))} or {found[-1]}"
