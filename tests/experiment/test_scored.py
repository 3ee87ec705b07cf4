"""Rounds between the start and the last are scored on some of the test images; the start, the last and the models never change."""

import json
import math

import numpy as np
import pytest

from oleander.experiment.recorder import drawn_rows
from oleander.experiment.records import RoundRecord, read_rounds
from oleander.learning.evaluation import Victims, drawn_from
from oleander.reports import plots
from oleander.settings.config import Experiment
from tests.in_process import run_here
from tests.programs import DIGITS

FEW = [*DIGITS, "--scenario", "dba", "--rounds", 3, "--local-epochs", 1]


def test_the_images_are_drawn_by_the_seed_the_same_ones_in_each_round():
    some = drawn_rows(10_000, Experiment())
    assert len(set(some.tolist())) == 2_000 and (np.diff(some) > 0).all() and 9_000 < some.max() < 10_000
    assert (drawn_rows(10_000, Experiment(rounds=9, lr=1.0)) == some).all()
    assert (drawn_rows(10_000, Experiment(seed=1)) != some).any()
    assert drawn_rows(10_000, Experiment(evaluate_images="all")) is drawn_rows(2_000, Experiment()) is None


def test_an_attacks_own_images_are_scored_whole():
    wanted = np.array([0, -1, 3, 3])
    assert drawn_from(None, np.array([1, 2])) is None
    assert drawn_from(Victims(wanted), np.array([1, 2])).wanted.tolist() == [-1, 3]
    own = Victims(wanted, images=np.zeros((4, 1, 2, 2), np.uint8))
    assert drawn_from(own, np.array([1, 2])) is own


def test_each_score_carries_the_number_it_is_of_and_nothing_else_changes(tmp_path, task):
    run_here(*FEW, "--evaluate-images", 100, out=tmp_path / "some")
    run_here(*FEW, "--evaluate-images", "all", out=tmp_path / "all")
    some, whole = read_rounds(tmp_path / "some"), read_rounds(tmp_path / "all")
    assert [r.scored_images for r in some] == [500, 100, 100, 500] and {r.scored_images for r in whole} == {500}
    assert all(80 < r.scored_victims < 100 for r in some[1:3]) and some[1].scored_victims == some[2].scored_victims
    assert some[3].scored_victims == whole[3].scored_victims > 400
    for r in some:
        assert (r.mta * r.scored_images) == pytest.approx(round(r.mta * r.scored_images))
        assert (r.asr * r.scored_victims) == pytest.approx(round(r.asr * r.scored_victims))
    assert [(r.mta, r.asr) for r in (some[0], some[3])] == [(r.mta, r.asr) for r in (whole[0], whole[3])]
    one, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("some", "all"))
    assert one["model_sha256"] == other["model_sha256"]
    assert (tmp_path / "some" / "classes.json").read_text() == (tmp_path / "all" / "classes.json").read_text()


def record(number, mta, images):
    return RoundRecord(
        number, mta, None, 1.0, [], [], [], [], [], [], [], 0, 0, {"evaluate": 1.0}, scored_images=images
    )


def test_a_figure_has_each_scores_standard_error_and_says_what_it_is_of():
    figure = plots._scores([record(0, 0.5, 10_000), record(1, 0.8, 2_000), record(2, 0.8, 10_000)], "a run")
    (bars,) = figure.axes[0].containers
    heights = [np.ptp(segment[:, 1]) / 2 for segment in bars.lines[2][0].get_segments()]
    assert heights == pytest.approx([math.sqrt(0.25 / 10_000), math.sqrt(0.16 / 2_000), math.sqrt(0.16 / 10_000)])
    assert "scored on 2,000 test images, start and last round on 10,000" in " ".join(figure.get_supxlabel().split())
    same = plots._scores([record(0, 0.5, 500), record(1, 0.8, 500)], "a run")
    assert same.get_supxlabel() == "a run"
    old = plots._scores([record(0, 0.5, None), record(1, 0.8, None)], "a run")
    assert old.get_supxlabel() == "a run" and plots.standard_error(0.5, None) == 0
