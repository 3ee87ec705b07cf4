"""Which files of an image folder are its images: hidden names, links, other files, and the order of classes."""

import io
import os
import shutil

import pytest
from PIL import Image

from oleander.datasets.folder import key_of, space
from oleander.datasets.labelled import in_order
from oleander.datasets.sources import load_dataset
from oleander.experiment.prepare import Sources, prepare
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from tests.conftest import write_images

KEY = space(32, 3)


@pytest.fixture
def root(tmp_path):
    return write_images(tmp_path / "d", ("x", "y"), 3, 2)


def loaded(root):
    told = []
    return load_dataset(f"folder:{root}", "data", told.append), told


HIDDEN = {
    "thumbnails": lambda d: shutil.copytree(d / "train" / "x", d / "train" / "x" / ".thumbnails"),
    "macOS's halves": lambda d: [(d / "train" / "x" / f"._{i}.png").write_bytes(b"\0\5\x16\7") for i in range(3)],
    "a class of macOS": lambda d: shutil.copytree(d / "train" / "x", d / "train" / "__MACOSX"),
    "Synology's": lambda d: shutil.copytree(d / "train" / "x", d / "train" / "x" / "@eaDir" / "0.png"),
    "Windows'": lambda d: [(d / "train" / "y" / n).write_bytes(b"") for n in ("Thumbs.db", "desktop.ini", ".DS_Store")],
    "a notebook's": lambda d: shutil.copytree(d / "train" / "x", d / "train" / ".ipynb_checkpoints"),
    "of one split": lambda d: shutil.copytree(d / "test" / "x", d / "train" / ".git"),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_hidden_names_are_left_out_and_counted_in_one_notice(what, root):
    whole, silent = loaded(root)
    before = key_of(root, KEY)
    HIDDEN[what](root)
    found, told = loaded(root)
    assert silent == [] and found.fingerprint == whole.fingerprint and key_of(root, KEY) == before
    assert len(told) == 1 and f"hidden files left out: {2 if what == 'of one split' else 3} (" in told[0]
    assert len(loaded(root)[1]) == 1, "told only when the images are decoded"


def test_files_that_are_not_read_are_counted_by_their_endings(root):
    for i in range(4):
        (root / "train" / "x" / f"{i}.txt").write_text("")
    (root / "train" / "x" / "a.HEIC").write_bytes(b"")
    (root / "train" / "labels.csv").write_text("")
    (root / "test" / "y" / "README").write_text("")
    found, told = loaded(root)
    assert len(found.train_labels) == 6
    assert len(told) == 1 and "files not read: 7 (4 .txt, 1 without an ending, 1 .csv, 1 .heic)" in told[0]
    assert ".gif .jfif .jpe .jpeg .jpg" in told[0]


def test_every_format_that_is_opened_is_read_in_small_and_capital_letters(root):
    for form, ending in (("GIF", ".gif"), ("JPEG", ".JPG"), ("JPEG", ".jfif"), ("WEBP", ".WebP"), ("TIFF", ".TIF")):
        Image.new("RGB", (8, 8)).save(root / "train" / "x" / f"z{ending}", form)
    found, told = loaded(root)
    assert len(found.train_labels) == 6 + 5 and told == []


def test_each_real_file_counts_once_where_it_lies_itself(root):
    """The old code followed a link back 40 deep: 24 images became 984."""
    whole, _ = loaded(root)
    x = root / "train" / "x"
    (x / "back").symlink_to(root / "train")
    (x / "self").symlink_to(x)
    (x / "up").symlink_to(root)
    (x / "all").symlink_to("/")
    (x / "a of y").symlink_to(root / "train" / "y")
    (x / "a.png").symlink_to(root / "train" / "y" / "0.png")
    os.link(x / "0.png", root / "train" / "y" / "zz.png")
    found, told = loaded(root)
    assert found.fingerprint == whole.fingerprint
    assert len(told) == 1 and "links to what is read already: 7 (" in told[0]


def test_links_to_pictures_elsewhere_are_followed(root, tmp_path):
    whole, _ = loaded(root)
    shutil.move(root / "train" / "x", tmp_path / "pool")
    (root / "train" / "x").symlink_to(tmp_path / "pool")
    shutil.move(root / "train" / "y", tmp_path / "files")
    (root / "train" / "y").mkdir()
    for file in (tmp_path / "files").iterdir():
        (root / "train" / "y" / file.name).symlink_to(file)
    found, told = loaded(root)
    assert found.fingerprint == whole.fingerprint and told == []


def test_a_test_split_that_is_the_training_split_is_told(root):
    shutil.rmtree(root / "test")
    (root / "test").symlink_to("train")
    _, told = loaded(root)
    assert len(told) == 1 and "test images that are training images too, by links: 6 of 6" in told[0]


@pytest.mark.parametrize("what", ["a link to nothing", "a link to itself", "a pipe", "a folder that cannot be listed"])
def test_what_cannot_be_read_is_refused_by_its_name(what, root):
    odd = root / "train" / "x" / "odd.png"
    if what == "a pipe":
        os.mkfifo(odd)
    elif what.startswith("a link"):
        odd.symlink_to(odd if "itself" in what else "nowhere")
    else:
        if os.geteuid() == 0:
            pytest.skip("root lists every folder")
        odd.mkdir(0)
    with pytest.raises(UserError, match=r"odd\.png|cannot be listed"):
        loaded(root)


def test_a_folder_called_like_a_picture_is_a_folder(root):
    (root / "train" / "x" / "album.png").mkdir()
    Image.new("RGB", (8, 8)).save(root / "train" / "x" / "album.png" / "1.png")
    assert len(loaded(root)[0].train_labels) == 7


def test_what_lies_beside_the_splits_or_is_not_read_does_not_change_the_key(root):
    before = key_of(root, KEY)
    (root / "runs" / "a").mkdir(parents=True)
    (root / "runs" / "a" / "config.toml").write_text("")
    (root / "notes.txt").write_text("")
    (root / "train" / "x" / "notes.txt").write_text("")
    (root / "train" / ".cache").mkdir()
    assert key_of(root, KEY) == before
    Image.new("RGB", (8, 8)).save(root / "train" / "x" / "new.png")
    assert key_of(root, KEY) != before


NAMED = {
    "val": (lambda d: (d / "test").rename(d / "val"), "did you mean val?"),
    "validation": (lambda d: (d / "test").rename(d / "Validation"), "did you mean Validation?"),
    "Train": (lambda d: (d / "train").rename(d / "Train"), "did you mean Train?"),
    "training": (lambda d: (d / "train").rename(d / "training"), "did you mean training?"),
    "tset": (lambda d: (d / "test").rename(d / "tset"), "did you mean tset?"),
    "one folder below": (
        lambda d: [(d / "all").mkdir(), (d / "train").rename(d / "all" / "train"), (d / "test").rename(d / "all" / "test")],
        "did you mean folder:",
    ),
    "nothing": (shutil.rmtree, "since there is no "),
    "an archive": (lambda d: [shutil.rmtree(d), d.write_bytes(b"PK")], "is a file: unpack it"),
    "no classes": (
        lambda d: [shutil.rmtree(d / "train" / "x"), shutil.rmtree(d / "train" / "y")],
        "has no folders in it, one for each class",
    ),
    "only hidden classes": (
        lambda d: [(d / "train" / name).rename(d / "train" / f".{name}") for name in ("x", "y")],
        "has no folders in it",
    ),
    "an empty class": (
        lambda d: [file.unlink() for file in (d / "test" / "y").iterdir()],
        "test: no pictures of y; read are files named .apng",
    ),
    "capital letters": (lambda d: (d / "test" / "x").rename(d / "test" / "X"), "X, x, some only in capital letters"),
}  # fmt: skip


@pytest.mark.parametrize("what", NAMED)
def test_a_folder_that_is_none_is_told_what_is_there_in_its_place(what, root):
    spoil, words = NAMED[what]
    spoil(root)
    with pytest.raises(UserError) as error:
        loaded(root)
    assert words in str(error.value) and "DIR/train/<class>" in str(error.value) and "\n" not in str(error.value)


def numbered(tmp_path, names):
    for split in ("train", "test"):
        for i, name in enumerate(names):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / split / name / "a.png")
    return tmp_path


