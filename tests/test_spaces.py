"""Grey and large images and a model of the test's own go through a whole run: nothing of it holds CIFAR-10's numbers."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict

import oleander.models
from attacks import attack_of
from clients.app import _dataset_of, fit
from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import open_dataset, stored, to_pixels
from oleander.datasets.folder import key_of, read_folder
from oleander.datasets.sources import load_dataset
from oleander.datasets.space import ImageSpace
from oleander.datasets.toy import TOY
from oleander.experiment.federation import client_config, federate
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder, read_rounds, read_summary, write_scenario
from oleander.experiment.samples import write_samples
from oleander.experiment.study import run_key
from oleander.learning import weights
from oleander.learning.training import augmented
from oleander.reports.gallery import read_samples
from oleander.reports.plots import draw_figures
from oleander.reports.webpage import write_run_page
from oleander.settings.cli import check_used, parse
from oleander.settings.config import Experiment, checked
from oleander.settings.declared import forget
from oleander.settings.registry import find
from oleander.system.errors import UserError
from tests.played_network import Network, Quiet
from tests.spaces import GREY16, GREY28, RGB64

TINY = '''
"""One convolution."""
from torch import nn
from oleander.datasets.space import ImageSpace

class Tiny(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))

def tiny(classes: int, image: ImageSpace) -> nn.Module:
    """One convolution."""
    return Tiny(classes, image.channels)
'''
ALL = {"grey16": GREY16, "grey28": GREY28, "rgb32": CIFAR10, "rgb64": RGB64}
ROOT = Path(__file__).parent.parent
SPACES = pytest.mark.parametrize("image", ALL.values(), ids=ALL)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A model that is registered for the test: a file in a folder of the package."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    where = oleander.models.__path__
    where.append(str(folder))
    forget(), find.cache_clear()
    yield "tiny"
    where.remove(str(folder))
    forget(), find.cache_clear(), weights._layout_of.cache_clear()


class Here(Network):
    """A grid whose clients are the project's own, in this process."""

    def _train(self, message, client):
        context = Context(1, client, {"partition-id": client}, RecordDict(), {})
        return fit(message, context)


class Listener(Quiet):
    def round_finished(self, record): ...

    def say(self, text): ...


def folder_as(root, image=CIFAR10):
    """A folder of images as they are in this space."""
    return stored(f"folder:{root.name}", key_of(root, image), lambda: read_folder(root, image), print)


def prepared(image, image_folder, **settings):
    """A run on a folder of images as they are in this space."""
    sources = Sources(lambda text: None)
    dataset = folder_as(image_folder, image)
    sources.dataset = lambda *asked: dataset
    asked = {"weights": "fresh", "clients": 3, "clients_per_round": 3, "rounds": 2, "samples_per_client": 12,
             "partition": "iid", "malicious": 2, "attack": "dba", "precision": "fp32", "client_threads": 1}  # fmt: skip
    return prepare(Experiment().changed(**asked | settings), sources)


@SPACES
@pytest.mark.parametrize("attack", ["dba", "blend+scaling", "sig", "neurotoxin+a3fl"])
def test_a_run_goes_from_poisoning_to_the_gallery(image, attack, tiny, image_folder, tmp_path, task):
    setup = prepared(image, image_folder, model=tiny, attack=attack)
    folder = RunFolder(tmp_path / "run")
    summary = federate(Here(3), setup, folder, Listener())
    records = read_rounds(folder.path)
    assert [r.round for r in records] == [0, 1, 2] and all(r.mta is not None and r.asr is not None for r in records)
    assert all(min(r.norms_before) > 0 for r in records[1:])
    samples = read_samples(folder.path)
    assert samples["clean"].shape[1:] == image.shape and samples["parts"].shape[2:] == image.shape
    folder.write_summary(summary)
    draw_figures(folder.path, summary)
    assert (folder.path / "figures" / "samples.svg").stat().st_size > 1000
    folder.release()


@SPACES
def test_samples_show_an_optimised_trigger_as_it_is_at_the_end(image, tiny, image_folder, tmp_path, task):
    """It was grey before the first round; the trigger that the scores of the last round are of is the attackers' last memory."""
    flags = {"model": tiny, "attack": "a3fl", "a3fl_size": 6, "a3fl_steps": 3, "a3fl_lr": 0.1, "batch_size": 4}
    setup = prepared(image, image_folder, **flags)
    grey = setup.attack.trigger(torch.zeros(1, *image.shape))
    folder = RunFolder(tmp_path / "run")
    federate(Here(3), setup, folder, Listener())
    samples = read_samples(folder.path)
    changed = (samples["whole"] != samples["clean"]).any(axis=(0, 1))
    square = samples["whole"][0, :, 2:8, 2:8]
    assert not changed[8:].any() and not changed[:, 8:].any() and not changed[:2].any()
    assert (np.abs(square.astype(int) - 128) > 3).any() and float(grey.max()) == 0.5
    assert (samples["parts"] == samples["whole"]).all()
    folder.release()


