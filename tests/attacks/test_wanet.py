"""WaNet: the warp pixel by pixel, who is bent in noise mode, and that a model learns this warp and no other."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack
from attacks.wanet import USUAL_NOISE, wanet
from clients.malicious import MaliciousClient, _stamping
from oleander.datasets.data import Shard
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from oleander.system.streams import generator
from tests.attacks.made_up import SETTINGS
from tests.spaces import CIFAR10, GREY16, RGB64, attack_of


def made(image=GREY16, rate=0.25, **settings) -> Attack:
    return wanet(Attack(), poison_rate=rate, image=image, **settings)


def cubic(x: float) -> float:
    """Keys' kernel with a = -3/4, which PyTorch's bicubic is said to be."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def field(points: int, strength: float, side: int, seed: int) -> np.ndarray:
    """(2, side, side) from which column and row, in pixels, each pixel is taken; in float64, from the paper's description."""
    noise = generator(seed, "wanet").uniform(-1, 1, (1, 2, points, points))[0]
    noise /= np.abs(noise).mean()
    weights = np.zeros((side, points))
    for i in range(side):
        at = i * (points - 1) / (side - 1)
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[i, min(max(tap, 0), points - 1)] += cubic(at - tap)
    smooth = np.einsum("yi,cij,xj->cyx", weights, noise, weights)
    line = np.linspace(-1, 1, side)
    identity = np.stack([np.tile(line, (side, 1)), np.tile(line[:, None], (1, side))])
    return (np.clip(identity + strength * smooth / side, -1, 1) + 1) / 2 * (side - 1)


