"""What a run's attackers are said to know and its defence to need, by what the plug-ins' texts ask for."""

import pytest
from rich.console import Console

from oleander.reports.listing import print_list
from oleander.settings.config import Experiment
from oleander.settings.declared import built_in, declaration
from oleander.settings.threats import EACH_OTHERS, EVERYBODYS, known_besides, needed_besides, threat_model

KNOW = {
    EVERYBODYS: {"min_max", "min_sum", "ipm", "mimic"},
    EACH_OTHERS: {"alie", "poisonedfl"},
}
NEED = {
    "an assumed number of attackers, f": {"krum", "multi_krum", "bulyan", "trimmed_mean", "dnc", "nnm"},
    "memory of earlier rounds": {"centred_clip", "foolsgold", "fldetector", "fedavgm", "fedadam"},
    "clean images of the server's own": {"fltrust"},
    "to run the models": {"deepsight"},
}


@pytest.mark.parametrize("attack", built_in("attacks"))
def test_what_attackers_know_is_what_their_steps_are_handed(attack):
    wanted = next((more for more, names in KNOW.items() if attack in names), "")
    assert known_besides(declaration("attacks", attack)) == wanted


@pytest.mark.parametrize("strategy", built_in("strategies"))
def test_what_a_defence_needs_is_what_it_asks_for(strategy):
    assert set(needed_besides(declaration("strategies", strategy))) == {
        more for more, names in NEED.items() if strategy in names
    }


def test_a_run_says_what_its_settings_make_of_it():
    run = Experiment(malicious=2, attack="patch+min_max", strategy="clip+krum")
    attackers, server = threat_model([run])
    assert attackers.endswith("the global model; min_max: every client's update.")
    assert server == "The server needs the clients' updates; krum: an assumed number of attackers, f."
    attackers, _ = threat_model([run.changed(min_max_knows="own")])
    assert attackers.endswith("; min_max: each other's updates.")
    assert threat_model([Experiment(malicious=0)]) == ["The server needs the clients' updates."]
    both = threat_model(
        [Experiment(malicious=1, attack="blend"), Experiment(malicious=2, attack="ipm", strategy="fltrust")]
    )
    assert both[0].endswith("the global model; ipm: every client's update.") and "fltrust: clean images" in both[1]


def test_the_list_says_it_of_each_plug_in():
    console = Console(width=400, record=True)
    with console.capture() as shown:
        print_list(console)
    lines = {line.split()[0]: line for line in shown.get().splitlines() if line.strip()}
    assert "Knows every client's update." in lines["mimic"] and "Knows" not in lines["patch"]
    assert "Needs an assumed number of attackers, f." in lines["bulyan"] and "Needs" not in lines["median"]
    assert "Needs clean images of the server's own, to run the models." in lines["nad"]
