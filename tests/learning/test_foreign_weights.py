"""Checkpoints of every other kind are refused, in little memory; old ones are read."""

import io
import json
import pickle
import resource
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save

from tests.foreign_files import refused, weights
from tests.spaces import fresh_model

STATE = fresh_model(10, 0).state_dict()


SHAPE = tuple(STATE["linear.weight"].shape)


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
