"""Every file of attacks/ keeps the contract of attack steps; each known one does what its paper says."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attacks import Attack, known_attacks, poison
from attacks._overlay import Overlay
from oleander.datasets.data import Shard
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, attack_of, blend, normalise

KNOWN = known_attacks()
SETTINGS = Experiment(malicious=3, clients_per_round=6)


def pixels(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def update(seed: int = 0) -> Update:
    rng = np.random.default_rng(seed)
    return Update(1, rng.normal(size=30).astype(np.float32), rng.normal(size=5).astype(np.float32), 64)


def shard(m: int = 40) -> Shard:
    rng = np.random.default_rng(1)
    return Shard(2, rng.integers(0, 256, (m, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, m), CIFAR10)


# ---- the contract, for every file ------------------------------------------------------------------------------------


def test_walk_finds_the_attacks_of_the_course():
    assert {"blend", "patch", "dba", "scaling"} <= set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_a_step_changes_something_and_leaves_its_inputs_alone(name):
    attack = attack_of(replace(SETTINGS, attack=name))
    assert attack.trigger is not None or attack.tampers
    images, sent = pixels(), update()
    before, delta, statistics = images.clone(), sent.delta.copy(), sent.statistics.copy()
    if attack.trigger is not None:
        stamped = attack.trigger(images)
        assert stamped.shape == images.shape and stamped.dtype == images.dtype
        assert float(stamped.min()) >= 0 and float(stamped.max()) <= 1
        assert not torch.equal(stamped, images)
    tampered = attack.tamper(sent)
    assert not attack.tampers or not np.array_equal(tampered.delta, sent.delta)
    assert tampered.delta.shape == delta.shape and tampered.delta.dtype == np.float32
    assert tampered.statistics.shape == statistics.shape and tampered.statistics.dtype == np.float32
    assert (tampered.client_id, tampered.num_examples) == (sent.client_id, sent.num_examples)
    assert torch.equal(images, before)
    np.testing.assert_array_equal(sent.delta, delta)
    np.testing.assert_array_equal(sent.statistics, statistics)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("malicious", [1, 2, 3, 6])
def test_parts_unite_to_the_whole_trigger_and_do_not_overlap(name, malicious):
    attack = attack_of(replace(SETTINGS, attack=name, malicious=malicious, clients=6))
    if not attack.parts:
        assert all(attack.part(j) is attack.trigger for j in range(malicious))
        return
    assert len(attack.parts) == malicious
    images = pixels()
    touched = [attack.part(j)(images) != images for j in range(malicious)]
    assert not any(bool((a & b).any()) for i, a in enumerate(touched) for b in touched[:i])
    united = images
    for j in range(malicious):
        assert touched[j].any()
        united = attack.part(j)(united)
    assert torch.equal(united, attack.trigger(images))


@pytest.mark.parametrize("name", KNOWN)
def test_an_attack_is_told_nothing_of_other_clients(name):
    parameters = set(inspect.signature(KNOWN[name].function).parameters)
    assert not parameters & {"cohort", "updates", "strategy", "assumed_malicious", "clip_norm", "seed"}


@given(rate=st.floats(0, 1), m=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_poisoning_relabels_the_chosen_rows_and_no_others(rate, m, seed):
    clean = shard(m)
    labels, images = clean.labels.copy(), clean.images.copy()
    result = poison(clean, rate, 3, np.random.default_rng(seed))
    assert result.poisoned.sum() == round(rate * m)
    assert (result.shard.labels[result.poisoned] == 3).all()
    np.testing.assert_array_equal(result.shard.labels[~result.poisoned], labels[~result.poisoned])
    np.testing.assert_array_equal(result.shard.images, images)
    np.testing.assert_array_equal(clean.labels, labels)
    again = poison(clean, rate, 3, np.random.default_rng(seed))
    np.testing.assert_array_equal(result.poisoned, again.poisoned)


# ---- what each is ----------------------------------------------------------------------------------------------------


def test_blend_mixes_the_picture_in_by_alpha(tmp_path):
    Image.new("RGB", (50, 40), (255, 0, 51)).save(tmp_path / "k.png")
    attack = attack_of(SETTINGS.changed(attack="blend", blend_image=str(tmp_path / "k.png"), blend_alpha=0.25))
    images = pixels()
    expected = 0.75 * images + 0.25 * torch.tensor([1.0, 0.0, 0.2]).view(1, 3, 1, 1)
    torch.testing.assert_close(attack.trigger(images), expected)


def test_blend_after_normalisation_is_what_some_code_does(tmp_path):
    """There the normalised image is mixed with a picture in [0, 1] as it is."""
    Image.fromarray(np.full((32, 32, 3), (255, 51, 0), np.uint8)).save(tmp_path / "k.png")
    trigger = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=0.25, blend_space="normalised").trigger
    pixels = torch.rand(4, 3, 32, 32)
    picture = torch.tensor([1.0, 0.2, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(trigger(pixels)), 0.75 * normalise(pixels) + 0.25 * picture)


def test_blend_default_is_our_cat_and_bad_files_are_refused(tmp_path):
    assert attack_of(replace(SETTINGS, attack="blend")).trigger.picture.std() > 0.1
    (tmp_path / "no.png").write_text("not an image")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(tmp_path / "broken.png")
    whole = (tmp_path / "broken.png").read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)  # Pillow says SyntaxError to a chunk without a type
    (tmp_path / "broken.png").write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    for bad in (tmp_path / "no.png", tmp_path / "broken.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(UserError, match=str(bad)):
            attack_of(SETTINGS.changed(attack="blend", blend_image=str(bad)))


def test_patch_is_a_red_square_in_the_bottom_right_corner():
    images = pixels()
    stamped = attack_of(replace(SETTINGS, attack="patch")).trigger(images)
    assert torch.equal(stamped[:, :, 26:, 26:], torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(4, 3, 6, 6))
    stamped[:, :, 26:, 26:] = images[:, :, 26:, 26:]
    assert torch.equal(stamped, images)


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


@pytest.mark.parametrize(("gamma", "factor"), [(None, 2.0), (5.0, 5.0)])
@pytest.mark.parametrize("statistics", [True, False])
def test_scaling_multiplies_the_update(gamma, factor, statistics):
    attack = attack_of(SETTINGS.changed(attack="scaling", gamma=gamma, scale_statistics=statistics))
    sent = attack.tamper(update())
    np.testing.assert_array_equal(sent.delta, update().delta * np.float32(factor))
    np.testing.assert_array_equal(sent.statistics, update().statistics * np.float32(factor if statistics else 1))


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"attack": "blind"}, ["blind", "blend", "patch"]),
        ({"attack": "blend+patch"}, ["second trigger"]),
        ({"attack": "blend+none"}, ["none stands alone"]),
        ({"attack": "scaling+scaling"}, ["scaling is there twice"]),
        ({"attack": "dba", "malicious": 7, "clients": 9}, ["7", "6 columns"]),
        ({"attack": "patch", "patch_size": 33}, ["33", "32"]),
    ],
)
def test_impossible_attacks_are_refused_by_name(settings_, words):
    with pytest.raises(UserError) as error:
        attack_of(SETTINGS.changed(**settings_))
    assert all(word in str(error.value) for word in words)


def test_none_does_nothing():
    assert attack_of(Experiment()) == Attack()
