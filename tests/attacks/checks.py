"""What every attack keeps to, as named checks of any ``Attack``; a file may say what it cannot keep: ``EXCEPT = {check: why}``."""

import copy
from dataclasses import replace

import numpy as np
import torch
from safetensors.numpy import load, save

from attacks import KNOWS, Attack, ask
from oleander.datasets.data import Shard
from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort, Update
from oleander.settings.config import SETTINGS as NAMES
from tests.attacks.made_up import SETTINGS, pixels
from tests.shards import shard
from tests.spaces import CIFAR10


def update() -> Update:
    """Of the model in ``World``."""
    rng = np.random.default_rng(0)
    return Update(1, rng.normal(size=30730).astype(np.float32), rng.normal(size=5).astype(np.float32), 64)


class World:
    """What an attacker knows, made anew each time from the same numbers."""

    def __init__(self, attack: Attack, *, first: bool = False) -> None:
        rng = torch.Generator().manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
        for weight in self.model.parameters():
            weight.data.copy_(torch.randn(weight.shape, generator=rng) * 0.01)
        self.start = [weight.detach().clone() for weight in self.model.parameters()]
        self.previous = None if first else [torch.randn(w.shape, generator=rng) * 0.01 for w in self.start]
        self.gradients = [torch.randn(w.shape, generator=rng) for w in self.start]
        self.shard: Shard = shard()
        self.memory = {name: np.array(kept) for name, kept in attack.memory.items()}

    def __call__(self, name: str):
        known = {"rng": np.random.default_rng(3), "attacker": 1, "train": self.trained}
        if name in known:
            return known[name]
        return getattr(self, name) if name in KNOWS else getattr(SETTINGS, name)

    def trained(self, data: Shard) -> Update:
        """Shorter than the update that is sent."""
        honest = update()
        return replace(honest, delta=honest.delta * np.float32(0.5)) if len(data.labels) else None

    def numbers(self) -> list[np.ndarray]:
        """All that nobody may change."""
        tensors = [*self.start, *(self.previous or []), *self.gradients, *(w.detach() for w in self.model.parameters())]
        return [t.numpy().copy() for t in tensors] + [self.shard.images.copy(), self.shard.labels.copy()] + [
            np.array(kept) for kept in self.memory.values()
        ]  # fmt: skip


def same(one, other) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def does_something(attack: Attack) -> None:
    """It has a trigger, or a step of some kind."""
    assert attack != Attack(), "it does nothing"


def asks_what_is_known(attack: Attack) -> None:
    """Its steps ask for nothing beyond the closed list and settings."""
    assert attack.asks <= {*KNOWS, *NAMES}


def trigger_is_pixels(attack: Attack) -> None:
    """The stamp keeps shape, type and range, changes something, and leaves its images alone."""
    if attack.trigger is None:
        return
    images = pixels()
    before = images.clone()
    stamped = attack.trigger(images)
    assert stamped.shape == before.shape and stamped.dtype == before.dtype and torch.equal(images, before)
    assert float(stamped.min()) >= 0 and float(stamped.max()) <= 1 and not torch.equal(stamped, before)


def tampers_keep_shapes(attack: Attack) -> None:
    """What is sent is a changed update of the same client, the same each time; the honest one is left alone."""
    sent, world = update(), World(attack)
    before = [sent.delta.copy(), sent.statistics.copy()]
    one, two = attack.tamper(sent, world), attack.tamper(update(), World(attack))
    assert same([one.delta, one.statistics], [two.delta, two.statistics]), "another result the second time"
    assert same([sent.delta, sent.statistics], before), "it changes the update that it is given"
    assert not attack.tampers or not same([one.delta], before[:1])
    for made, was in ((one.delta, before[0]), (one.statistics, before[1])):
        assert made.shape == was.shape and made.dtype == np.float32 and np.isfinite(made).all()
    assert (one.client_id, one.num_examples) == (sent.client_id, sent.num_examples)


def _hooked(attack: Attack, *, first: bool) -> list[np.ndarray]:
    """What the hooks make of one step: loss, gradients, weights."""
    world, found = World(attack, first=first), []
    for step in attack.training:
        before = world.numbers()
        hooks = ask(step, world)
        weights = [weight.clone().requires_grad_() for weight in world.start]
        if hooks.loss:
            loss = hooks.loss(torch.tensor(1.5, requires_grad=True), weights)
            assert loss.shape == () and torch.isfinite(loss)
            found.append(loss.detach().numpy())
        for hook, given in ((hooks.gradients, world.gradients), (hooks.weights, [w * 2 for w in world.start])):
            if hook:
                kept = [t.clone() for t in given]
                made = hook(given)
                assert [t.shape for t in made] == [t.shape for t in kept], "other shapes than the model's"
                assert all(map(torch.equal, given, kept)), "it changes what it is given"
                found += [t.detach().numpy() for t in made]
        assert same(world.numbers(), before), "it changes what it knows"
    return found


def hooks_are_pure(attack: Attack) -> None:
    """Hooks change neither the global models nor what they are given, keep shapes, and do the same twice."""
    assert same(_hooked(attack, first=False), _hooked(attack, first=False)), "another result the second time"


def first_round_has_no_previous(attack: Attack) -> None:
    """The first attacker of all has seen no model before."""
    _hooked(attack, first=True)