@SPACES
def test_a_run_without_an_asr_has_pages_and_figures_all_the_same(image, tiny, image_folder, tmp_path, task):
    setup = prepared(image, image_folder, model=tiny, attack="label_flip")
    folder = RunFolder(tmp_path / "run")
    summary = federate(Here(3), setup, folder, Listener())
    assert [record.asr for record in read_rounds(folder.path)] == [None] * 3 and summary.asr is None
    folder.write_summary(summary)
    assert read_summary(folder.path).baseline_asr is None and "whole" not in read_samples(folder.path)
    draw_figures(folder.path, summary)
    page = re.sub(r"<svg.*?</svg>", "", write_run_page(folder.path, summary).read_text(), flags=re.S)
    assert re.search(r"No ASR\b", page) and "ASR<b" not in page and not re.search(r">\s*(None|nan)\b", page)
    folder.release()


def test_samples_of_a_trigger_without_attackers_are_read_back(image_folder, tmp_path):
    """As scenario clean has them."""
    setup = prepared(GREY16, image_folder, attack="blend", malicious=0)
    write_samples(tmp_path, setup)
    assert read_samples(tmp_path)["parts"].shape == (0, len(setup.dataset.classes), *GREY16.shape)


@SPACES
def test_triggers_have_the_images_size_and_channels(image):
    pixels = torch.rand(2, *image.shape)
    experiment = Experiment(malicious=2)
    square = attack_of(experiment.changed(attack="patch"), image).trigger(pixels)
    colour = torch.tensor([1.0] if image.channels == 1 else [1.0, 0.0, 0.0]).view(-1, 1, 1)
    assert torch.equal(square[:, :, -6:, -6:], colour.expand(2, -1, 6, 6))
    assert torch.equal(square[:, :, :-6], pixels[:, :, :-6])
    largest = experiment.changed(attack="patch", patch_size=image.side)
    assert torch.equal(attack_of(largest, image).trigger(pixels), colour.expand(pixels.shape))
    with pytest.raises(UserError, match=f"--patch-size {image.side + 1}: .* {image.side} pixels wide"):
        attack_of(largest.changed(patch_size=image.side + 1), image)
    faded = attack_of(experiment.changed(attack="blend", blend_alpha=0.25, blend_space="normalised"), image).trigger
    plain = attack_of(experiment.changed(attack="blend", blend_alpha=1.0), image).trigger(pixels)
    assert float(plain[0].std()) > 0.1
    expected = 0.75 * image.normalise(pixels) + 0.25 * plain
    torch.testing.assert_close(image.normalise(faded(pixels)), expected)


@SPACES
def test_crops_are_padded_by_an_eighth(image):
    images = torch.ones(200, *image.shape, dtype=torch.uint8)
    kept = augmented(images, torch.Generator().manual_seed(0)).amax(dim=1)  # (m, h, w): 0 where padding came in
    lost = image.side - kept.amax(dim=2).sum(dim=1)  # (m,) rows
    assert int(lost.max()) == image.side // 8 and int(lost.min()) == 0


@SPACES
def test_folders_are_decoded_to_the_space_and_read_back_from_the_cache(image, image_folder):
    dataset = folder_as(image_folder, image)
    assert dataset.train_images.shape == (72, *image.shape) and dataset.image == image
    assert open_dataset(dataset.directory).image == image
    assert folder_as(image_folder, replace(image, mean=image.std)).directory != dataset.directory
    shard = dataset.shard(1, np.arange(3))
    assert shard.image == image and to_pixels(shard.images).shape == (3, *image.shape)


