"""Where images come from: a source a file of this folder, found by its name; ``auto``; or a file of the user's.

Each is decoded once into the cache (``data.stored``) under a key of what it was decoded from: the source's own ``cache_key``, or
without one its file's content.
"""

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oleander.datasets.data import Dataset, Images, stored
from oleander.datasets.listing import listing_key
from oleander.datasets.own import checked, own
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import AUTO, DATASETS, declaration, source_in
from oleander.settings.registry import use_dataset
from oleander.system.cache import Notify
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import refusing


def settings_for(experiment: Experiment) -> tuple[tuple[str, Any], ...]:
    """Name and value of the settings that its dataset asks for."""
    name, _ = source_in(experiment.dataset)
    return tuple((asked, getattr(experiment, asked)) for asked in (_asks(name) if name else ()))


def load_dataset(source: str, data_dir: str, notify: Callable[[str], None], **settings: Any) -> Dataset:
    """The dataset of ``--dataset``; ``notify`` is told, in one sentence, when ``auto`` had to choose digits.

    Args:
        source: as ``--dataset`` names it.
        data_dir: of ``--data-dir``.
        notify: is told what the user must know.
        settings: those that the source asks for (``settings_for``), at their defaults where they are not given.

    Raises:
        UserError: an unknown source; images that cannot be had or read; names what was tried and the other ways.
    """
    root = absolute(data_dir)
    if source == AUTO:
        source = chosen(data_dir, notify)
    if use_dataset(source):  # refuses what is none
        return own(source, root, listing_key(root, f"--data-dir {root}") if root.is_dir() else "", notify)
    return _ours(source, root, notify, settings)


def chosen(data_dir: str, notify: Callable[[str], None]) -> str:
    """What ``auto`` stands for: cifar10 where it is on disk or can be downloaded, else digits, of which ``notify`` is told."""
    try:
        _ours("cifar10", absolute(data_dir), notify, {})
    except UserError as error:
        notify(f"CIFAR-10 could not be had, so this run uses scikit-learn's handwritten DIGITS instead ({error})")
        return "digits"
    return "cifar10"


def _ours(source: str, root: Path, notify: Notify, settings: dict[str, Any]) -> Dataset:
    """A source of this folder: ``NAME``, or with what it is told behind a colon."""
    name, told = source_in(source)
    module = importlib.import_module(f"{DATASETS}.{name}")
    words = (told,) if told else ()
    asked = {setting: settings.get(setting, SETTINGS[setting]) for setting in _asks(name)}

    def key() -> str:
        if hasattr(module, "cache_key"):
            return str(module.cache_key(root, *words, **asked))
        return hashlib.sha256(declaration(DATASETS, name).source.encode() + repr(asked).encode()).hexdigest()

    def make() -> Images:
        return checked(getattr(module, name)(root, *words, **asked), f"--dataset {source}")

    with refusing(f"--dataset {source}"):
        for text in module.told(root, *words) if hasattr(module, "told") else ():
            notify(text)
        found = stored(module.called(*words) if hasattr(module, "called") else source, key, make, notify)
    for text in found.told:
        notify(text)
    return found


def _asks(name: str) -> tuple[str, ...]:
    return declaration(DATASETS, name).uses
