"""Attacks put together from several: what goes together, in which order, and what is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from attacks import Attack
from attacks.dba import dba
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS, update
from tests.spaces import CIFAR10, attack_of, blend, patch


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"attack": "blind"}, ["blind", "blend", "patch"]),
        ({"attack": "blend+patch"}, ["second trigger"]),
        ({"attack": "blend+none"}, ["none stands alone"]),
        ({"attack": "scaling+scaling"}, ["scaling is there twice"]),
        ({"attack": "dba", "malicious": 7, "clients": 9}, ["7", "6 columns"]),
        ({"attack": "patch", "patch_size": 33}, ["33", "32"]),
        ({"attack": "ipm+scaling"}, ["--attack ipm+scaling: scaling changes", "(ipm)", "wanted scaling before ipm"]),
        ({"attack": "patch+min_max+fit_norm"}, ["fit_norm changes", "wanted fit_norm before min_max"]),
        ({"attack": "patch+alie+pgd", "malicious": 2, "alie_z": 0.5}, ["pgd changes", "wanted pgd before alie"]),
    ],
)
def test_impossible_attacks_are_refused_by_name(settings_, words):
    with pytest.raises(UserError) as error:
        attack_of(SETTINGS.changed(**settings_))
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("joined", ["patch+scaling+alie", "patch+pgd+ipm", "poisonedfl+fit_norm", "alie+neurotoxin"])
def test_what_comes_before_attackers_agree_or_is_still_there_afterwards_is_not_refused(joined):
    z = {"alie_z": 0.5} if "alie" in joined else {}
    assert attack_of(SETTINGS.changed(attack=joined, malicious=2, **z)).colludes or "ipm" in joined


def test_none_does_nothing():
    assert attack_of(Experiment()) == Attack()


def test_all_tampers_are_applied_one_after_the_other():
    double = lambda sent: replace(sent, delta=sent.delta * 2)  # noqa: E731
    add = lambda sent: replace(sent, delta=sent.delta + 1)  # noqa: E731
    np.testing.assert_array_equal(Attack(tampers=(double, add)).tamper(update()).delta, update().delta * 2 + 1)
    np.testing.assert_array_equal(Attack(tampers=(add, double)).tamper(update()).delta, (update().delta + 1) * 2)
    np.testing.assert_array_equal(
        Attack(tampers=(add, double, add)).tamper(update()).delta, (update().delta + 1) * 2 + 1
    )


def test_what_cannot_be_combined_or_read_is_refused_with_its_reason(tmp_path):
    (tmp_path / "no.png").write_text("not an image")
    blended = Attack(trigger=lambda pixels: pixels)
    for refused, words in (
        (lambda: blend(blended, blend_image="", blend_alpha=0.5), "--attack: blend is a second trigger; one attack has one trigger"),
        (lambda: patch(blended, patch_size=6), "--attack: patch is a second trigger; one attack has one trigger"),
        (lambda: dba(blended, malicious=2, patch_size=6, image=CIFAR10), r"--attack: dba splits triggers that are a picture \(patch"),
        (lambda: blend(Attack(), blend_image=str(tmp_path / "none.png"), blend_alpha=0.5), "none.png: No such file or directory; "),
        (lambda: blend(Attack(), blend_image=str(tmp_path / "no.png"), blend_alpha=0.5), "no.png: none of the formats .*; give any "),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^{words}" if words.startswith("--") else words):
            refused()
