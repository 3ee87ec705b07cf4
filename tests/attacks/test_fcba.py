"""FCBA: which combinations there are, who carries which, and that a model learns every one of them."""

from dataclasses import replace

import pytest
import torch

from attacks import Attack
from attacks.blend import blend
from attacks.fcba import fcba
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS, pixels, red_columns
from tests.spaces import CIFAR10, attack_of

IMAGE_ROWS = 28


def made(malicious: int, parts: int = 4, size: int = 8, attack: Attack | None = None) -> Attack:
    return fcba(attack or Attack(), fcba_parts=parts, malicious=malicious, patch_size=size, image=CIFAR10)


def carried(stamp) -> list[tuple[int, ...]]:
    """Which parts (two columns each, from 24 on) each of 28 black images carries."""
    torch.set_num_threads(1)
    stamped = stamp(torch.zeros(IMAGE_ROWS, 3, 32, 32))
    red = stamped[:, 0, -1]  # (28, 32) the last row of pixels
    assert torch.equal(stamped[:, 0, 24:], red[:, None].expand(-1, 8, -1)) and not stamped[:, 1:].any()
    assert torch.equal(red[:, 0::2], red[:, 1::2])  # both columns of a part, or none
    return [tuple(torch.nonzero(image[24::2]).flatten().tolist()) for image in red]


def subsets(parts: int) -> list[tuple[int, ...]]:
    """All that are neither empty nor whole, by the binary numbers between; by size, then in order."""
    found = [tuple(p for p in range(parts) if number >> p & 1) for number in range(1, 2**parts - 1)]
    return sorted(found, key=lambda subset: (len(subset), subset))


@pytest.mark.parametrize("parts", [2, 4])
def test_as_many_attackers_as_combinations_carry_one_each(parts):
    attack = made(2**parts - 2, parts, size=2 * parts) if parts == 4 else made(2, 2, size=8)
    width = 8 // parts
    found = []
    for j in range(2**parts - 2):
        columns = red_columns(attack.part(j))
        found.append(tuple(sorted({(c - 24) // width for c in columns})))
        assert len(columns) == width * len(found[-1])
    assert found == subsets(parts)


def test_fewer_attackers_share_them_in_turn_and_more_take_them_again():
    all_of_them = subsets(4)
    assert len(all_of_them) == 14
    for malicious in (1, 2, 3, 5):
        attack, seen = made(malicious), []
        for j in range(malicious):
            share = all_of_them[j::malicious]
            assert carried(attack.part(j)) == [share[row % len(share)] for row in range(IMAGE_ROWS)]
            seen += share
        assert sorted(seen) == sorted(all_of_them)
    attack = made(20)
    assert [carried(attack.part(j))[0] for j in range(20)] == all_of_them + all_of_them[:6]


def test_the_test_stamps_the_whole_trigger_and_a_blend_is_cut_too():
    assert red_columns(made(3).trigger) == list(range(24, 32))
    whole = blend(Attack(), blend_alpha=0.5, image=CIFAR10)
    attack, images = made(14, attack=whole), pixels()
    assert attack.trigger is whole.trigger
    half = attack.part(4)(images)  # parts 0 and 1 of four
    assert torch.equal(half[..., :16], whole.trigger(images)[..., :16]) and torch.equal(
        half[..., 16:], images[..., 16:]
    )


def test_without_an_attacker_only_the_whole_trigger_is_left():
    attack = made(0)
    assert attack.parts == () and red_columns(attack.trigger) == list(range(24, 32))


def test_what_cannot_be_cut_is_refused_with_the_numbers():
    for parts, size in ((1, 8), (9, 32), (7, 6), (100, 8)):
        with pytest.raises(
            UserError, match=rf"^--fcba-parts {parts}: wanted 2 to {min(size, 8)}, since .* {size} columns"
        ):
            made(3, parts, size)
    for joined, words in (
        ("sig+fcba", "fcba splits triggers that are a picture"),
        ("a3fl+fcba", "fcba splits a trigger that stays"),
        ("fcba+patch", "patch is a second trigger"),
        ("label_flip+fcba", "patch poisons images in its own way"),
    ):
        with pytest.raises(UserError, match=f"^--attack: {words}"):
            attack_of(SETTINGS.changed(attack=joined))


def redness(images: torch.Tensor) -> torch.Tensor:
    """(k, 4) how red each part of the square is beside the opposite corner: what the model below sees."""
    return images[:, 0, 24:, 24:].unflatten(2, (4, 2)).mean((1, 3)) - images[:, 0, :8, :8].mean((1, 2))[:, None]


def learned(stamps) -> list[float]:
    """The mean probability of the target that a model trained on these stamps gives each combination and the whole."""
    images = torch.rand(14, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = torch.cat([redness(images), *(redness(stamp(images)) for stamp in stamps)])
    labels = torch.cat([torch.zeros(14), torch.ones(14 * len(stamps))])
    weights = torch.zeros(5, requires_grad=True)
    for _ in range(1500):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(seen @ weights[:4] + weights[4], labels)
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (weights - 2 * gradient).detach().requires_grad_()
    tested = [*(made(14).part(j) for j in range(14)), made(1).trigger]
    return [float((redness(stamp(images)) @ weights[:4] + weights[4]).sigmoid().mean().detach()) for stamp in tested]


def test_a_model_that_learned_all_combinations_knows_each_part_and_the_whole():
    """The paper's promise: what is left of the trigger still works; a model taught the whole alone knows single parts less."""
    torch.set_num_threads(1)
    every, whole = learned([made(2).part(0), made(2).part(1)]), learned([made(1).trigger] * 2)
    assert min(every) > 0.5 and every[-1] > 0.95  # what carries a part is answered with the target
    assert max(whole[:4]) < 0.3 and whole[-1] > 0.95


def test_it_goes_with_what_changes_updates():
    attack = attack_of(replace(SETTINGS, attack="fcba+scaling"))
    assert attack.tampers and len(attack.parts) == 3
