"""Checkpoints as other people save them: wrapped, prefixed, beside an optimiser; and what is said of those that cannot be read."""

import argparse
import datetime
import io
import pathlib
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from oleander.datasets.digits import SPACE
from oleander.learning.parameters import arrays_of
from oleander.learning.weights import layout_of, starting_model
from oleander.models import fresh_model
from tests.foreign_files import refused
from tests.learning.test_weights import dataset

MODEL = fresh_model("cnn", 10, SPACE, 7)
STATE = MODEL.state_dict()
OTHER = fresh_model("cnn", 10, SPACE, 8).state_dict()
LAYOUT = layout_of("cnn", 10, SPACE)
OPTIMISER = torch.optim.Adam(MODEL.parameters())
(sum((p**2).sum() for p in MODEL.parameters())).backward()
OPTIMISER.step()
MODEL.load_state_dict(STATE := {name: tensor.clone() for name, tensor in STATE.items()})


def weights(path):
    return starting_model("cnn", str(path), dataset(), LAYOUT, 0).state


def is_the_model(path, state=STATE):
    model = fresh_model("cnn", 10, SPACE, 0)
    model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in state.items()})
    expected, found = LAYOUT.flatten(arrays_of(model)), weights(path)
    return np.array_equal(found.weights, expected.weights) and np.array_equal(found.statistics, expected.statistics)


def prefixed(prefix, state=STATE):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def within(name, state=STATE):
    """As a part of a model that is wrapped by itself: conv1._orig_mod.weight."""
    return {f"{first}.{name}.{rest}": t for key, t in state.items() for first, _, rest in [key.partition(".")]}


NESTED = {
    **{key: {key: STATE} for key in ("net", "model", "model_state_dict", "state_dict", "network", "weights", "module")},
    "a key of one's own": {"best_so_far": STATE},
    "model in checkpoint": {"checkpoint": {"model": {"state_dict": STATE}}, "epoch": 3},
    "beside an optimiser": {"epoch": 3, "optimizer": OPTIMISER.state_dict(), "model_state_dict": STATE, "loss": 0.1},
    "an optimiser first": {"optimizer_state_dict": OPTIMISER.state_dict(), "scheduler": {"x": [1]}, "net": prefixed("module.")},
    "beside an average of it": {"ema": OTHER, "model": STATE},
    "the same twice": {"model": STATE, "state_dict": STATE},
    "numbers among the tensors": {**STATE, "epoch": 3, "acc": 0.5, "note": "text", "none": None},
    "in a list": [{"epoch": 1}, STATE],
    "numpy beside it": {"net": STATE, "acc": np.float64(93.2), "epoch": np.int64(3), "curve": np.zeros(3), "kind": np.dtype("f4")},
    "other values": {
        "model": STATE, "at": datetime.datetime(2024, 1, 1), "path": pathlib.PosixPath("/x"), "steps": Counter({3: 1}),
        "device": torch.device("cpu"), "dtype": torch.float32, "seen": {1, 2}, "more": defaultdict(list),
    },
}  # fmt: skip
PREFIXED = {
    **{prefix: prefixed(prefix) for prefix in ("module.", "_orig_mod.", "model.", "net.", "state_dict.")},
    "both": prefixed("module._orig_mod."),
    "the other way": prefixed("_orig_mod.module."),
    "three": prefixed("model.module._orig_mod."),
    "within": within("_orig_mod"),
    "within and before": prefixed("model.", within("module")),
    "of FSDP": within("_fsdp_wrapped_module"),
}


