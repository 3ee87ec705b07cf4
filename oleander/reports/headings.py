"""What stands over a run: a title made of its settings, and its scenario's own words where they are true of it."""

from pathlib import Path

from oleander.experiment.records import CONFIG, Summary, settings_of
from oleander.settings.cli import known_scenarios, load_scenario_file
from oleander.settings.config import Experiment
from oleander.settings.described import true_words
from oleander.settings.titles import SAID, sentence
from oleander.system.foreign import plain


def run_title(summary: Summary, experiment: Experiment | None = None) -> str:
    """The run in a sentence; without its settings, of what the summary says."""
    clients = [experiment.clients] if experiment else []
    model = [experiment.model] if experiment else []
    idle = experiment is not None and experiment.idle
    attackers = 0 if idle else len(summary.malicious)
    return plain(sentence([summary.attack], [attackers], clients, [summary.strategy], [summary.dataset], model))


def run_line(folder: Path, summary: Summary) -> str:
    """The same with the seed, as it stands below the figures of the run in this folder."""
    experiment = settings_of(folder) if (folder / CONFIG).is_file() else None
    goal = f", target {plain(summary.target_class)}" if summary.target_class and summary.asr is not None else ""
    return f"{run_title(summary, experiment)}{goal}. Seed {summary.seed}, augment {plain(summary.augment)}"


def own_words(experiment: Experiment) -> str:
    """The scenario's description, where it is true of this run: records of before titles were made kept it whatever was changed."""
    scenario = known_scenarios().get(experiment.scenario)
    if scenario is None or not experiment.description:
        return experiment.description
    shipped = load_scenario_file(experiment.scenario, experiment.dataset)
    if shipped.experiment.description != experiment.description:
        return experiment.description
    checked = {*SAID, "clients_per_round", *shipped.said} - {"model", "scenario", "description"}
    changed = {name for name in checked if getattr(shipped.experiment, name) != getattr(experiment, name)}
    return true_words(experiment.description, changed, [experiment.dataset])
