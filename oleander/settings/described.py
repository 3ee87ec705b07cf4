"""When a scenario's own words, its description or the title of its figure, may stand over what was run."""

from collections.abc import Collection, Iterable

UNSPOKEN = frozenset({
    "scenario", "out", "seed", "data_dir", "no_cache", "round_timeout", "min_clients", "actors", "client_cpus", "client_gpus",
    "client_threads", "cuda_graphs", "ray_address", "precision", "evaluate", "evaluate_asr", "evaluate_images", "on_bad_reply",
    "keep", "pages", "runs_at_once",
})  # fmt: skip
"""Settings that no description speaks of: seeds, files, and how it is computed and scored."""
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
"""Datasets that descriptions name by other words than the command line does."""


def true_words(text: str, given: Collection[str], datasets: Iterable[str]) -> str:
    """A scenario's own words, where nothing was changed that they may speak of; else none.

    Args:
        text: its description, or the title of its figure.
        given: settings that the command line gives or sweeps; of a description that it gives itself nothing is asked.
        datasets: what is run on; ``auto`` where that is not known yet.
    """
    if "description" in given:
        return text
    run = {*datasets}
    of_others = any(name in text for dataset, name in DATASETS.items() if dataset not in run)
    return "" if set(given) - UNSPOKEN or ("auto" not in run and of_others) else text
