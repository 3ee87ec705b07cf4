"""Keys and certificates: what is made, how it is kept, and what is refused."""

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import server
from oleander.network import client
from oleander.network.address import Address, check_exposure, check_free, is_loopback, parse_address
from oleander.network.keys import make_keys, read, read_private, read_public
from oleander.network.superlink import Credentials
from oleander.system.errors import UserError


def test_every_file_is_its_owners_and_each_private_key_fits_its_public_one(keys):
    assert {file.stat().st_mode & 0o777 for file in keys.iterdir()} == {0o600}
    for number, public in enumerate(read_public(keys, 8)):
        assert read_private(keys / f"client-{number}.key").public_key() == public
        assert isinstance(public.curve, ec.SECP384R1)
    assert len({key.public_numbers().x for key in read_public(keys, 8)}) == 8


def test_the_servers_certificate_is_for_its_names_and_not_an_authority(keys):
    certificate = x509.load_pem_x509_certificate(read(keys / "server.crt"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ssl.create_default_context(cafile=str(keys / "ca.crt"))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(keys / "server.crt", keys / "server.key")


def test_nothing_is_overwritten_or_half_written(keys, tmp_path):
    before = {file.name: file.read_bytes() for file in keys.iterdir()}
    with pytest.raises(UserError, match="never overwritten"):
        make_keys(keys, 9, ["localhost"])
    assert {file.name: file.read_bytes() for file in keys.iterdir()} == before
    for clients, names, words in ((0, ["localhost"], "--clients 0"), (2, ["not a name"], "--san not a name")):
        with pytest.raises(UserError, match=words):
            make_keys(tmp_path / "new", clients, names)
    assert not (tmp_path / "new").exists()


def test_what_is_no_key_or_open_to_others_is_refused(keys, tmp_path):
    with pytest.raises(UserError, match=r"client-8\.pub"):
        read_public(keys, 9)
    (tmp_path / "client-0.key").write_text("nonsense")
    with pytest.raises(UserError, match="not a key"):
        read_private(tmp_path / "client-0.key")
    (tmp_path / "open.key").write_bytes(read(keys / "client-0.key"))
    (tmp_path / "open.key").chmod(0o644)
    with pytest.raises(UserError, match="other users may read"):
        read_private(tmp_path / "open.key")
    with pytest.raises(UserError, match=r"ca\.crt"):
        Credentials.of(str(tmp_path), 1)


def test_the_world_is_let_in_with_keys_or_in_words_only():
    check_exposure(Address("127.0.0.1", 1), "", insecure=False)
    check_exposure(Address("::1", 1), "", insecure=False)
    check_exposure(Address("0.0.0.0", 1), "keys", insecure=False)
    check_exposure(Address("0.0.0.0", 1), "", insecure=True)
    with pytest.raises(UserError, match="--keys DIR is required"):
        check_exposure(Address("0.0.0.0", 1), "", insecure=False)
    with pytest.raises(UserError, match="which of them"):
        check_exposure(Address("127.0.0.1", 1), "keys", insecure=True)


def test_addresses():
    assert parse_address("[::1]:18000", "--server") == Address("::1", 18000)
    assert str(Address("::1", 5)) == "[::1]:5" and str(parse_address("host:5", "--server")) == "host:5"
    assert [is_loopback(h) for h in ("127.9.9.9", "::1", "localhost", "0.0.0.0", "10.0.0.1", "example")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    for text in ("host", "host:", ":5", "host:0", "host:65536", "host:five"):
        with pytest.raises(UserError, match="wanted HOST:PORT"):
            parse_address(text, "--server")
    with pytest.raises(UserError, match="cannot listen there"):
        check_free(Address("192.0.2.1", 18000))


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        (server.main, ["--scenario", "dba", "--host", "0.0.0.0"], "--keys DIR is required"),
        (server.main, ["--scenario", "course"], "one experiment at a time"),
        (server.main, ["--scenario", "dba", "--port", "65536"], "--port 65536"),
        (server.main, ["--scenario", "dba", "--keys", "/no/such/folder"], "/no/such/folder"),
        (server.main, ["keys", "--clients", "2", "--out", "/proc/no"], "/proc/no"),
        (client.main, ["--server", "10.0.0.1:18000", "--client-id", "0"], "--keys DIR is required"),
        (client.main, ["--server", "nowhere", "--client-id", "0"], "wanted HOST:PORT"),
        (client.main, ["--server", "127.0.0.1:1", "--client-id", "0", "--key", "x"], "goes with --keys DIR"),
    ],
)
def test_what_cannot_be_ends_with_2_on_either_side(program, flags, words, capsys):
    assert program(flags) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_server_that_is_away_is_waited_for_as_long_as_was_said(capsys):
    assert client.main(["--server", "127.0.0.1:1", "--client-id", "0", "--wait", "0.5"]) == 1
    assert "no server at 127.0.0.1:1" in capsys.readouterr().err
