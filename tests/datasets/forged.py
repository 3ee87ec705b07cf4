"""Small files of the formats that datasets are published in, with the MD5 sums that the project then expects of them."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile

import numpy as np
import scipy.io
from PIL import Image


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(array):
    """An IDX file of bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def drawn(count, *shape, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes


def mnist(published, data_dir, monkeypatch, packed=True):
    """The four files of MNIST or Fashion-MNIST; returns their arrays."""
    raw = data_dir / published.__name__ / "raw"
    raw.mkdir(parents=True)
    arrays = (*drawn(30, 28, 28), *drawn(10, 28, 28, seed=1))
    resources = []
    for (name, _), array in zip(published.resources, arrays, strict=True):
        content = gzip.compress(idx(array))
        (raw / name).write_bytes(content) if packed else (raw / name[:-3]).write_bytes(idx(array))
        resources.append((name, md5(content)))
    monkeypatch.setattr(published, "resources", resources)
    return arrays


def emnist(published, data_dir, monkeypatch, split, first=0, packed=True):
    raw = data_dir / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = (*drawn(30, 28, 28), *drawn(10, 28, 28, seed=1))
    names = [
        f"emnist-{split}-{part}-{what}-ubyte" for part in ("train", "test") for what in ("images-idx3", "labels-idx1")
    ]
    with io.BytesIO() as opened:
        with zipfile.ZipFile(opened, "w") as archive:
            for i, (name, array) in enumerate(zip(names, arrays, strict=True)):
                content = idx(array + first * (i % 2))
                archive.writestr(f"gzip/{name}.gz", gzip.compress(content))
                packed or (raw / name).write_bytes(content)
        content = opened.getvalue()
    monkeypatch.setattr(published, "md5", md5(content))
    packed and (raw / "gzip.zip").write_bytes(content)
    return arrays


def svhn(published, data_dir, monkeypatch):
    data_dir.mkdir(parents=True, exist_ok=True)
    arrays, files = (*drawn(30, 3, 32, 32), *drawn(10, 3, 32, 32, seed=1)), {}
    for i, split in enumerate(("train", "test")):
        url, name, _ = published.split_list[split]
        labels = np.where(arrays[2 * i + 1] == 0, 10, arrays[2 * i + 1])
        scipy.io.savemat(
            data_dir / name, {"X": arrays[2 * i].transpose(2, 3, 1, 0), "y": labels[:, None].astype(np.uint8)}
        )
        files[split] = [url, name, md5((data_dir / name).read_bytes())]
    monkeypatch.setattr(published, "split_list", files)
    return arrays


def cifar100(published, data_dir, monkeypatch):
    arrays = (*drawn(200, 3072, classes=100), *drawn(100, 3072, classes=100, seed=1))
    files = {
        name: pickle.dumps({"data": arrays[2 * i], "fine_labels": arrays[2 * i + 1].tolist(), "coarse_labels": [0] * 9})
        for i, name in enumerate(("train", "test"))
    }
    files["meta"] = pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]})
    with io.BytesIO() as opened:
        with tarfile.open(fileobj=opened, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"{published.base_folder}/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        content = opened.getvalue()
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / published.filename).write_bytes(content)
    monkeypatch.setattr(published, "tgz_md5", md5(content))
    for split in ("train", "test"):
        monkeypatch.setattr(published, f"{split}_list", [[split, md5(files[split])]])
    monkeypatch.setattr(published, "meta", published.meta | {"md5": md5(files["meta"])})
    return arrays


def picture(shade, size, form):
    with io.BytesIO() as opened:
        Image.new("RGB", size, (shade, 2 * shade % 256, 7)).save(opened, form)
        return opened.getvalue()


def gtsrb():
    """Path below gtsrb/ → content, in the three archives that it is published in."""
    train = {
        f"GTSRB/Training/{c:05}/{c:05}_{i:05}.ppm": picture(5 * c, (20 + i, 31), "PPM")
        for c in range(43)
        for i in (0, 1)
    }
    train |= {"GTSRB/Training/00000/GT-00000.csv": b"Filename;Width\n"}
    test = {f"GTSRB/Final_Test/Images/{i:05}.ppm": picture(3 * i, (40, 33), "PPM") for i in range(12)}
    rows = [f"{i:05}.ppm;40;33;5;6;35;28;{42 - i}" for i in reversed(range(12))]
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    labels = {"GT-final_test.csv": "\r\n".join([head, *rows, ""]).encode()}
    return {"GTSRB-Training_fixed.zip": train, "GTSRB_Final_Test_Images.zip": test, "GTSRB_Final_Test_GT.zip": labels}


def tiny_imagenet():
    """Path below --data-dir → content; one picture is grey, as some are."""
    ids, root = ["n02", "n01", "n03"], "tiny-imagenet-200"
    files = {f"{root}/wnids.txt": "\n".join(ids).encode()}
    files[f"{root}/words.txt"] = b"n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane, bird\nn04\tnothing\n"
    for c, wnid in enumerate(ids):
        files |= {
            f"{root}/train/{wnid}/images/{wnid}_{i}.JPEG": picture(50 * c + 9, (64, 64), "JPEG") for i in range(4)
        }
        files[f"{root}/train/{wnid}/{wnid}_boxes.txt"] = b""
    for i in range(6):
        files[f"{root}/val/images/val_{i}.JPEG"] = picture(50 * (i % 3) + 9, (64, 64), "JPEG")
    with io.BytesIO() as opened:
        Image.new("L", (64, 64), 9).save(opened, "JPEG")
        files[f"{root}/val/images/val_0.JPEG"] = opened.getvalue()
    lines = [f"val_{i}.JPEG\t{ids[i % 3]}\t0\t32\t44\t62\n" for i in range(6)]
    files[f"{root}/val/val_annotations.txt"] = "".join(lines).encode()
    files[f"{root}/test/images/test_0.JPEG"] = picture(1, (64, 64), "JPEG")
    return files


def zipped(files):
    with io.BytesIO() as opened:
        with zipfile.ZipFile(opened, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return opened.getvalue()


def written(files, root):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