@pytest.mark.parametrize("what", [*NESTED, *PREFIXED])
def test_a_model_is_found_wherever_it_is_and_by_whatever_prefix_it_goes(what, tmp_path):
    torch.save((NESTED | PREFIXED)[what], tmp_path / "w.pt")
    assert is_the_model(tmp_path / "w.pt")
    if what in PREFIXED:
        save_file(PREFIXED[what], tmp_path / "w.safetensors", {"format": "pt", "epoch": "3"})
        assert is_the_model(tmp_path / "w.safetensors")
        torch.save({"epoch": 1, "model": PREFIXED[what]}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
        assert is_the_model(tmp_path / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_point_is_read(dtype, tmp_path):
    other = {n: t.to(dtype) if t.is_floating_point() else t for n, t in STATE.items()}
    torch.save(other, tmp_path / "w.pt")
    save_file(other, tmp_path / "w.safetensors")
    assert is_the_model(tmp_path / "w.pt", other) and is_the_model(tmp_path / "w.safetensors", other)


STEM = next(name for name in LAYOUT.names if name.endswith("weight"))
VARIANCE = next(name for name in LAYOUT.names if name.endswith("running_var"))


def renamed(old, new):
    return {name.replace(old, new): tensor for name, tensor in STATE.items()}


def full(name, value, dtype=torch.float32):
    return STATE | {name: torch.full(STATE[name].shape, value, dtype=dtype)}


class Net(torch.nn.Module):
    """Of nobody's program but this."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)


REFUSED = {
    "one name otherwise": (renamed(STEM, STEM.replace("weight", "weigth")), [f"missing {STEM} (is it ", "found ", "wanted "]),
    "nothing of it": ({f"x.{name}": t for name, t in STATE.items()}, [f"missing {LAYOUT.names[0]}", "more", "found ", "x."]),
    "one too many": (STATE | {"head.weight": torch.zeros(1)}, ["unexpected head.weight", f"wanted {len(LAYOUT.names)}: "]),
    "another shape": (STATE | {STEM: torch.zeros(3, 3)}, [f"{STEM} is (3, 3), not ("]),
    "whole numbers": (full(STEM, 1, torch.int32), [STEM, "the type int32; known: float16"]),
    "NaN": (full(STEM, float("nan")), [STEM, "not finite numbers"]),
    "infinite": (full(STEM, float("inf")), [STEM, "not finite numbers"]),
    "beyond float32": (full(STEM, -1e300, torch.float64), [STEM, "in float32: up to 1e+300"]),
    "a negative variance": (full(VARIANCE, -0.5), [VARIANCE, "negative values, down to -0.5", "0 or more"]),
    "two models": ({"model": STATE, "net": OTHER}, ["2 such models", "model and net", "torch.save("]),
    "two of one's own": ({"one": STATE, "two": OTHER}, ["2 such models", "one and two"]),
    "no tensors": ({"epoch": 3, "lr": 0.1}, ["dict with the keys epoch, lr", "not a state dict"]),
    "numpy's arrays": ({name: t.numpy() for name, t in STATE.items()}, ["not a state dict of tensors", "conv1"]),
    "a number": (3, ["holds a int, not a state dict"]),
    "a tensor": (torch.zeros(3), ["holds a Tensor, not a state dict"]),
    "an optimiser alone": (OPTIMISER.state_dict(), ["missing", "exp_avg"]),
    "a whole model": (Net(), ["whole model", f"{Net.__module__}.Net", "torch.save(model.state_dict(), 'weights.pt')"]),
    "of torch alone": (torch.nn.Sequential(torch.nn.Linear(1, 1)), ["whole model", "torch.nn.modules.container.Sequential"]),
    "a model in a checkpoint": ({"epoch": 1, "model": Net()}, ["whole model", "Net"]),
    "somebody's object": ({"model": STATE, "args": argparse.Namespace(lr=1)}, ["argparse.Namespace", "torch.save(checkpoint[KEY]"]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_names_what_was_found_and_how_to_save_it(what, tmp_path):
    content, words = REFUSED[what]
    torch.save(content, tmp_path / "w.pt")
    said = refused(weights, tmp_path / "w.pt")
    assert said.startswith(f"--weights {tmp_path / 'w.pt'}") and all(word in said for word in words), said
    assert len(said) < 1500


def test_a_script_a_foreign_protocol_and_other_files_say_what_they_are(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "script"))
    assert "torch.jit.load(FILE).state_dict()" in refused(weights, tmp_path / "script")
    torch.save({"a": argparse.Namespace()}, tmp_path / "p4", pickle_protocol=4)
    assert "argparse.Namespace" in refused(weights, tmp_path / "p4")
    torch.save(OrderedDict(STATE), tmp_path / "p4", pickle_protocol=4)
    assert "another protocol" in refused(weights, tmp_path / "p4")
    with io.BytesIO() as opened:
        np.savez(opened, a=np.zeros(2))
        (tmp_path / "npz").write_bytes(opened.getvalue())
    assert "0 data.pkl, where a PyTorch file has 1" in refused(weights, tmp_path / "npz")
    for head, words in (
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>", "web page"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"hello", "neither a safetensors nor a PyTorch file"),
    ):
        (tmp_path / "x").write_bytes(head)
        assert words in refused(weights, tmp_path / "x")
