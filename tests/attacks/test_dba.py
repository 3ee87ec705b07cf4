"""DBA: a picture split among the attackers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks._overlay import Overlay
from attacks.dba import dba
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS, red_columns
from tests.spaces import CIFAR10, attack_of


@pytest.mark.parametrize(
    ("malicious", "widths"), [(1, [6]), (2, [3, 3]), (3, [2, 2, 2]), (4, [2, 2, 1, 1]), (6, [1] * 6)]
)
def test_dba_splits_the_square_into_columns_as_equal_as_possible(malicious, widths):
    attack = attack_of(replace(SETTINGS, attack="dba", malicious=malicious))
    assert [len(part.columns()) for part in attack.parts] == widths


def test_dba_splits_a_blend_image_into_bands():
    attack = attack_of(replace(SETTINGS, attack="blend+dba"))
    assert [len(part.columns()) for part in attack.parts] == [11, 11, 10]
    assert isinstance(attack.trigger, Overlay)


@pytest.mark.parametrize("size", [3, 6, 8])
def test_dbas_parts_go_from_left_to_right_by_attacker_in_a_square_of_the_size_that_is_set(size):
    attack = attack_of(SETTINGS.changed(attack="dba", patch_size=size))
    columns = [red_columns(attack.part(attacker)) for attacker in range(3)]
    assert [column for part in columns for column in part] == list(range(32 - size, 32))
    stamped = attack.trigger(torch.zeros(1, 3, 32, 32))[0, 0]
    assert stamped[32 - size :, 32 - size :].all() and int(stamped.sum()) == size * size


def test_a_blends_parts_go_from_left_to_right_too():
    attack = attack_of(SETTINGS.changed(attack="blend+dba", blend_alpha=1.0))
    grey = torch.full((1, 3, 32, 32), 0.123)
    columns = [torch.nonzero((attack.part(j)(grey) != grey)[0].any(0).any(0)).flatten().tolist() for j in range(3)]
    assert columns == [list(range(11)), list(range(11, 22)), list(range(22, 32))]


def test_a_trigger_that_adapts_is_not_split():
    before = attack_of(SETTINGS.changed(attack="patch"))
    adapting = replace(before, memory={"kept": np.zeros(1)}, shaped=lambda memory: before.trigger)
    with pytest.raises(UserError, match="--attack: dba splits a trigger that stays as it is"):
        dba(adapting, malicious=2, patch_size=6, image=CIFAR10)


def test_more_attackers_than_parts_take_them_in_turn():
    attack = attack_of(SETTINGS.changed(attack="dba", malicious=8, dba_parts=3))
    assert [red_columns(attack.part(j)) for j in range(8)] == [red_columns(attack.part(j % 3)) for j in range(8)]
    assert sorted(c for j in range(3) for c in red_columns(attack.part(j))) == list(range(26, 32))
    assert attack_of(SETTINGS.changed(attack="dba", malicious=0, dba_parts=3)).parts == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"malicious": 7},
            r"^--attack dba: 7 malicious clients, but the trigger has only 6 columns to split \(--dba-parts 6 or fewer",
        ),
        ({"malicious": 9, "dba_parts": 7}, r"^--dba-parts 7, but the trigger has only 6 columns to split$"),
        (
            {"malicious": 2, "dba_parts": 3},
            r"^--dba-parts 3: more than --malicious 2, so that a part would be nobody's$",
        ),
    ],
)
def test_parts_that_nobody_could_have_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        attack_of(SETTINGS.changed(attack="dba", **changes))
