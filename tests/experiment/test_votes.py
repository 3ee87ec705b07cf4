"""CRFL's vote in a run: against plain PyTorch on the run's model, the same again, and nothing else of the run changes by it."""

import dataclasses
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import ENVIRONMENT, Voted, read_rounds, read_summary, write_scenario
from oleander.experiment.results import Finished, write_runs
from oleander.experiment.study import Runs
from oleander.learning.parameters import ModelState, load_arrays
from oleander.models import build
from oleander.reports.plots import draw_figures
from oleander.reports.tables import print_results
from oleander.reports.webpage import write_run_page
from oleander.settings.cli import parse
from oleander.settings.config import Experiment, validated
from oleander.settings.plan import Published
from oleander.system.errors import UserError
from oleander.system.streams import generator
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of
from tests.in_process import run_here
from tests.programs import DIGITS

CRFL = [*DIGITS, "--strategy", "crfl", "--crfl-sigma", "0.2", "--rounds", "1", "--precision", "fp32"]
VOTED = Voted(0.7, 0.01, 0.6, 100, 1000, 2.0)


def by_hand(folder, votes, sigma):
    """MTA and ASR of the vote: PyTorch's own model on all test images, one copy after the other, and a count of answers."""
    setup = prepare(parse(["--scenario", str(folder / "config.toml")]), Sources(lambda text: None))
    data, e, layout = setup.dataset, setup.experiment, setup.layout
    tensors = load_file(folder / "model.safetensors")
    state = layout.flatten([tensors[name] for name in layout.names])
    rng, model = generator(e.seed, "voters crfl"), build(e.model, len(data.classes), data.image, e.norm).eval()
    pixels, labels = torch.from_numpy(np.array(data.test_images)).float() / 255, np.array(data.test_labels)
    assert len(labels) <= 1000  # so that all are voted on
    ballots = {"clean": [], "stamped": []}
    for _ in range(votes):
        noised = (state.weights + sigma * rng.standard_normal(len(state.weights))).astype(np.float32)
        load_arrays(model, layout.unflatten(ModelState(noised, state.statistics)))
        with torch.inference_mode():
            for name, shown in (("clean", pixels), ("stamped", setup.attack.trigger(pixels))):
                ballots[name].append(model(data.image.normalise(shown)).argmax(1).tolist())
    elected = {
        name: np.array(
            [min(Counter(b).items(), key=lambda item: (-item[1], item[0]))[0] for b in zip(*cast, strict=True)]
        )
        for name, cast in ballots.items()
    }
    others = labels != setup.target
    return (elected["clean"] == labels).mean(), (elected["stamped"] == setup.target)[others].mean()


@pytest.mark.usefixtures("task", "one_thread")
def test_the_vote_of_a_run_is_that_of_plain_pytorch_and_changes_nothing_else(tmp_path):
    run_here(*CRFL, out=tmp_path / "without")
    run_here(*CRFL, "--crfl-votes", "5", out=tmp_path / "with")
    run_here(*CRFL, "--crfl-votes", "5", out=tmp_path / "again")
    without, voted, again = (read_summary(tmp_path / name) for name in ("without", "with", "again"))
    assert voted.voted is not None and without.voted is None
    mta, asr = by_hand(tmp_path / "with", 5, 0.2)
    assert (voted.voted.mta, voted.voted.asr) == (pytest.approx(mta), pytest.approx(asr))
    assert (voted.voted.voters, voted.voted.test_images) == (5, voted.test_images)
    assert voted.voted.mta != voted.mta  # σ 0.2 is noise enough to be seen
    assert again.voted == replace(voted.voted, seconds=again.voted.seconds)
    own = {"voted": None, "seconds": None}
    assert dataclasses.asdict(without) | own == dataclasses.asdict(voted) | own
    assert [r.mta for r in read_rounds(tmp_path / "with")] == [r.mta for r in read_rounds(tmp_path / "without")]


def test_the_votes_scores_stand_beside_the_final_ones_in_summary_table_and_page(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    summary = replace(SUMMARY, voted=VOTED)
    write_scenario(folder.path / "config.toml", Experiment(strategy="crfl").changed(crfl_votes=100))
    about = {"command": "x", "python": "3", "commit": "abc", "packages": {}, "cpus": 2, "cpu": "x", "gpu": None}
    (folder.path / ENVIRONMENT).write_text(json.dumps(about))
    draw_figures(folder.path, summary)
    page = write_run_page(folder.path, summary).read_text()
    assert "ASR of the vote" in page and "100 noised copies, 1,000 test images" in page
    folder.write_summary(summary)
    assert read_summary(folder.path) == summary
    console = Console(record=True, width=200)
    print_results(console, folder.path, summary)
    printed = console.export_text()
    assert "vote of 100 noised copies on 1,000 test images: MTA 70.0 %   ASR 1.0 %" in printed
    write_runs(tmp_path, [Finished(Experiment(strategy="crfl"), folder.path, summary, [])], [])
    names, values = (line.split(",") for line in (tmp_path / "results.csv").read_text().splitlines())
    told = dict(zip(names, values, strict=True))
    assert [told[f"voted_{score}"] for score in ("mta", "asr", "robust_accuracy")] == ["0.7", "0.01", "0.6"]


def test_a_studys_cell_has_the_mean_of_its_votes():
    runs = Runs(
        "x", "", Published(), (), (replace(SUMMARY, voted=VOTED), replace(SUMMARY, voted=replace(VOTED, asr=0.03)))
    )
    assert runs.voted("asr").mean == pytest.approx(0.02) and runs.voted("mta").mean == pytest.approx(0.7)
    assert Runs("x", "", Published(), (), (SUMMARY,)).voted("asr") is None


@pytest.mark.parametrize("bad", [-1, 1.5, "many"])
def test_what_is_no_number_of_copies_is_refused(bad):
    with pytest.raises(UserError, match="crfl_votes"):
        validated({"strategy": "crfl", "crfl_votes": bad}, "test")


def test_a_vote_without_crfl_is_refused():
    with pytest.raises(UserError, match="crfl"):
        parse([*DIGITS, "--crfl-votes", "5"])
