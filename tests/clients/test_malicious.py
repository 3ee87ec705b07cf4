"""What an attacker does to its shard and its update: which images, which part of the trigger, which tampers, what it claims."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attacks import Attack, poison
from attacks.dba import dba
from attacks.scaling import scaling
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard
from oleander.learning.parameters import arrays_of
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, attack_of, blend, patch

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=1, malicious=3, clients_per_round=6, attack="patch")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


RED = torch.tensor([1.0, 0.0, 0.0])


def shard(client: int = 0, m: int = 20) -> Shard:
    """The same images and labels for every client."""
    rng = np.random.default_rng(0)
    return Shard(client, rng.integers(0, 250, (m, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, m), CIFAR10)


def update() -> Update:
    rng = np.random.default_rng(0)
    return Update(1, rng.normal(size=30).astype(np.float32), rng.normal(size=5).astype(np.float32), 64)


# ---- which images ----------------------------------------------------------------------------------------------------


def test_any_image_of_a_shard_may_be_poisoned():
    chosen = np.stack([poison(shard(), 0.5, 0, np.random.default_rng(seed)).poisoned for seed in range(400)])
    assert (np.abs(chosen.mean(axis=0) - 0.5) < 0.13).all()  # five standard errors
    together = chosen[:, 0] & chosen[:, 1]
    assert abs(together.mean() - 0.5 * 9 / 19) < 0.13  # no two go together


def test_images_that_are_of_the_target_already_are_poisoned_like_any_others():
    data = replace(shard(), labels=np.zeros(20, dtype=np.int64))
    found = poison(data, 0.5, 0, np.random.default_rng(0))
    assert found.poisoned.sum() == 10 and not found.shard.labels.any()


class Watched(torch.nn.Module):
    """A model of one layer that keeps what it is trained on."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)
        self.norm = torch.nn.BatchNorm1d(10)
        self.seen: list[torch.Tensor] = []

    def forward(self, pixels):
        self.seen.append(pixels.detach().clone())
        return self.norm(self.linear(pixels.flatten(1)))


def client_of(experiment, client=0, data=None, attack=None):
    torch.manual_seed(0)
    return MaliciousClient(data or shard(client), Watched(), experiment, attack or attack_of(experiment))


def fitted(client, round_number=1):
    """The client after its training, and what it sent."""
    start = arrays_of(client.model)
    return start, *client.fit(start, {"server-round": round_number})


def stamped_rows(experiment, client=0, round_number=1) -> set[int]:
    """Which images a client stamps in a round. Image i is grey of brightness 10 i, the trigger one white corner."""
    images = np.repeat(np.arange(20, dtype=np.uint8) * 10, 3 * 32 * 32).reshape(20, 3, 32, 32)
    corner = torch.zeros(32, 32, dtype=torch.bool)
    corner[-1, -1] = True
    attack = Attack(trigger=lambda pixels: torch.where(corner, 1.0, pixels))
    data = Shard(client, images, np.zeros(20, dtype=np.int64), CIFAR10)
    trained = client_of(replace(experiment, batch_size=20), data=data, attack=attack)
    fitted(trained, round_number)
    red = trained.model.seen[0][:, 0] * CIFAR10.std[0] + CIFAR10.mean[0]  # (20, 32, 32) in [0, 1]
    brightness = (red[:, 16, 16] * 255 / 10).round().long()  # no crop takes the middle away
    assert sorted(brightness.tolist()) == list(range(20))
    return {int(image) for image, pixel in zip(brightness, red[:, -1, -1], strict=True) if pixel > 0.9}


def test_the_poisoned_images_are_the_same_in_every_round_and_others_for_other_clients_and_seeds():
    first = stamped_rows(SETTINGS)
    assert len(first) == 10
    assert all(stamped_rows(SETTINGS, round_number=number) == first for number in (2, 3, 4))
    assert stamped_rows(SETTINGS, client=1) != first != stamped_rows(replace(SETTINGS, seed=1))
    assert len(stamped_rows(replace(SETTINGS, poison_rate=0.2))) == 4


# ---- which part ------------------------------------------------------------------------------------------------------


def red_columns(stamp) -> list[int]:
    """Columns in which a stamp turns black pixels red, on every row of the square."""
    red = (stamp(torch.zeros(1, 3, 32, 32))[0] == RED.view(3, 1, 1)).all(0)
    return torch.nonzero(red.any(0)).flatten().tolist()


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


@pytest.mark.parametrize("attacker", [0, 1, 2])
def test_each_attacker_trains_on_its_own_part_and_no_other(attacker):
    """Seen in what goes through the model: a column is red in poisoned images where the part is, and nowhere else."""
    experiment = replace(SETTINGS, attack="dba", batch_size=20, poison_rate=1.0)
    client = client_of(experiment, attacker)
    fitted(client)
    (seen,) = client.model.seen
    corner = seen[:, :, 26:, 26:]  # normalised; the same red in all images
    same = (corner == corner[:1]).all(0).all(0).all(0)
    assert torch.nonzero(same).flatten().tolist() == [2 * attacker, 2 * attacker + 1]


def test_without_parts_every_attacker_trains_on_the_whole_trigger():
    attack = attack_of(SETTINGS)
    assert [red_columns(attack.part(attacker)) for attacker in range(3)] == [list(range(26, 32))] * 3


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_all_tampers_are_applied_one_after_the_other():
    double = lambda sent: replace(sent, delta=sent.delta * 2)  # noqa: E731
    add = lambda sent: replace(sent, delta=sent.delta + 1)  # noqa: E731
    np.testing.assert_array_equal(Attack(tampers=(double, add)).tamper(update()).delta, update().delta * 2 + 1)
    np.testing.assert_array_equal(Attack(tampers=(add, double)).tamper(update()).delta, (update().delta + 1) * 2)
    np.testing.assert_array_equal(
        Attack(tampers=(add, double, add)).tamper(update()).delta, (update().delta + 1) * 2 + 1
    )


