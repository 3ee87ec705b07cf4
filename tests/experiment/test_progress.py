"""What a person sees while runs go on: each moment says what is being done, and a finished round or run is a line."""

import io
from dataclasses import replace

from rich.console import Console

from oleander.experiment.progress import ProgressListener, StudyListener
from oleander.settings.config import Experiment
from oleander.system.display import Display
from tests.experiment.test_records import ROUND, SUMMARY

FIVE = Experiment(rounds=2, clients_per_round=5)


def listener(*done, experiments=(FIVE,)):
    console = Console(file=(printed := io.StringIO()), width=80)
    watched = StudyListener(console, list(experiments), *done) if done else ProgressListener(console, *experiments)
    return watched, watched.display, printed


def texts(display):
    return [getattr(line, "text", "whole") for line in display.shown()]


def test_each_moment_of_a_run_says_what_is_done():
    watched, display, printed = listener()
    watched.starting()
    assert texts(display) == ["starting the clients' processes"]
    watched.round_began(1, [0, 1, 2, 4, 5])
    watched.waiting_for(5)
    assert texts(display) == ["round 1/2: training clients 0, 1, 2, 4, 5", "whole"]
    watched.client_done(2, 100)
    step, whole = display.shown()
    assert (step.done, step.total, whole.done, whole.total) == (1, 5, 1, 10) and "images/s" in whole.rate
    watched.waiting_for(0)
    watched.round_finished(replace(ROUND, round=0))
    assert texts(display) == ["whole"]  # what is done then, aggregating or scoring, says so itself
    watched.round_began(2, [0, 1, 2, 3, 4])
    assert texts(display)[0].startswith("round 2/2: training clients 0, 1")
    watched.over()
    assert texts(display) == [] and printed.getvalue().startswith("start  ")


def test_a_run_that_goes_on_counts_what_was_done_and_estimates_by_what_is_done_now():
    watched, _, _ = listener()
    watched.went_on(1, 5)
    assert (watched.whole.done, watched.whole.before) == (5, 5)


def test_a_study_counts_over_all_its_runs_those_that_were_finished_included():
    experiments = [replace(FIVE, seed=seed) for seed in range(3)]
    watched, display, printed = listener(1, experiments=experiments)
    watched.starting()
    run, beside = watched.run_began(experiments[1]), watched.run_began(experiments[2])
    run.round_began(1, [0, 1, 2, 3, 4])
    beside.round_began(2, [0, 1])
    one, other, whole = display.shown()
    assert one.text.startswith("run 2/3, round 1/2: training clients") and other.text.startswith("run 3/3, round 2/2")
    assert whole is watched.whole and (whole.done, whole.total) == (10, 30)
    run.went_on(1, 5)  # a stopped one
    beside.client_done(0, 100)
    assert (whole.done, whole.before, one.done, other.done) == (16, 15, 0, 1)
    beside.finished(SUMMARY)
    assert texts(display) == [one.text, "whole"]
    assert printed.getvalue().splitlines()[0] == "3 runs, 1 of them finished before"


def test_many_clients_are_named_as_far_as_it_makes_sense():
    watched, display, _ = listener(experiments=[Experiment(clients=100, clients_per_round=100)])
    watched.round_began(1, list(range(100)))
    assert texts(display)[0].endswith("10, 11 …") and display.shown()[0].total == 100


def test_a_listener_without_a_display_has_one_of_its_own():
    assert isinstance(listener()[0].display, Display)