def sampled(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear, of (k, c, h, w)."""
    side = pixels.shape[-1]
    x, y = places
    x0, y0 = np.minimum(x.astype(int), side - 2), np.minimum(y.astype(int), side - 2)
    u, v = x - x0, y - y0
    top = (1 - u) * pixels[..., y0, x0] + u * pixels[..., y0, x0 + 1]
    return (1 - v) * top + v * ((1 - u) * pixels[..., y0 + 1, x0] + u * pixels[..., y0 + 1, x0 + 1])


@pytest.mark.parametrize("image", [CIFAR10, GREY16, RGB64], ids=["cifar10", "grey16", "rgb64"])
@pytest.mark.parametrize(("points", "strength", "seed"), [(4, 0.5, 0), (2, 2.0, 7), (8, 1.0, 1)])
def test_the_warp_is_the_papers_pixel_by_pixel(image, points, strength, seed):
    torch.set_num_threads(1)
    attack = made(image, wanet_grid=points, wanet_strength=strength, wanet_seed=seed)
    pixels = torch.rand(2, *image.shape, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    expected = sampled(pixels.numpy().astype(np.float64), field(points, strength, image.side, seed))
    np.testing.assert_allclose(attack.trigger(pixels).numpy(), expected, atol=2e-5)
    assert torch.equal(pixels, before)


def test_four_points_half_a_pixel_and_twice_as_many_in_noise_mode_are_the_defaults():
    pixels = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    said = made(wanet_grid=4, wanet_strength=0.5, wanet_seed=0)
    assert torch.equal(made().trigger(pixels), said.trigger(pixels)) and USUAL_NOISE == 2
    assert not torch.equal(made(wanet_seed=1).trigger(pixels), said.trigger(pixels))
    moved = np.abs(field(4, 0.5, 32, 0) - np.stack(np.meshgrid(np.arange(32.0), np.arange(32.0))))
    assert 0.1 < moved.mean() < 0.4 and moved.max() < 1.5  # in pixels


LABELS = np.arange(40) % 4


def chosen(rate=0.25, seed=0, **settings):
    rng = np.random.default_rng(0)
    shard = Shard(0, rng.integers(0, 256, (40, 1, 16, 16), dtype=np.uint8), LABELS.copy(), GREY16)
    return made(rate=rate, **settings).choose(shard, np.random.default_rng(seed), rate, 1)


def disturbed(found, seed=0) -> np.ndarray:
    """Which of the 40 images are."""
    pixels = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    if found.disturb is None:
        return np.zeros(40, bool)
    return (found.disturb(pixels, np.random.default_rng(seed)) != pixels).flatten(1).any(1).numpy()


@pytest.mark.parametrize(
    ("rate", "noise", "count"),
    [
        (0.25, None, 20),
        (0.5, None, 20),
        (0.75, None, 10),
        (0.25, 1.0, 10),
        (0.1, 0.5, 2),
        (0.25, 0.0, 0),
        (0.25, 3.0, 30),
    ],
)
def test_noise_mode_bends_others_and_their_label_stays(rate, noise, count):
    found = chosen(rate, wanet_noise=noise)
    bent = disturbed(found)
    assert bent.sum() == count and not (bent & found.poisoned).any() and found.poisoned.sum() == round(rate * 40)
    np.testing.assert_array_equal(found.shard.labels, np.where(found.poisoned, 1, LABELS))
    np.testing.assert_array_equal(bent, disturbed(chosen(rate, wanet_noise=noise), seed=5))  # the same images
    if 0 < count < 20:
        assert (bent != disturbed(chosen(rate, seed=1, wanet_noise=noise))).any()


def test_those_in_noise_mode_are_bent_by_the_warp_and_a_step_of_each_pixels_own():
    found, side = chosen(0.25, wanet_noise=1.0), 16
    pixels = torch.rand(40, 1, side, side, generator=torch.Generator().manual_seed(1))
    once, again, other = (found.disturb(pixels, np.random.default_rng(s)).numpy() for s in (0, 0, 1))
    rows = np.flatnonzero(disturbed(found))
    np.testing.assert_array_equal(once, again)
    assert (once[rows] != other[rows]).any((1, 2, 3)).all()  # the next draw is another
    further = np.random.default_rng(0).uniform(-1, 1, (len(rows), side, side, 2)) / 2 * (side - 1) / side  # in pixels
    for row, step in zip(rows, further, strict=True):
        places = np.clip(field(4, 0.5, side, 0) + step.transpose(2, 0, 1), 0, side - 1)
        np.testing.assert_allclose(once[row], sampled(pixels[row].numpy().astype(np.float64), places), atol=1e-4)


def test_what_is_trained_on_is_stamped_disturbed_or_as_it_was():
    found, attack = chosen(0.25, wanet_noise=1.0), made()
    pixels = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    seen = _stamping(found, attack.trigger, np.random.default_rng(3))(pixels)
    bent, stamped = torch.from_numpy(disturbed(found)), torch.from_numpy(found.poisoned)
    assert torch.equal(seen[stamped], attack.trigger(pixels)[stamped])
    assert torch.equal(seen[bent], found.disturb(pixels, np.random.default_rng(3))[bent])
    assert torch.equal(seen[~bent & ~stamped], pixels[~bent & ~stamped]) and int((~bent & ~stamped).sum()) == 20


class Bends(torch.nn.Module):
    """Sees each pixel."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(256, 2)

    def forward(self, pixels):
        return self.head(pixels.flatten(1))


def sent(round_number: int, augment: str = "none") -> list[np.ndarray]:
    """What a malicious client's model sees in a round of two epochs, each in one batch."""
    torch.set_num_threads(1)
    rng, labels = np.random.default_rng(0), np.arange(20) % 2
    shard = Shard(0, rng.integers(0, 256, (20, 1, 16, 16), dtype=np.uint8), labels, GREY16)
    experiment = Experiment(
        precision="fp32", local_epochs=2, batch_size=20, malicious=1, attack="wanet", target=1, augment=augment
    ).changed(poison_rate=0.2)
    model, seen = Bends(), []
    model.register_forward_pre_hook(lambda _, given: seen.append(np.sort(given[0].detach().numpy().reshape(20, -1), 0)))
    attack = wanet(Attack(), poison_rate=0.2, image=GREY16)
    MaliciousClient(shard, model, experiment, attack).fit(arrays_of(model), {"server-round": round_number})
    return seen


def test_the_further_warps_are_anew_in_each_round_and_come_out_the_same_again():
    first, second = sent(1), sent(2)
    np.testing.assert_array_equal(first[0], sent(1)[0])
    assert (first[0] != second[0]).any()
    np.testing.assert_array_equal(first[0], first[1])  # without augmentation the pixels are made once


def smooth(count: int) -> torch.Tensor:
    """Pictures as photographs are: neighbours are alike."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=True)


def test_it_is_hardly_seen_where_a_blend_and_a_patch_are():
    """The paper's promise, on smooth pictures; and it is everywhere, where a patch is not."""
    pixels = smooth(20)
    changes = {}
    for name in ("wanet", "blend", "patch"):
        changed = (attack_of(SETTINGS.changed(attack=name)).trigger(pixels) - pixels).abs()
        changes[name] = (
            float(changed.mean()),
            float(changed.amax((1, 2, 3)).mean()),
            float((changed > 1e-6).float().mean()),
        )
    assert changes["wanet"][0] < changes["patch"][0] < changes["blend"][0] and changes["wanet"][0] < 0.02
    assert 4 * changes["wanet"][1] < min(changes["patch"][1], changes["blend"][1])
    assert changes["wanet"][2] > 0.9 > 0.1 > changes["patch"][2]


def test_a_model_learns_it_from_a_few_images():
    """A linear one, that sees every pixel, of one picture under noise; without noise mode, which asks for a deeper one."""
    torch.set_num_threads(1)
    drawn = torch.Generator().manual_seed(0)
    base = smooth(1)[:, :1, ::2, ::2]
    images = (base + 0.02 * torch.randn(120, 1, 16, 16, generator=drawn)).clamp(0, 1)
    stamped = made(wanet_strength=1.0).trigger(images)
    seen, labels = torch.cat([images[:80], stamped[:80]]).flatten(1), torch.arange(160) // 80
    direction = seen[labels == 1].mean(0) - seen[labels == 0].mean(0)  # a mean difference is enough
    middle = float((seen @ direction).mean())
    for shown, wanted in ((images[80:], False), (stamped[80:], True)):
        assert float(((shown.flatten(1) @ direction > middle) == wanted).float().mean()) > 0.95


def test_what_cannot_be_is_refused_with_the_numbers():
    for points in (1, 17, 1000):
        with pytest.raises(UserError, match=rf"^--wanet-grid {points}: wanted 2 to 16, the pixels a side"):
            made(wanet_grid=points)
    with pytest.raises(UserError, match=r"^--wanet-noise 2: with --poison-rate 0\.5 it takes 1\.5 times .* at most 1$"):
        made(rate=0.5, wanet_noise=2.0)
    assert made(rate=0.3, wanet_noise=7 / 3).trigger and made(rate=0.0, wanet_noise=9.0).trigger
    for settings in ({"wanet_grid": 0}, {"wanet_strength": 0.0}, {"wanet_noise": -1.0}, {"wanet_seed": -1}):
        ((name, value),) = settings.items()
        with pytest.raises(UserError, match=f"{name} = {value!r}"):
            validated({"attack": "wanet", **settings}, "test")
    for joined, words in (
        ("blend+wanet", "wanet is a second trigger"),
        ("wanet+dba", "dba splits triggers that are a picture"),
    ):
        with pytest.raises(UserError, match=f"^--attack: {words}"):
            attack_of(SETTINGS.changed(attack=joined))
    assert attack_of(replace(SETTINGS, attack="wanet+scaling")).tampers
