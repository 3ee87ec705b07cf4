"""Datasets of the Hub by flwr-datasets, from folders that its library loads; without it, and without a network."""

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from oleander.datasets import downloads, hf
from oleander.datasets.sources import load_dataset, settings_for
from oleander.settings.cli import parse
from oleander.system.errors import UserError
from tests.conftest import CLASSES, write_images
from tests.datasets.silent import refuse

INSTALLED = importlib.util.find_spec("flwr_datasets") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="pip install 'oleander[hf]'")


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(shade, mode="RGB", size=(20, 20), form="PNG"):
    with io.BytesIO() as opened:
        Image.new(mode, size, shade).save(opened, form)
        return {"bytes": opened.getvalue(), "path": None}


def table(folder, name, rows, **columns):
    """A split in a parquet file, as the Hub keeps them; ``rows`` pictures, and other columns with their types."""
    import datasets

    features = datasets.Features(
        {"picture": datasets.Image(), **{column: kind for column, (kind, _) in columns.items()}}
    )
    content = {"picture": rows, **{column: values for column, (_, values) in columns.items()}}
    folder.mkdir(exist_ok=True)
    datasets.Dataset.from_dict(content, features=features).to_parquet(str(folder / f"{name}-00000.parquet"))


def shades(folder, test=True):
    """Grey pictures of three shades with fine and coarse labels."""
    import datasets

    fine, coarse = datasets.ClassLabel(names=["low", "mid", "high"]), datasets.ClassLabel(names=["a", "b"])
    for name, count in (("train", 30), ("test", 9))[: 1 + test]:
        rows = [picture(100 * (i % 3), "L") for i in range(count)]
        fines, coarses = [i % 3 for i in range(count)], [i % 2 for i in range(count)]
        words = ["zoo", "ant", "bee"]
        table(
            folder, name, rows, fine=(fine, fines), coarse=(coarse, coarses),
            word=(datasets.Value("string"), [words[i] for i in fines]),
        )  # fmt: skip
    return folder


@needs_it
def test_a_folder_of_pictures_is_read_with_its_classes(tmp_path):
    root = write_images(tmp_path / "pictures", size=20)
    found = load_dataset(f"hf:{root}", str(tmp_path / "data"), refuse)
    assert found.name == "hf:pictures" and found.classes == CLASSES
    assert found.train_images.shape == (72, 3, 20, 20) and np.bincount(found.test_labels).tolist() == [8, 8, 8]
    as_folder = load_dataset(f"folder:{root}", "data", refuse, image_size=20)
    key = lambda d: sorted(zip(d.train_labels.tolist(), map(bytes, d.train_images), strict=True))  # noqa: E731
    assert key(found) == key(as_folder)


@needs_it
def test_grey_pictures_are_grey_and_of_their_own_size_unless_another_is_asked_for(tmp_path):
    source = f"hf:{shades(tmp_path / 'shades')},label=fine"
    found = load_dataset(source, str(tmp_path / "data"), refuse)
    assert found.train_images.shape == (30, 1, 20, 20) and found.classes == ("low", "mid", "high")
    assert found.train_images[:, 0, 0, 0].tolist() == [100 * (i % 3) for i in range(30)]
    asked = parse(["--dataset", source, "--image-size", "28", "--image-channels", "3"])
    assert dict(settings_for(asked)) == {"image_size": 28, "image_channels": 3}
    assert load_dataset(source, str(tmp_path / "data"), refuse, **dict(settings_for(asked))).image.shape == (3, 28, 28)


@needs_it
def test_columns_are_found_by_their_types_or_named(tmp_path):
    root = shades(tmp_path / "shades")
    with pytest.raises(
        UserError, match=r"columns of labels are fine and coarse: name one, hf:.*,label=…; it has picture"
    ):
        load_dataset(f"hf:{root}", str(tmp_path / "data"), refuse)
    found = load_dataset(f"hf:{root},label=word", str(tmp_path / "data"), refuse)
    assert found.classes == ("ant", "bee", "zoo") and found.train_labels[:3].tolist() == [2, 0, 1]
    for option in ("label=nothing", "image=fine,label=fine"):
        with pytest.raises(UserError, match=r"is no column of (labels|images)s?; it has picture"):
            load_dataset(f"hf:{root},{option}", str(tmp_path / "data"), refuse)