def test_classes_that_are_numbers_have_the_order_of_numbers(tmp_path):
    """As text 10 and 11 come before 2, and --target 2 was the class 10."""
    root = numbered(tmp_path, list(map(str, range(12))))
    found, told = loaded(root)
    assert found.classes == tuple(map(str, range(12))) and len(told) == 1 and "2 before 10" in told[0]
    assert [int(image.max()) // 20 for image in found.train_images] == found.train_labels.tolist() == list(range(12))
    asked = {
        "dataset": f"folder:{root}",
        "weights": "fresh",
        "samples_per_client": 1,
        "partition": "iid",
        "batch_size": 1,
    }
    setup = prepare(Experiment().changed(**asked, target=2, attack="blend", malicious=1, model="cnn"), Sources(print))
    assert setup.target_class == "2"


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["010", "9", "08"], ["08", "9", "010"]),
        (["1", "01", "001"], ["001", "01", "1"]),
        (["00", "01", "10"], ["00", "01", "10"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["1.5", "10", "9"], ["1.5", "10", "9"]),
        (["٣", "١"], ["١", "٣"]),
        ([], []),
    ],
)
def test_the_order_of_classes(names, order):
    assert in_order(names) == tuple(order)


def test_names_with_numbers_in_them_stay_in_the_order_of_text_and_it_is_told(tmp_path):
    root = numbered(tmp_path, ["class1", "class2", "class10"])
    found, told = loaded(root)
    assert found.classes == ("class1", "class10", "class2")
    assert len(told) == 1 and "in the order of text, class10 before class2; --target takes their names" in told[0]
    assert loaded(numbered(tmp_path / "b", ["n01440764", "n01443537"]))[1] == []


def test_a_pictures_file_may_be_in_use_by_no_class_and_say_so(root):
    with io.BytesIO() as opened:
        Image.new("RGB", (8, 8)).save(opened, "PNG")
        (root / "train" / "loose.png").write_bytes(opened.getvalue())
    found, told = loaded(root)
    assert len(found.train_labels) == 6 and "files not read: 1 (1 .png)" in told[0]
