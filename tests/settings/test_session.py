"""A function of a Python session becomes a plug-in's file: with all that it uses, or not at all."""

import math
import types
from dataclasses import replace

import numpy as np
import pytest

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Positive
from oleander.settings.session import source_of, without_folders
from oleander.system.errors import UserError
from strategies.fedavg import fedavg

SCALE, NAMES, LISTED = 0.5, ("a", 1), [1]
OFTEN = math.inf


def half(values):
    return values * SCALE


def twice(values, by=SCALE * 4):
    return half(values) * by * len(NAMES)


class Kept:
    by = 1.0
    again = by

    def scale(self, values):
        return half(values) * self.by


def shrunk(cohort: Cohort, *, shrunk_by: Positive = 1.0) -> "Aggregate":
    """FedAvg, shrunk."""
    found = fedavg(cohort)
    return replace(found, delta=Kept().scale(twice(shrunk_by * found.delta)).astype(np.float32))


def around(beta):
    def closed(cohort: Cohort) -> Aggregate:
        """FedAvg of a closure."""
        return replace(fedavg(cohort), delta=beta)

    return closed


def counting(cohort: Cohort) -> Aggregate:
    """Counts."""
    global SCALE
    SCALE += 1
    return fedavg(cohort)


def listing(cohort: Cohort) -> Aggregate:
    """Remembers in a list of the session."""
    LISTED.append(1)
    return fedavg(cohort)


def lost(cohort: Cohort) -> Aggregate:
    """Names what is nowhere."""
    return fedavg(cohort, nowhere)  # noqa: F821


def endless(cohort: Cohort) -> Aggregate:
    """Has a value that no text comes to."""
    return fedavg(cohort, OFTEN)


def shown(cohort: Cohort) -> Aggregate:
    """Shows, as only a notebook can."""
    display(cohort)  # noqa: F821
    return fedavg(cohort)


def test_the_text_is_a_module_of_its_own_and_does_what_the_function_does():
    text = source_of(shrunk, "strategy=shrunk")
    module = types.ModuleType("own")
    exec(compile(text, "own.py", "exec"), module.__dict__)
    values = np.arange(4.0)
    assert (module.twice(values) == twice(values)).all() and (module.Kept().scale(values) == half(values)).all()
    for line in (
        "import numpy as np", "from strategies.fedavg import fedavg as fedavg", "SCALE = 0.5", "NAMES = ('a', 1)",
        "from oleander.settings.ranges import Positive as Positive",
    ):  # fmt: skip
        assert line in text.splitlines(), text
    assert "LISTED" not in text and "around" not in text  # what it does not use


def test_the_text_says_what_the_session_holds_at_the_time(monkeypatch):
    before = source_of(half, "x")
    monkeypatch.setitem(globals(), "SCALE", 2)
    assert source_of(half, "x") == before.replace("SCALE = 0.5", "SCALE = 2")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (around(2), "closed uses beta of the function around it"),
        (counting, "counting changes SCALE of the session"),
        (listing, "listing uses LISTED of the session, a list"),
        (lost, "lost uses nowhere, which a run does not have"),
        (endless, "endless uses OFTEN of the session, a float"),
        (shown, "shown uses display, which a run does not have"),
        (lambda cohort: cohort, "is no function with a name"),
        (np.mean, "is no function with a name"),
        (Kept(), "Kept is no function"),
    ],
)
def test_what_cannot_be_written_down_is_refused_by_name(function, words):
    with pytest.raises(UserError, match=words) as refused:
        source_of(function, "strategy=x")
    assert str(refused.value).startswith("strategy=x: ")


def test_a_source_that_is_no_longer_what_runs_is_refused():
    code = compile("def half(values):\n    return values - 1\n", half.__code__.co_filename, "exec")
    other = types.FunctionType(code.co_consts[0].replace(co_firstlineno=half.__code__.co_firstlineno), globals())
    other.__module__ = __name__
    with pytest.raises(UserError, match="no longer what it was made of"):
        source_of(other, "strategy=half")


def test_a_function_without_a_source_is_refused():
    scope = {"__name__": "__main__"}
    exec("def typed(cohort):\n    return cohort\n", scope)
    with pytest.raises(UserError, match=r"source of typed cannot be found.*\./typed\.py"):
        source_of(scope["typed"], "strategy=typed")


def test_where_the_files_of_a_session_lie_is_no_part_of_a_studys_name():
    assert without_folders("clip+/tmp/x1/python-session/my_rule.py") == "clip+my_rule"
    assert without_folders("clip+/home/me/my_rule.py") == "clip+/home/me/my_rule.py" and without_folders(3) == 3
