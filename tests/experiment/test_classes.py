"""classes.json: who holds which classes, and what the final model answers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from oleander.experiment.classes import CLASSES, count_classes, read_classes, write_classes
from oleander.learning.evaluation import NO_CLASS, UNCOUNTED, Answers, Victims
from oleander.system.errors import UserError

DATASET = SimpleNamespace(
    classes=("cat", "dog", "<b>cow"), train_labels=np.array([0, 0, 1, 2, 2, 2]), test_labels=np.array([0, 1, 2, 1])
)
SHARDS = [np.array([0, 3, 4]), np.array([2, 5])]
ANSWERS = Answers(np.array([0, 1, NO_CLASS, 2]), np.array([UNCOUNTED, 0, 0, 1]))


def counted(victims=None, answers=ANSWERS):
    return count_classes(DATASET, 0, SHARDS, answers, victims)


def test_classes_are_counted_by_client_by_truth_and_by_answer():
    found = counted()
    assert found.shards == [[1, 0, 2], [0, 1, 1]]
    assert found.clean == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert found.victims == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]] and found.stamped


def test_victims_of_an_attacks_own_have_no_true_class_and_others_may_be_unstamped():
    own = Victims(np.array([0]), images=np.zeros((1, 1, 2, 2), np.uint8))
    assert counted(own, Answers(ANSWERS.clean, np.array([0]))).victims is None
    assert counted(None, Answers(ANSWERS.clean, None)).victims is None
    assert not counted(Victims(np.array([-1, 0, 0, 0]), stamped=False)).stamped


def test_what_is_written_is_read_and_what_is_not_there_is_none(tmp_path):
    assert read_classes(tmp_path) is None
    write_classes(tmp_path, counted())
    assert read_classes(tmp_path) == counted()


SPOILT = {
    "target": 3, "classes": [], "shards": [[1, 2]], "clean": [[1, 0, 0, 0]], "victims": [[0, 0, 0]] * 3, "stamped": "yes",
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_counts_that_do_not_fit_together_are_refused(tmp_path, name):
    write_classes(tmp_path, counted())
    whole = json.loads((tmp_path / CLASSES).read_text())
    (tmp_path / CLASSES).write_text(json.dumps(whole | {name: SPOILT[name]}))
    with pytest.raises(UserError, match=r"classes\.json"):
        read_classes(tmp_path)


def test_a_negative_or_huge_count_is_refused(tmp_path):
    for number in (-1, 2**41, 1.5, True):
        write_classes(tmp_path, counted())
        whole = json.loads((tmp_path / CLASSES).read_text())
        whole["shards"][0][0] = number
        (tmp_path / CLASSES).write_text(json.dumps(whole))
        with pytest.raises(UserError, match=r"classes\.json"):
            read_classes(tmp_path)