def adapt_is_pure(attack: Attack) -> None:
    """A new memory of the same kind, the same twice and through the state's file; model and old memory are left alone."""
    if attack.adapt is None:
        return
    for first in (True, False):
        world = World(attack, first=first)
        before = world.numbers()
        new = ask(attack.adapt, world)
        assert same(world.numbers(), before), "it changes what it knows"
        kinds = [{name: (np.shape(kept), kept.dtype) for name, kept in m.items()} for m in (new, attack.memory)]
        assert kinds[0] == kinds[1], "its memory has other names, shapes or types"
        through = load(save({name: np.ascontiguousarray(kept) for name, kept in attack.memory.items()}))
        again = World(attack, first=first)
        again.memory = {name: kept.reshape(attack.memory[name].shape) for name, kept in through.items()}
        second = ask(attack.adapt, again)
        assert all(same([new[name]], [second[name]]) for name in new), "another result the second time"
        assert all(np.isfinite(kept).all() for kept in new.values())
        trigger_is_pixels(replace(attack.remembering(new), adapt=None))


def cohort(others: float | None = None) -> Cohort:
    """Six clients, of which 1 and 4 are malicious; the others' updates may all be one number."""
    rng = np.random.default_rng(0)
    deltas, statistics = (rng.normal(size=(6, k)).astype(np.float32) for k in (30, 5))
    if others is not None:
        honest = [0, 2, 3, 5]
        deltas[honest], statistics[honest] = others, others
    state = ModelState(np.zeros(30, np.float32), np.zeros(5, np.float32))
    return Cohort(2, np.arange(6), deltas, statistics, np.full(6, 20), state)


def colluders_change_their_own(attack: Attack) -> None:
    """Only attackers' rows change, they stay finite, the same twice; unless omniscient, whatever the others send."""
    given, theirs = cohort(), np.isin(np.arange(6), [1, 4])
    met = attack.meet(given, {1, 4})
    assert same([given.deltas, given.statistics], [cohort().deltas, cohort().statistics]), "it changes what it is given"
    assert same([met.client_ids, met.num_examples], [given.client_ids, given.num_examples])
    assert same([met.deltas[~theirs], met.statistics[~theirs]], [given.deltas[~theirs], given.statistics[~theirs]])
    assert np.isfinite(met.deltas).all() and np.isfinite(met.statistics).all()
    again = attack.meet(cohort(), {1, 4})
    assert same([met.deltas, met.statistics], [again.deltas, again.statistics]), "another result the second time"
    if attack.colludes or attack.omniscient:
        assert not same([met.deltas], [given.deltas]), "it changes nothing"
    if not attack.omniscient:
        blind = attack.meet(cohort(np.nan), {1, 4})
        assert same([met.deltas[theirs], met.statistics[theirs]], [blind.deltas[theirs], blind.statistics[theirs]])


def choice_keeps_the_number(attack: Attack) -> None:
    """It trains on as many images as it has, labelled with classes; its shard is left alone; the same in every round."""
    if attack.choose is None:
        return
    world = World(attack)
    before = world.numbers()
    one, two = ask(attack.choose, world), ask(attack.choose, World(attack))
    assert same(world.numbers(), before), "it changes its shard"
    assert one.shard.images.shape == world.shard.images.shape and one.shard.images.dtype == np.uint8
    assert one.poisoned.shape == one.shard.labels.shape == world.shard.labels.shape and one.poisoned.dtype == bool
    assert one.shard.labels.dtype == np.int64 and ((one.shard.labels >= 0) & (one.shard.labels < 10)).all()
    assert same([one.shard.labels, one.poisoned], [two.shard.labels, two.poisoned]), "another choice the second time"


class Data:
    """A dataset as ``victims`` sees it."""

    test_images = np.random.default_rng(1).integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    test_labels = np.arange(30) % 10
    classes = tuple("abcdefghij")
    image = CIFAR10


def victims_have_a_wanted_label(attack: Attack) -> None:
    """Each image has a label that counts as success, or −1; a success is not what the image is anyway."""
    if attack.victims is None:
        return
    data = Data()
    before = copy.deepcopy([data.test_images, data.test_labels])
    found = attack.victims(data)
    assert same([data.test_images, data.test_labels], before)
    count = len(data.test_images if found.images is None else found.images)
    assert found.wanted.shape == (count,) and ((found.wanted >= -1) & (found.wanted < 10)).all()
    if found.images is None:
        assert not (found.wanted == data.test_labels).any(), "what an image is counts as success"
    else:
        assert found.images.dtype == np.uint8 and found.images.shape[1:] == data.test_images.shape[1:]


def parts_do_not_overlap(attack: Attack) -> None:
    """No pixel is in the parts of two attackers."""
    images = pixels(1).repeat(60, 1, 1, 1)  # more than a part has stamps of its own
    touched = [(part(images) != images).any(0) for part in attack.parts]
    assert not any(bool((a & b).any()) for i, a in enumerate(touched) for b in touched[:i])


CHECKS = {
    check.__name__: check
    for check in (
        does_something, asks_what_is_known, trigger_is_pixels, tampers_keep_shapes, hooks_are_pure,
        first_round_has_no_previous, adapt_is_pure, colluders_change_their_own, choice_keeps_the_number,
        victims_have_a_wanted_label, parts_do_not_overlap,
    )
}  # fmt: skip
