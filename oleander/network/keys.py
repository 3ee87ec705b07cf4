"""Keys and certificates of a network: ``python server.py keys --clients 6 --out DIR``.

| file | who has it | what it is |
|---|---|---|
| `ca.crt` | all | by it a client knows the server |
| `ca.key` | nobody needs it to run | makes further server certificates; keep it away, or delete it |
| `server.crt`, `server.key` | the server | its TLS certificate, for the names and addresses given |
| `client-I.key` | client I alone | signs what client I sends |
| `client-I.pub` | the server | by it the server knows client I |

Elliptic-curve keys (P-384), in the forms that Flower's own programs read. Files have mode 0600 and are never overwritten.
"""

import datetime
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from oleander.system import itself
from oleander.system.errors import UserError
from oleander.system.foreign import MIB, plain, read_bytes, reason, refusing, shortened

DAYS = 365
CA, SERVER, SERVER_KEY = "ca.crt", "server.crt", "server.key"
MOST_CLIENTS = 10_000
MOST_BYTES = MIB
Private: TypeAlias = ec.EllipticCurvePrivateKey
Public: TypeAlias = ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


def make_keys(folder: Path, clients: int, names: list[str]) -> list[str]:
    """Write the files for this many clients and a server with these names and addresses; returns the files' names.

    Raises:
        UserError: a file that is there, a number or a name that cannot be.
    """
    if not 1 <= clients <= MOST_CLIENTS:
        raise UserError(f"--clients {clients}: wanted 1 to {MOST_CLIENTS}")
    if not names:
        raise UserError("--san: wanted a host name or an address, one or more")
    for name in names:
        _name(name)
    authority, server = certificates(names)
    files = {CA: authority.certificate, "ca.key": authority.key, SERVER: server.certificate, SERVER_KEY: server.key}
    for client in range(clients):
        key = ec.generate_private_key(ec.SECP384R1())
        files[f"client-{client}.key"] = _private(key, serialization.PrivateFormat.OpenSSH)
        files[f"client-{client}.pub"] = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise UserError(f"--out {folder}: {', '.join(there[:3])} are there already, and keys are never overwritten")
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in files.items():
            _write(folder / name, content, written)
    except OSError as error:
        for file in written:
            file.unlink()
        raise UserError(f"--out {folder}: {reason(error)}") from None
    return list(files)


def certificates(names: list[str], days: int = DAYS) -> tuple[Certificate, Certificate]:
    """A new authority and a server's certificate of it, for these names and addresses.

    Raises:
        UserError: not a name.
    """
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)  # clocks differ
    authority_key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Oleander network")])

    def begun(name: x509.Name, key: Public, *, authority: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    authority = begun(subject, authority_key.public_key(), authority=True).add_extension(
        x509.KeyUsage(**usage | {"key_cert_sign": True, "crl_sign": True}), critical=True
    )
    server = (
        begun(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]),
            server_key.public_key(),
            authority=False,
        )
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.KeyUsage(**usage | {"digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return tuple(  # type: ignore[return-value]
        Certificate(
            builder.sign(authority_key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM),
            _private(key, serialization.PrivateFormat.PKCS8),
        )
        for builder, key in ((authority, authority_key), (server, server_key))
    )


def _name(name: str) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if len(name) > LONGEST_HOST or not re.fullmatch(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", name, re.ASCII):
            raise UserError(f"--san {shortened(plain(name), 80)}: wanted a host name or an address") from None
        return x509.DNSName(name)
    if not name.isascii() or "%" in name:
        raise UserError(f"--san {shortened(plain(name), 80)}: wanted an address in plain digits, without a zone")
    return x509.IPAddress(address)


LONGEST_HOST = 253
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"


def read_public(folder: Path, clients: int) -> list[Public]:
    """The clients' public keys, client 0's first.

    Raises:
        UserError: one is not there, or is none.
    """
    return [
        _checked(folder / f"client-{client}.pub", serialization.load_ssh_public_key, Public)
        for client in range(clients)
    ]


def read_private(file: Path) -> Private:
    """A client's private key.

    Raises:
        UserError: it is not there, is none, or others may read it.
    """
    key: Private = _checked(file, lambda data: serialization.load_ssh_private_key(data, password=None), Private)
    with refusing(f"--key {file}"):
        mode = file.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        raise UserError(f"{file}: other users may read this private key; chmod 600 it")
    return key


def read(file: Path) -> bytes:
    """A file of the folder of keys.

    Raises:
        UserError: it is not there.
    """
    with refusing(f"--keys: {file}", f"`{itself.command('server')} keys --help` says how it is made"):
        return read_bytes(file, MOST_BYTES)


def _checked(file: Path, load, kind):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    content = read(file)
    try:
        key = load(content)
    except Exception as error:
        raise UserError(f"{file}: not a key ({reason(error)})") from None
    if not isinstance(key, kind):
        raise UserError(f"{file}: not an elliptic-curve key")
    return key


def _private(key: Private, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(file: Path, content: bytes, written: list[Path]) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    written.append(file)  # half a one, too, must go
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