@needs_it
def test_writers_are_known_where_a_column_names_them(tmp_path):
    """As hf:flwrlabs/femnist does, which has no split to test on either."""
    import datasets

    label, root = datasets.ClassLabel(names=["a", "b"]), tmp_path / "femnist"
    who = [f"f{i // 5}" for i in range(40)]
    table(
        root, "train", [picture(6 * i, "L") for i in range(40)], character=(label, [i % 2 for i in range(40)]),
        writer_id=(datasets.Value("string"), who),
    )  # fmt: skip
    found = load_dataset(f"hf:{root}", str(tmp_path / "data"), refuse)
    assert found.writers.tolist() == [pixel // 30 for pixel in found.train_images[:, 0, 0, 0].tolist()]
    assert (
        len(found.train_labels) == 36
        and load_dataset(f"hf:{root}", "data", refuse).writers.tolist() == found.writers.tolist()
    )
    with pytest.raises(UserError, match=r"hand is no column; it has picture"):
        load_dataset(f"hf:{root},writer=hand", str(tmp_path / "data"), refuse)


@needs_it
def test_without_a_split_to_test_on_a_tenth_is_taken_out(tmp_path):
    source = f"hf:{shades(tmp_path / 'shades', test=False)},label=fine"
    found = load_dataset(source, str(tmp_path / "data"), refuse)
    assert (len(found.train_labels), len(found.test_labels)) == (27, 3)
    np.testing.assert_array_equal(found.test_images[:, 0, 0, 0], 100 * found.test_labels)
    with pytest.raises(UserError, match=r"split: 'validation' is not present .*\['train'\]"):
        load_dataset(f"{source},test=validation", str(tmp_path / "data"), refuse)


@needs_it
def test_pictures_of_other_formats_or_without_end_are_refused(tmp_path):
    import datasets

    label = datasets.ClassLabel(names=["a", "b"])
    for number, bad in enumerate((picture(5, form="ICO"), {"bytes": b"P6\n99999 99999\n255\n", "path": None})):
        root = tmp_path / f"bad{number}"
        table(root, "train", [picture(9), bad], label=(label, [0, 1]))
        with pytest.raises(UserError, match=r"image 1 cannot be read as an image: (none of the formats|.*pixels)"):
            load_dataset(f"hf:{root}", str(tmp_path / "data"), refuse)


@needs_it
@pytest.mark.parametrize("name", ["ylecun/mnist", "cifar10"])
def test_offline_it_is_refused_with_the_ways_out(name, tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "unreachable", lambda urls: [f"no answer from {url}" for url in urls])
    with pytest.raises(UserError) as error:
        load_dataset(f"hf:{name}", str(tmp_path / "data"), refuse)
    wanted = (f"--dataset hf:{name}", f"datasets/{name} could not be reached", downloads.OTHER_DATASETS)
    assert all(word in str(error.value) for word in wanted)


def test_without_the_extra_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install 'oleander\[hf\]'; other ways: --dataset digits"):
        load_dataset("hf:ylecun/mnist", str(tmp_path / "data"), refuse)


@pytest.mark.parametrize(
    "text", ["../secret", "a/b/c", "m,", "m,label", "m,colour=red", "m,label=a,label=b", "a b", ",label=x"]
)
def test_what_is_no_name_is_refused(text, tmp_path):
    with pytest.raises(
        UserError, match=r"no dataset's name \(OWNER/NAME\)|OPTION=VALUE,…, each once; known: image, label"
    ):
        load_dataset(f"hf:{text}", str(tmp_path / "data"), refuse)


@needs_it
def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        load_dataset(f"hf:{tmp_path / 'nowhere'}", str(tmp_path / "data"), refuse)
