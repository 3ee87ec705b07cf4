"""GTSRB and Tiny ImageNet: pictures in folders, or in archives that are never unpacked."""

import numpy as np
import pytest

from oleander.datasets import downloads, gtsrb, tiny_imagenet
from oleander.datasets.sources import load_dataset
from oleander.system.errors import UserError
from tests.datasets import forged
from tests.datasets.silent import refuse


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "unreachable", lambda urls: ["there is no network"] * len(urls))


def signs(data, monkeypatch, packed):
    archives, sums = forged.gtsrb(), {}
    for name, files in archives.items():
        content = forged.zipped(files)
        sums[name] = forged.md5(content)
        forged.written({name: content} if packed else files, data / "gtsrb")
    monkeypatch.setattr(gtsrb, "ARCHIVES", sums)


def photographs(data, monkeypatch, packed):
    content = forged.zipped(forged.tiny_imagenet())
    monkeypatch.setattr(tiny_imagenet, "MD5", forged.md5(content))
    forged.written({"tiny-imagenet-200.zip": content} if packed else forged.tiny_imagenet(), data)


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_signs_of_every_size_are_resized_and_labelled_by_their_folder_and_the_list(packed, tmp_path, monkeypatch):
    signs(tmp_path, monkeypatch, packed)
    found = load_dataset("gtsrb", str(tmp_path), refuse)
    assert found.train_images.shape == (86, 3, 32, 32) and found.test_images.shape == (12, 3, 32, 32)
    assert found.train_labels.tolist() == [c for c in range(43) for _ in (0, 1)]
    assert found.test_labels.tolist() == [42 - i for i in range(12)]
    assert [int(image[0, 5, 5]) for image in found.test_images] == [3 * i for i in range(12)]
    assert len(found.classes) == 43 and found.classes[14] == "stop"


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_tiny_imagenets_classes_have_their_words_and_its_validation_images_are_tested_on(packed, tmp_path, monkeypatch):
    photographs(tmp_path, monkeypatch, packed)
    found = load_dataset("tiny_imagenet", str(tmp_path), refuse)
    assert found.classes == ("goldfish", "crane (n02)", "crane (n03)")
    assert found.train_images.shape == (12, 3, 64, 64) and found.test_images.shape == (6, 3, 64, 64)
    assert found.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and found.test_labels.tolist() == [1, 0, 2] * 2
    shade = found.train_images[:, 0, 30, 30].reshape(3, 4).mean(axis=1)
    np.testing.assert_allclose(shade, [59, 9, 109], atol=3)
    assert len(set(found.test_images[0, :, 30, 30].tolist())) == 1  # the grey one


@pytest.mark.parametrize("make", [signs, photographs])
def test_a_folder_that_was_unpacked_to_half_does_not_count_beside_the_whole_archive(make, tmp_path, monkeypatch):
    name = "gtsrb" if make is signs else "tiny_imagenet"
    make(tmp_path, monkeypatch, False)
    whole = load_dataset(name, str(tmp_path), refuse)
    half = [file for file in tmp_path.rglob("*") if file.suffix in (".ppm", ".JPEG")][::2]
    for file in half:
        file.unlink()
    make(tmp_path, monkeypatch, True)
    assert load_dataset(name, str(tmp_path), refuse).fingerprint == whole.fingerprint


@pytest.mark.parametrize(("name", "make"), [("gtsrb", signs), ("tiny_imagenet", photographs)])
def test_of_a_part_of_what_was_published_it_is_said(name, make, tmp_path, monkeypatch, caplog):
    make(tmp_path, monkeypatch, False)
    found = load_dataset(name, str(tmp_path), refuse)
    counts = len(found.train_labels), len(found.test_labels)
    assert f"has {counts[0]} and {counts[1]} images" in caplog.text and "published are" in caplog.text
    caplog.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(gtsrb if make is signs else tiny_imagenet, "COUNTS", counts)
    load_dataset(name, str(tmp_path), refuse)
    assert not caplog.text


@pytest.mark.parametrize("label", ["../../secret.ppm", "/etc/passwd", "99999.ppm"])
def test_a_list_names_no_file_but_those_that_are_there(label, tmp_path, monkeypatch):
    signs(tmp_path, monkeypatch, False)
    (tmp_path / "secret.ppm").write_bytes(forged.picture(1, (9, 9), "PPM"))
    labels = tmp_path / "gtsrb" / "GT-final_test.csv"
    labels.write_text(labels.read_text().replace("00003.ppm", label))
    with pytest.raises(UserError, match=r"GTSRB is damaged \(86 pictures in .*, 12 in .*, 12 in GT-final_test\.csv\)"):
        load_dataset("gtsrb", str(tmp_path), refuse)


@pytest.mark.parametrize(
    ("name", "make", "file", "words"),
    [
        ("gtsrb", signs, "gtsrb/GTSRB/Training/00001/00001_00000.ppm", r"00001_00000\.ppm cannot be read as an image"),
        ("gtsrb", signs, "gtsrb/GT-final_test.csv", "GTSRB is damaged"),
        (
            "tiny_imagenet",
            photographs,
            "tiny-imagenet-200/train/n01/images/n01_0.JPEG",
            r"n01_0\.JPEG cannot be read as an image",
        ),
        (
            "tiny_imagenet",
            photographs,
            "tiny-imagenet-200/wnids.txt",
            r"Tiny ImageNet is damaged .*put tiny-imagenet-200\.zip",
        ),
        ("tiny_imagenet", photographs, "tiny-imagenet-200/val/val_annotations.txt", "Tiny ImageNet is damaged"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0 nothing \t that \n is one", b"P6\n9999999 9999999\n255\n"])
def test_damaged_pictures_and_lists_are_refused_in_one_line(name, make, file, words, content, tmp_path, monkeypatch):
    make(tmp_path, monkeypatch, False)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_dataset(name, str(tmp_path), refuse)
    assert "\n" not in str(error.value) and not list((tmp_path / "cache").glob("**/meta.json"))


@pytest.mark.parametrize("content", [b"PK", b""])
def test_an_archive_of_another_md5_is_not_opened(content, tmp_path, monkeypatch):
    photographs(tmp_path, monkeypatch, True)
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(content)
    with pytest.raises(UserError, match="Tiny ImageNet is damaged"):
        load_dataset("tiny_imagenet", str(tmp_path), refuse)
