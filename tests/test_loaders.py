"""Every loader refuses whatever it cannot use: exit code 2 and one line, in little memory, and waits for nothing."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

import server
import simulate
from oleander.network.keys import make_keys, read, read_private
from oleander.settings.cli import load_scenario_file, parse_command
from oleander.system.errors import UserError
from oleander.system.files import absolute
from tests.foreign_files import PLACES, picture, refused, weights
from tests.programs import ROOT


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