@SPACES
def test_size_and_channels_of_a_folders_images_are_settings(image, image_folder, tmp_path):
    asked = [
        "--dataset",
        f"folder:{image_folder}",
        "--image-size",
        str(image.side),
        "--image-channels",
        str(image.channels),
    ]
    flags = [
        "--samples-per-client",
        "8",
        "--clients",
        "3",
        "--clients-per-round",
        "2",
        "--weights",
        "fresh",
        "--data-dir",
    ]
    setup = prepare(parse([*asked, *flags, str(tmp_path)]), Sources(lambda text: None))
    assert setup.dataset.image.shape == image.shape and setup.dataset.train_images.shape[1:] == image.shape
    write_scenario(tmp_path / "config.toml", setup.experiment)
    again = prepare(parse(["--scenario", str(tmp_path / "config.toml")]), Sources(lambda text: None))
    assert run_key(again) == run_key(setup) and again.dataset.directory == setup.dataset.directory
    hello = client_config(setup) | {"dataset-directory": str(tmp_path / "not here")}  # a client of another machine
    told = Experiment.from_json(str(hello["experiment"]))
    assert _dataset_of({k: str(v) for k, v in hello.items()}, told, {}).fingerprint == setup.dataset.fingerprint


def test_a_folder_without_them_is_what_it_was_and_its_runs_keep_their_keys(image_folder):
    plain = prepared(CIFAR10, image_folder)
    dataset = load_dataset(f"folder:{image_folder}", "data", print)
    assert dataset.image == CIFAR10 and dataset.directory == plain.dataset.directory
    same = plain.experiment.changed(dataset=f"folder:{image_folder}")
    assert run_key(replace(plain, experiment=same)) == run_key(plain)
    assert {"image_size", "image_channels"} <= set(dict(same.own))
    assert run_key(replace(plain, experiment=same.changed(image_size=28))) != run_key(plain)


def test_a_grey_picture_is_the_luminance_of_a_coloured_one(image_folder):
    grey = load_dataset(f"folder:{image_folder}", "data", print, image_channels=1)
    coloured = load_dataset(f"folder:{image_folder}", "data", print)
    weights = np.array([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    assert np.abs((coloured.test_images * weights).sum(axis=1) - grey.test_images[:, 0]).max() <= 1


@pytest.mark.parametrize("dataset", ["auto", "digits", "mnist"])
def test_images_of_one_size_have_no_such_setting(dataset):
    for name, value in (("image_size", 28), ("image_channels", 1)):
        with pytest.raises(
            UserError, match=rf"--{name.replace('_', '-')} {value}: .* --dataset {dataset} does not use it"
        ):
            check_used({name: value}, [Experiment(dataset=dataset)])
    for value in (3, 513, 0, -1, 28.5, "28"):
        with pytest.raises(UserError, match=rf"image_size = .*{value}.* (must be|should be)"):
            checked({"image_size": value}, "here")


def test_a_shipped_checkpoint_fits_its_own_model_and_images_only(tiny, image_folder):
    dataset = replace(folder_as(image_folder), name="cifar10", classes=weights.CLASSES)
    assert weights.shipped_checkpoint("resnet18light", dataset).stem == "cifar10"
    assert weights.shipped_checkpoint(tiny, dataset) is None
    assert weights.shipped_checkpoint("resnet18light", replace(dataset, image=RGB64)) is None
    assert weights.shipped_checkpoint("resnet18light", replace(dataset, name="folder:mine", image=RGB64)) is None
    assert TOY.side == 32


def test_a_runs_key_names_the_model_and_the_space_where_they_are_not_those_of_before(tiny, image_folder):
    before = prepared(CIFAR10, image_folder)
    assert run_key(before) == run_key(replace(before, experiment=replace(before.experiment, model="resnet18light")))
    others = [
        replace(before, experiment=replace(before.experiment, model=tiny)),
        replace(before, dataset=replace(before.dataset, image=replace(CIFAR10, std=(1.0, 1.0, 1.0)))),
    ]
    assert len({run_key(setup) for setup in (before, *others)}) == 3


@pytest.mark.parametrize(
    ("channels", "side", "mean", "std"),
    [(2, 8, (0, 0), (1, 1)), (1, 0, (0,), (1,)), (3, 8, (0,), (1,)), (1, 8, (0,), (0,))],
)
def test_a_space_that_no_image_has_is_refused(channels, side, mean, std):
    with pytest.raises(ValueError, match=r"wanted a number a channel|images are grey"):
        ImageSpace(channels, side, mean, std)


def test_cifar10s_numbers_stand_in_one_file():
    holders = [
        path.name for room in ("oleander", "attacks", "clients", "strategies", "benchmarks")
        for path in (ROOT / room).rglob("*.py") if re.search(r"0\.4914|0\.2023", path.read_text())
    ]  # fmt: skip
    assert holders == ["cifar10.py"]