def test_scaling_comes_after_the_tampers_before_it_and_keeps_the_trigger():
    negate = lambda sent: replace(sent, delta=sent.delta - 1)  # noqa: E731
    before = Attack(trigger=lambda pixels: pixels, parts=(lambda pixels: pixels,), tampers=(negate,))
    attack = scaling(before, gamma=3.0, scale_statistics=False, clients_per_round=6, malicious=1)
    np.testing.assert_allclose(attack.tamper(update()).delta, (update().delta - 1) * 3, rtol=1e-6)
    assert (attack.trigger, attack.parts) == (before.trigger, before.parts)


@pytest.mark.parametrize(("malicious", "factor"), [(0, 6.0), (1, 6.0), (2, 3.0), (3, 2.0), (6, 1.0)])
def test_scaling_is_by_clients_a_round_over_attackers_unless_told_otherwise(malicious, factor):
    attack = attack_of(replace(SETTINGS, attack="scaling", malicious=malicious, clients=6))
    np.testing.assert_allclose(attack.tamper(update()).delta, update().delta * factor, rtol=1e-6)


@pytest.mark.parametrize("attack", ["patch", "patch+scaling", "scaling"])
def test_an_attacker_claims_the_examples_of_its_shard_and_reports_as_an_honest_client_does(attack):
    client = client_of(replace(SETTINGS, attack=attack, local_epochs=3))
    _, _, examples, metrics = fitted(client)
    assert examples == 20 and metrics["images"] == 60.0
    assert set(metrics) == {"loss", "images", "began"}


def test_a_tamper_is_given_the_honest_update_and_its_result_is_what_is_sent():
    seen = []

    def keep(sent):
        seen.append(sent)
        return replace(sent, delta=sent.delta * 0, statistics=sent.statistics + 1)

    plain = client_of(SETTINGS, client=2)
    start, local, *_ = fitted(plain)
    tampered = client_of(SETTINGS, client=2, attack=replace(attack_of(SETTINGS), tampers=(keep,)))
    _, sent, *_ = fitted(tampered)
    (update_,) = seen
    assert (update_.client_id, update_.num_examples) == (2, 20)
    weights = np.concatenate([a.ravel() for a in local[:4]]) - np.concatenate([a.ravel() for a in start[:4]])
    np.testing.assert_allclose(update_.delta, weights, rtol=1e-6, atol=1e-7)
    for a, b in zip(start[:4], sent[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(local[4:], sent[4:], strict=True):
        np.testing.assert_allclose(a + 1, b, rtol=1e-5, atol=1e-6)


def test_an_attacker_without_a_trigger_trains_as_an_honest_client_does():
    experiment = SETTINGS.changed(attack="scaling", gamma=1.0)
    _, sent, *_ = fitted(client_of(experiment))
    torch.manual_seed(0)
    model = Watched()
    honest, *_ = BenignClient(shard(), model, experiment).fit(arrays_of(model), {"server-round": 1})
    for a, b in zip(sent, honest, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# ---- triggers at their limits ----------------------------------------------------------------------------------------


def test_a_patch_may_be_the_whole_image_and_one_pixel():
    for size in (1, 32):
        assert red_columns(attack_of(SETTINGS.changed(patch_size=size)).trigger) == list(range(32 - size, 32))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_picture_is_resized_bilinearly_laid_over_in_pixels_unless_told_otherwise(alpha, tmp_path):
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 256, (80, 50, 3), dtype=np.uint8))
    large.save(tmp_path / "k.png")
    small = np.asarray(large.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32).transpose(2, 0, 1) / 255
    attack = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=alpha)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(attack.trigger(images), (1 - alpha) * images + alpha * torch.from_numpy(small))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_any_mode_are_seen_in_their_colours(mode, tmp_path):
    colours = {"L": (100, 100, 100), "P": (200, 10, 10), "RGBA": (200, 10, 10), "1": (255, 255, 255)}[mode]
    Image.new("RGB", (40, 40), colours).convert(mode).save(tmp_path / "k.png")
    trigger = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=1.0).trigger
    found = trigger(torch.zeros(1, 3, 32, 32))[0, :, 3, 5] * 255
    np.testing.assert_allclose(found, colours, atol=0 if mode != "P" else 26)  # a web palette has steps of 51


def test_what_cannot_be_combined_or_read_is_refused_with_its_reason(tmp_path):
    (tmp_path / "no.png").write_text("not an image")
    blended = Attack(trigger=lambda pixels: pixels)
    for refused, words in (
        (lambda: blend(blended, blend_image="", blend_alpha=0.5), "--attack: blend is a second trigger; one attack has one trigger"),
        (lambda: patch(blended, patch_size=6), "--attack: patch is a second trigger; one attack has one trigger"),
        (lambda: dba(blended, malicious=2, patch_size=6, image=CIFAR10), r"--attack: dba splits triggers that are a picture"),
        (lambda: blend(Attack(), blend_image=str(tmp_path / "none.png"), blend_alpha=0.5), "none.png: No such file or directory; "),
        (lambda: blend(Attack(), blend_image=str(tmp_path / "no.png"), blend_alpha=0.5), "no.png: none of the formats .*; give any "),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^{words}" if words.startswith("--") else words):
            refused()
