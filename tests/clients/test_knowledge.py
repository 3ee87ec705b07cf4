"""What a malicious client hands to its attack's steps, and what its attack makes of its training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import KNOWS, Attack, PoisonedShard
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.learning.parameters import Layout, arrays_of
from oleander.learning.training import Hooks
from oleander.settings.config import Experiment
from oleander.transport.attackers import Told
from tests.shards import shard

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=1, malicious=2, attack="patch", target=7)


pytestmark = pytest.mark.usefixtures("one_thread")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)
        self.norm = torch.nn.BatchNorm1d(10)

    def forward(self, pixels):
        return self.norm(self.linear(pixels.flatten(1)))


def fitted(attack, told=None, round_number=3, attacker=1, kind=MaliciousClient):
    model = Small()
    client = kind(shard(), model, SETTINGS, *(() if kind is BenignClient else (attack, told, attacker)))
    start = arrays_of(model)
    sent, *_ = client.fit(start, {"server-round": round_number})
    return client, start, sent


def test_a_step_gets_all_that_an_attacker_knows():
    seen = {}

    def look(memory, start, previous, model, shard, rng, attacker, train):
        seen.update(locals())
        seen["drawn"] = rng.random()
        return Hooks()

    count = sum(weight.numel() for weight in Small().parameters())
    told = Told({"kept": np.array(4)}, np.arange(count, dtype=np.float32))
    client, *_ = fitted(Attack(training=(look,), memory={"kept": np.array(3)}), told)
    assert seen.keys() >= set(KNOWS) and seen["memory"]["kept"] == 4 and seen["attacker"] == 1
    assert seen["model"] is client.model and seen["shard"] is client.shard
    for weight, before in zip(seen["start"], Small().parameters(), strict=True):
        assert torch.equal(weight, before)
    np.testing.assert_array_equal(torch.cat([w.flatten() for w in seen["previous"]]).numpy(), told.previous)
    first = seen["drawn"]
    fitted(Attack(training=(look,)))
    assert seen["drawn"] == first and seen["previous"] is None
    fitted(Attack(training=(look,)), round_number=4)
    assert seen["drawn"] != first


def test_train_is_an_honest_clients_training_and_leaves_the_attackers_own_alone():
    honest = fitted(None, kind=BenignClient)
    layout = Layout.of(Small())
    start, end = layout.flatten(honest[1]), layout.flatten(honest[2])
    found = []

    def both(update, *, train, start):
        found.extend([train(shard()), [w.clone() for w in start]])
        return update

    _, _, sent = fitted(
        Attack(
            tampers=(both,),
            choose=lambda shard: PoisonedShard(shard, np.zeros(20, bool)),
            training=(lambda train: train(shard()) and Hooks(),),
        )
    )
    np.testing.assert_allclose(found[0].delta, end.weights - start.weights, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found[0].statistics, end.statistics - start.statistics, rtol=1e-6, atol=1e-7)
    assert found[0].num_examples == 20
    for a, b in zip(sent, honest[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for weight, before in zip(found[1], Small().parameters(), strict=True):
        assert torch.equal(weight, before)  # also after the training


def test_only_the_one_that_is_told_adapts_and_it_trains_on_what_it_made():
    stamps = []

    def shaped(memory):
        return lambda pixels: stamps.append(float(memory["shade"])) or pixels * float(memory["shade"])

    attack = Attack(
        trigger=shaped({"shade": np.array(1.0)}), memory={"shade": np.array(1.0)}, shaped=shaped,
        adapt=lambda memory: {"shade": memory["shade"] / 2},
    )  # fmt: skip
    first, *_ = fitted(attack, Told({"shade": np.array(0.5)}, adapts=True))
    assert first.adapts and first.attack.memory["shade"] == 0.25 and set(stamps) == {0.25}
    stamps.clear()
    other, *_ = fitted(attack, Told({"shade": np.array(0.5)}))
    assert not other.adapts and set(stamps) == {0.5}
    assert not fitted(Attack(), Told(adapts=True))[0].adapts


def test_a_choice_gets_settings_and_the_same_generator_in_every_round():
    drawn = []

    def flip(shard, rng, target, attacker):
        drawn.append((rng.random(), target, attacker))
        return PoisonedShard(
            replace(shard, labels=np.full(len(shard.labels), target)), np.zeros(len(shard.labels), bool)
        )

    one, other = fitted(Attack(choose=flip), round_number=1)[2], fitted(Attack(choose=flip), round_number=9)[2]
    assert drawn[0] == drawn[1] and drawn[0][1:] == (7, 1)
    assert any(
        not np.array_equal(a, b) for a, b in zip(one, fitted(None, round_number=1, kind=BenignClient)[2], strict=True)
    )
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))  # other batches


def test_a_choice_of_fewer_images_is_an_error():
    def fewer(shard):
        return PoisonedShard(replace(shard, images=shard.images[1:], labels=shard.labels[1:]), np.zeros(19, bool))

    with pytest.raises(ValueError, match="chose 19 images of a shard of 20"):
        fitted(Attack(choose=fewer))
