"""Keys and names of servers that are none are refused, and nothing is written."""

import pytest

import server
from oleander.network.keys import make_keys, read_public
from oleander.network.superlink import Credentials
from oleander.system.errors import UserError
from tests.foreign_files import PLACES


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
