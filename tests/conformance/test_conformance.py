"""The vectors are what the definitions give, our rules keep to them, and the runner finds those that do not."""

import json

import numpy as np
import pytest

from conformance import make, peers
from conformance.__main__ import main
from conformance.ours import aggregate as ours
from conformance.runner import cases, loaded, tried


def test_the_vectors_are_what_the_exact_rules_give_today():
    for name, content in make.made().items():
        assert (make.FOLDER / f"{name}.json").read_text("utf-8") == make.text(content), name


def test_our_rules_agree_with_every_vector():
    verdicts = tried(ours)
    assert len(verdicts) > 900
    assert [verdict for verdict in verdicts if verdict.kind != "agrees"] == []


def test_our_influence_is_the_vectors_where_the_paper_gives_one():
    from oleander.learning.parameters import Layout
    from strategies import aggregate

    tried_out = 0
    for rule, case in cases(["krum", "multi_krum", "fltrust", "foolsgold", "fedavg"]):
        if "refused" in case or case["cohort"] == "layer":
            continue
        given, settings = case["given"], case["settings"]
        named = {"f": "assumed_malicious", "m": "multi_krum_m", "kappa": "foolsgold_kappa"}
        more = {named[name]: float(value) if name == "kappa" else value for name, value in settings.items()}
        updates = np.array(given["updates"], np.float32)
        layout = Layout(("linear.weight",), ((1, updates.shape[1]),), (True,))
        found = aggregate(
            rule, updates, num_examples=given["examples"], layout=layout, root=given["server_update"], **more
        )
        assert found.influence == pytest.approx(case["influence"], abs=1e-6), (rule, case["cohort"], settings)
        tried_out += 1
    assert tried_out > 200


def kinds(function, rule):
    return {verdict.kind for verdict in tried(function, [rule])}


def test_a_rule_that_is_not_the_papers_is_found():
    def krum(rule, updates, examples, settings, more):  # with a neighbour too many, and no bound
        n, f = len(updates), settings["f"]
        wide = updates.astype(np.float64)
        squares = ((wide[:, None] - wide[None]) ** 2).sum(axis=2)
        return updates[np.argmin(np.sort(squares, axis=1)[:, 1 : n - f].sum(axis=1))]

    def lower_median(rule, updates, examples, settings, more):
        return np.sort(updates, axis=0)[(len(updates) - 1) // 2]

    def float32_mean(rule, updates, examples, settings, more):
        return (updates * (examples[:, None] / np.float32(examples.sum())).astype(np.float32)).sum(
            axis=0, dtype=np.float32
        )

    assert {"differs", "accepts"} <= kinds(krum, "krum")
    assert "differs" in kinds(lower_median, "median")
    assert kinds(float32_mean, "fedavg") == {"agrees", "rounding"}


def test_ties_may_go_to_anybody_and_what_is_not_there_is_absent():
    def last(rule, updates, examples, settings, more):
        answers = [case for _, case in cases([rule]) if case["given"]["updates"] == updates.astype(float).tolist()]
        case = next(case for case in answers if case["settings"] == settings)
        if "refused" in case:
            raise ValueError(case["refused"])
        return case.get("ties", [case["aggregate"]])[-1]

    def nothing(rule, updates, examples, settings, more):
        raise NotImplementedError

    assert kinds(last, "krum") == {"agrees"}
    assert kinds(nothing, "krum") == {"absent"}


def test_an_adapter_that_is_broken_ends_the_run_and_counts_as_no_refusal():
    def broken(rule, updates, examples, settings, more):
        return updates.no_such_thing

    with pytest.raises(AttributeError):
        tried(broken, ["krum"])


def test_the_command_says_what_agrees_and_refuses_what_it_does_not_know(tmp_path, capsys):
    assert main(["median", "--json", str(tmp_path / "found.json")]) == 0
    assert "median         28 agrees" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "found.json").read_text())) == 28
    for words, said in (
        (["medain"], "no vectors of such a rule; there are alignins, bulyan, "),
        (["--with", "numpy"], "wanted module:function"),
        (["--with", "numpy:no_such"], "no_such"),
        (["--with", "no_such_module:f"], "no_such_module"),
        (["--with", "numpy:__version__"], "not a function"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    assert loaded("conformance.ours:aggregate") is ours


def test_the_page_is_made_of_the_results_that_lie_beside_it():
    assert peers.PAGE.read_text("utf-8") == peers.page()
    titles = [json.loads(file.read_text("utf-8"))["title"] for file in peers.RESULTS.glob("*.json")]
    assert len(titles) == len(peers.PEERS) + 1


def test_every_adapter_says_what_is_to_be_installed():
    for peer in peers.PEERS:
        assert {"PACKAGE", "TITLE"} <= peers.about(peer).keys()
