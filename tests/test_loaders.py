"""Every loader refuses whatever it cannot use: exit code 2 and one line, in little memory, and waits for nothing."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

import server
import simulate
from attacks import Attack
from oleander.datasets.pictures import read_picture
from oleander.datasets.sources import load_dataset
from oleander.network.keys import make_keys, read, read_private, read_public
from oleander.network.superlink import Credentials
from oleander.settings.cli import load_scenario_file, parse_command
from oleander.settings.plan import plan_of
from oleander.system import foreign
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import read_bytes
from tests.conftest import write_images
from tests.learning.test_weights import dataset
from tests.programs import ROOT
from tests.spaces import blend, fresh_model, layout_of, starting_model

STATE = fresh_model(10, 0).state_dict()
SHAPE = tuple(STATE["linear.weight"].shape)


def weights(path):
    starting_model(str(path), dataset(), layout_of(10), 0)


def picture(path):
    blend(Attack(), blend_image=str(path), blend_alpha=0.5)


def scenario(path):
    file = path.with_name(f"{path.name}.toml")
    if path.exists() or path.is_symlink():
        path.rename(file)
    load_scenario_file(str(file))


LOADERS = {
    "weights": weights,
    "picture": picture,
    "scenario": scenario,
    "key": read_private,
    "keys": read,
    "resume": lambda p: simulate.taken_up(parse_command(["--resume", str(p)])),
}
READERS = {name: LOADERS[name] for name in ("weights", "picture", "scenario", "key")}
PLACES = {
    "a folder": lambda p: p.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda p: p.symlink_to("/dev/zero"),
    "a link to nothing": lambda p: p.symlink_to("nowhere"),
    "a link to itself": lambda p: p.symlink_to(p),
    "nothing": lambda p: None,
    "below a file": lambda p: None,
}
CONTENTS = {
    "empty": b"",
    "a NUL": b"\0",
    "no UTF-8": b"\xff\xfe\x00",
    "nested": b"x = " + b"[" * 100_000,
    "long": b"x = " + b"9" * 5_000,
    "zeros": bytes(5_000),
    "a huge header": struct.pack("<Q", 2**63) + b"{}",
    "a ZIP of nothing": b"PK\5\6" + bytes(18),
    "a PNG's beginning": b"\x89PNG\r\n\x1a\n",
    "a pickle's": b"\x80\x02",
    "a key's": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
}
BEGINNINGS = [content[:60] for content in CONTENTS.values()]


def refused(load, path):
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).strip() and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, loader, place):
    path = tmp_path / "file"
    if place == "below a file":
        path.write_text("")
        path = path / "x"
    PLACES[place](path)
    refused(LOADERS[loader], path)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("loader", READERS)
def test_content_of_another_kind_is_refused(tmp_path, loader, content):
    if (loader, content) == ("scenario", "empty"):
        pytest.skip("an empty scenario is the defaults")
    (tmp_path / "file").write_bytes(CONTENTS[content])
    refused(READERS[loader], tmp_path / "file")


@pytest.mark.parametrize("loader", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.sampled_from(list(CONTENTS.values())).flatmap(lambda c: st.binary(max_size=40).map(lambda b: c[:60] + b))
)
def test_no_bytes_raise_anything_but_a_refusal(tmp_path_factory, loader, content):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(content)
    try:
        READERS[loader](path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "png", "key"])
def test_no_flipped_byte_raises_anything_but_a_refusal(tmp_path, kind):
    rng = np.random.default_rng(0)
    file = tmp_path / "file"
    if kind == "safetensors":
        file.write_bytes(save({"linear.bias": torch.zeros(10)}))
    elif kind == "zip":
        torch.save({"linear.bias": torch.zeros(10)}, file)
    elif kind == "png":
        Image.new("RGB", (4, 4)).save(file, "PNG")
    else:
        make_keys(tmp_path / "k", 1, ["localhost"])
        file = tmp_path / "k" / "client-0.key"
    whole, load = file.read_bytes(), {"png": picture, "key": read_private}.get(kind, weights)
    for _ in range(80):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content)
        try:
            load(file)
        except UserError as error:
            assert "\n" not in str(error)


# ---- names of files --------------------------------------------------------------------------------------------------

NAMES = {
    "a NUL": "a\0b",
    "too long": "x" * 5_000,
    "a long part": "x" * 300,
    "half a pair": "a\ud800b",
    "no UTF-8": os.fsdecode(b"caf\xe9"),
}
FLAGS = ["--weights", "--blend-image", "--out", "--data-dir", "--resume", "--dataset", "--scenario"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", FLAGS)
def test_a_name_that_no_file_can_have_exits_with_2(flag, name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    value = {"--dataset": "folder:", "--scenario": "./"}.get(flag, "") + NAMES[name] + ".toml" * (flag == "--scenario")
    rest = ["--attack", "blend", "--malicious", "1"] * (flag == "--blend-image")
    rest += ["--dataset", "cifar10"] * (flag == "--data-dir")
    try:
        command = parse_command([flag, value, *rest])
        simulate.taken_up(command) if flag == "--resume" else absolute(value)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        pytest.fail("not refused")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--keys", "--out"])
@pytest.mark.parametrize("name", NAMES)
def test_keys_folders_names_are_refused_alike(flag, name, capsys):
    rest = ["keys", "--clients", "1"] if flag == "--out" else ["--scenario", "dba", "--port", "1"]
    assert server.main([*rest, flag, NAMES[name]]) == 2
    assert capsys.readouterr().err.startswith("error:")


# ---- TOML ------------------------------------------------------------------------------------------------------------

TOMLS = {
    "100,000 arrays": "lr = " + "[" * 100_000,
    "100,000 tables": "lr = " + "{a=" * 100_000,
    "closed arrays": "lr = " + "[" * 500 + "]" * 500,
    "a dotted key": "sweep." + ".".join("a" * 20_000) + " = 1",
    "5,000 digits": "seed = " + "9" * 5_000,
    "4,000 digits": "seed = " + "9" * 4_000,
    "4,000 digits for a float": "lr = " + "9" * 4_000,
    "twice": "seed = 1\nseed = 2",
    "a date": "description = 2024-01-01",
    "a time": "description = 12:00:00",
    "a moment": "weights = 2024-01-01T00:00:00Z",
    "inf": "lr = inf",
    "nan": "lr = nan",
    "1e999": "lr = 1e999",
    "a table for a setting": "[seed]\nx = 1",
    "an array": "seed = [1]",
    "a text": 'seed = "1"',
    "true": "seed = true",
    "1.0": "seed = 1.0",
    "half a pair": 'weights = "\\ud800"',
    "a NUL": 'out = "a\\u0000b"',
    "an escape": 'scenario = "\\u001b[2J"',
    "a sweep of a number": "sweep = 1",
    "a sweep of dates": "[sweep]\nseed = [2024-01-01]",
    "a point of text": 'point = "x"',
    "points of text": 'point = ["x"]',
    "a figure": "figure = 1",
    "include": "include = 5",
    "include of itself": 'include = ["./mine.toml"]',
    "repeats": "repeats = 2024-01-01",
    "huge repeats": "repeats = 99999999999",
    "a key of escapes": '"\\u001b[31m" = 1',
    "a long key": "x" * 100_000 + " = 1",
    "an include of nothing": 'include = [""]',
    "a sweep within": "[sweep]\nlr = [" + "[" * 400 + "]" * 400 + "]",
    "a byte order mark twice": "\ufeff\ufeffseed = 1",
    "a study called ..": 'scenario = ".."\nrepeats = 2',
    "a study of a path": 'scenario = "a/b"\nrepeats = 2',
}


@pytest.mark.parametrize("what", TOMLS)
def test_a_scenario_that_cannot_be_exits_with_2(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(TOMLS[what], encoding="utf-8")
    assert simulate.main(["--scenario", "./mine.toml", "--clients", "0"]) == 2
    if "lr" not in TOMLS[what][:2] or "nan" not in TOMLS[what]:
        with pytest.raises(UserError), foreign.refusing("x"):
            plan_of(parse_command(["--scenario", "./mine.toml"]))
    said = capsys.readouterr().err
    assert said.startswith("error:") and said.count("\n") == 1 and len(said) < 5_000 and "\x1b" not in said


def test_a_sweep_that_is_nested_is_refused(capsys):
    assert simulate.main(["--scenario", "dba", "--sweep", "lr=" + "[" * 50_000]) == 2


# ---- weights ---------------------------------------------------------------------------------------------------------


def with_tensor(tensor):
    return lambda p: torch.save(STATE | {"linear.weight": tensor}, p)


class Asks:
    """A few bytes that ask for a lot."""

    def __reduce__(self):
        return (bytearray, (4 * 10**9,))


def packed(path):
    """What a 4 MB checkpoint that took 4.1 GB is."""
    plain = io.BytesIO()
    torch.save({"x": torch.zeros(20_000_000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))


def twice(path):
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(name, b"\x80\x02}.")


def claims(path):
    header = json.dumps({"linear.bias": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def doubled(path):
    content = save({"linear.bias": torch.zeros(10)})
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + length].rstrip()
    header = header[:-1] + b"," + header[1:]
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


WEIGHTS = {
    "sparse": with_tensor(torch.zeros(SHAPE).to_sparse()),
    "sparse rows": with_tensor(torch.zeros(SHAPE).to_sparse_csr()),
    "meta": with_tensor(torch.zeros(SHAPE, device="meta")),
    "complex": with_tensor(torch.zeros(SHAPE, dtype=torch.complex64)),
    "quantized": with_tensor(torch.quantize_per_tensor(torch.zeros(SHAPE), 0.1, 0, torch.qint8)),
    "nested": with_tensor(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
    "bool": with_tensor(torch.zeros(SHAPE, dtype=torch.bool)),
    "float8": with_tensor(torch.zeros(SHAPE).to(torch.float8_e4m3fn)),
    "a huge view": with_tensor(torch.zeros(1).expand(10**12)),
    "a view of nan": with_tensor(torch.full((1,), float("nan")).expand(SHAPE)),
    "beyond float32": with_tensor(torch.full(SHAPE, 1e300, dtype=torch.float64)),
    "no tensor": with_tensor("text"),
    "asks for memory": lambda p: torch.save({"a": Asks()}, p),
    "packed": packed,
    "a name twice": twice,
    "claims": claims,
    "a tensor twice": doubled,
    "a list": lambda p: torch.save([1], p),
    "itself": lambda p: torch.save(nest(), p),
    "a long name": lambda p: torch.save({"x" * 100_000: torch.zeros(1)}, p),
    "names of numbers": lambda p: torch.save({1: torch.zeros(1)}, p),
    "with and without module": lambda p: torch.save(STATE | {"module.linear.bias": torch.zeros(10)}, p),
    "old, asks for memory": lambda p: torch.save({"a": Asks()}, p, _use_new_zipfile_serialization=False),
    "old, sparse": lambda p: torch.save({"a": torch.zeros(2).to_sparse()}, p, _use_new_zipfile_serialization=False),
    "a module": lambda p: torch.save(fresh_model(10, 0), p),
    "a plain pickle": lambda p: p.write_bytes(pickle.dumps(dict.fromkeys(range(5)))),
    "a script": lambda p: torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(p)),
}


def nest():
    content = {}
    content["state_dict"] = content
    return content


@pytest.mark.parametrize("what", WEIGHTS)
@pytest.mark.filterwarnings("ignore")
def test_weights_of_every_other_kind_are_refused_in_little_memory(what, tmp_path):
    WEIGHTS[what](tmp_path / "file")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "--weights" in refused(weights, tmp_path / "file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_old_checkpoints_and_strided_tensors_are_read(tmp_path):
    torch.save(STATE, tmp_path / "old", _use_new_zipfile_serialization=False)
    weights(tmp_path / "old")
    with_tensor(torch.zeros(SHAPE[::-1]).T)(tmp_path / "turned")
    weights(tmp_path / "turned")
    with_tensor(torch.nn.Parameter(torch.zeros(1).expand(SHAPE)))(tmp_path / "expanded")
    weights(tmp_path / "expanded")


# ---- pictures --------------------------------------------------------------------------------------------------------


def png(width, height, data=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (100_000_000, 1), (12_000, 12_000)])
def test_pixels_are_counted_before_they_are_decoded(size, tmp_path):
    (tmp_path / "a.png").write_bytes(png(*size, bytes(1_000)))
    said = refused(picture, tmp_path / "a.png")
    assert (f"{size[0]} x {size[1]} pixels" in said or str(size[0] * size[1]) in said) and "67108864" in said
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    (root / "train" / "x" / "0.png").write_bytes(png(*size, bytes(1_000)))
    with pytest.raises(UserError, match=r"0\.png cannot be read as an image: .* pixels"):
        load_dataset(f"folder:{root}", "data", print)


@pytest.mark.parametrize("form", ["ICO", "TGA", "PDF", "EPS", "PCX", "SGI", "DDS", "JPEG2000", "XBM"])
def test_only_formats_that_are_wanted_are_opened(form, tmp_path):
    with io.BytesIO() as opened:
        try:
            Image.new("1" if form == "XBM" else "RGB", (16, 16)).save(opened, form)
        except (KeyError, OSError):
            pytest.skip(f"Pillow writes no {form} here")
        (tmp_path / "a.png").write_bytes(opened.getvalue())
    assert "none of the formats" in refused(picture, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("mode", "form"),
    [("P", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("F", "TIFF"), ("L", "GIF")],
)
def test_pictures_of_every_mode_become_rgb(mode, form, tmp_path):
    Image.new(mode, (8, 8)).save(tmp_path / "a", form)
    assert (read_picture(tmp_path / "a").mode, read_picture(tmp_path / "a").size) == ("RGB", (8, 8))


def test_of_a_moving_picture_the_first_frame_counts_and_16_bits_become_8(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)
    Image.fromarray(np.full((8, 8), 0x80FF, dtype=np.uint16)).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png").getpixel((0, 0)) == (0x80, 0x80, 0x80)


def test_an_image_folder_whose_links_lead_back_is_refused(tmp_path, monkeypatch):
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    for name in ("one", "two"):
        (root / "train" / "x" / name).symlink_to(root / "train")
    monkeypatch.setattr("oleander.datasets.sources.MOST_FOLDERS", 500)
    with pytest.raises(UserError, match="do links lead back"):
        load_dataset(f"folder:{root}", "data", print)


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "san",
    [
        [""],
        [" "],
        ["a b"],
        ["-"],
        [".a"],
        ["a..b"],
        ["a."],
        ["x" * 64],
        ["a." * 130 + "a"],
        ["\0"],
        ["é"],
        ["١٢٧.0.0.1"],
        ["fe80::1%eth0"],
        ["a\n"],
        ["localhost", ""],
        ["*"],
        ["a.*.b"],
        ["127.0.0.1/8"],
        ["\ud800"],
        ["\x1b[2J"],
    ],
)
def test_a_name_of_no_server_is_refused_and_nothing_written(san, tmp_path, capsys):
    assert server.main(["keys", "--clients", "1", "--out", str(tmp_path / "k"), "--san", *san]) == 2
    assert "--san" in capsys.readouterr().err and not (tmp_path / "k").exists()


@pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.crt", "client-0.pub"])
@pytest.mark.parametrize("place", ["a pipe", "a folder", "a device", "empty"])
def test_a_servers_keys_that_are_none_are_refused(name, place, tmp_path):
    make_keys(tmp_path / "k", 1, ["localhost"])
    (tmp_path / "k" / name).unlink()
    PLACES.get(place, lambda p: p.write_bytes(b""))(tmp_path / "k" / name)
    if (name, place) == ("ca.crt", "empty"):
        pytest.skip("a server does not use it")
    with pytest.raises(UserError):
        Credentials.of(str(tmp_path / "k"), 1)


def test_a_key_with_a_password_does_not_ask_for_it(tmp_path):
    from cryptography.hazmat.primitives import serialization

    make_keys(tmp_path / "k", 1, ["localhost"])
    key = serialization.load_pem_private_key((tmp_path / "k" / "server.key").read_bytes(), None)
    (tmp_path / "k" / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    with pytest.raises(UserError, match="do not go together"):
        Credentials.of(str(tmp_path / "k"), 1)


def test_public_keys_of_another_kind_are_refused(tmp_path):
    for content in (b"ssh-rsa AAAA", b"ecdsa-sha2-nistp384 " + b"A" * 100_000, b"\xff", b"x" * (2**20 + 1)):
        (tmp_path / "client-0.pub").write_bytes(content)
        with pytest.raises(UserError):
            read_public(tmp_path, 1)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"four")
    real = os.fdopen

    def grown(descriptor, *rest):
        opened = real(descriptor, *rest)
        os.truncate(tmp_path / "x", 2)
        return opened

    monkeypatch.setattr(foreign.os, "fdopen", grown)
    real_size = os.fstat

    class Info:
        st_size = 4

    monkeypatch.setattr(foreign.os, "fstat", lambda d: real_size(d) if real_size(d).st_size == 4 else Info)
    with pytest.raises(OSError, match="changed while it was read"):
        read_bytes(tmp_path / "x", 100)


def test_a_program_says_one_line_and_exits_with_2(tmp_path):
    (tmp_path / "x.toml").write_text("lr = " + "[" * 100_000)
    done = subprocess.run(
        [sys.executable, "-m", "simulate", "--scenario", str(tmp_path / "x.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nested too deeply" in done.stderr
