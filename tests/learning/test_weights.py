"""Starting models from files: every usual form is read, what does not fit is refused, nothing in a file is run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from oleander.datasets.data import Dataset
from oleander.learning import weights as weight_files
from oleander.learning.parameters import arrays_of
from oleander.learning.weights import save_model
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, fresh_model, layout_of, starting_model


def dataset(name: str = "thing", classes: int = 10) -> Dataset:
    empty = np.zeros((0, 3, 32, 32), dtype=np.uint8), np.zeros(0, dtype=np.int64)
    return Dataset(*empty, *empty, tuple(map(str, range(classes))), CIFAR10, name, "", weight_files.CHECKPOINTS)


@pytest.mark.parametrize("form", ["safetensors", "state dict", "wrapped", "data parallel", "counters left out"])
def test_weights_are_read_in_every_usual_form(tmp_path, form):
    model = fresh_model(10, 7)
    state = model.state_dict()
    if form == "counters left out":
        state = {k: v for k, v in state.items() if "num_batches" not in k}
    if form == "data parallel":
        state = {f"module.{k}": v for k, v in state.items()}
    path = tmp_path / "w"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": torch.tensor(3)} if form == "wrapped" else state, path)
    start = starting_model(str(path), dataset(), layout_of(10), seed=0)
    expected = layout_of(10).flatten(arrays_of(model))
    np.testing.assert_array_equal(start.state.weights, expected.weights)
    np.testing.assert_array_equal(start.state.statistics, expected.statistics)


def test_saved_model_is_read_back_and_its_hash_is_the_files(tmp_path):
    layout = layout_of(10)
    state = layout.flatten(arrays_of(fresh_model(10, 1)))
    digest = save_model(tmp_path / "m.safetensors", layout, state)
    assert digest == __import__("hashlib").sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest()
    np.testing.assert_array_equal(
        starting_model(str(tmp_path / "m.safetensors"), dataset(), layout, 0).state.weights, state.weights
    )
    assert save_model(tmp_path / "again", layout, state) == digest


def _without(name):
    return lambda s: {k: v for k, v in s.items() if k != name}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without("layer2.0.shortcut.0.weight"), ["missing layer2.0.shortcut.0.weight"]),
        (lambda s: s | {"fc.weight": torch.zeros(3)}, ["unexpected fc.weight"]),
        (lambda s: s | {"linear.weight": torch.zeros(7, 256)}, ["linear.weight is (7, 256), not (10, 256)"]),
        (lambda s: s | {"linear.bias": torch.full((10,), float("nan"))}, ["linear.bias", "not finite"]),
        (
            lambda s: s | {"linear.bias": torch.zeros(10, dtype=torch.int64)},
            ["linear.bias", "the type int64", "float32"],
        ),
        (
            lambda s: s | {"linear.bias": torch.zeros(10).to(torch.float8_e4m3fn)},
            ["the type float8_e4m3fn; known: float16"],
        ),
        (lambda s: {f"x.{k}": v for k, v in s.items()}, ["missing conv1.weight", "more"]),
        (lambda s: [1, 2], ["list", "not a state dict"]),
        (lambda s: {}, ["not a state dict"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, spoil, words):
    torch.save(spoil(fresh_model(10, 0).state_dict()), tmp_path / "w.pt")
    with pytest.raises(UserError) as error:
        starting_model(str(tmp_path / "w.pt"), dataset(), layout_of(10), 0)
    assert all(word in str(error.value) for word in [str(tmp_path / "w.pt"), *words])


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a weights file ran')",))


def test_files_that_are_no_weights_are_refused_and_run_no_code(tmp_path):
    torch.save({"a": Hostile()}, tmp_path / "hostile.pt")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("hello, this is not a model at all")
    (tmp_path / "cut.safetensors").write_bytes(b'\x10\x00\x00\x00\x00\x00\x00\x00{"a": ')
    for name in ("hostile.pt", "empty", "text", "cut.safetensors", "missing", "."):
        with pytest.raises(UserError, match="--weights"):
            starting_model(str(tmp_path / name), dataset(), layout_of(10), 0)


def test_without_a_checkpoint_the_start_is_fresh_and_says_so():
    start = starting_model("auto", dataset("folder:mine", 3), layout_of(3), 0)
    assert "fresh" in start.origin and "folder:mine" in start.origin
    assert starting_model("fresh", dataset(), layout_of(10), 0).origin == "a fresh model"


def test_an_image_folder_of_cifar10s_classes_starts_from_cifar10s_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "CHECKPOINTS", tmp_path)
    layout = layout_of(10)
    own = layout.flatten(arrays_of(fresh_model(10, 9)))
    save_model(tmp_path / "cifar10.safetensors", layout, own)
    for name, classes, origin in (
        ("cifar10", weight_files.CLASSES, "the shipped checkpoint cifar10"),
        ("folder:mine", weight_files.CLASSES, "the shipped checkpoint cifar10"),
        ("folder:mine", tuple("abcdefghij"), "a fresh model"),
        ("other", weight_files.CLASSES, "a fresh model"),
    ):
        start = starting_model("auto", replace(dataset(name), classes=classes), layout, 0)
        assert start.origin.startswith(origin) and np.array_equal(start.state.weights, own.weights) == (
            "shipped" in origin
        )


def test_the_toy_checkpoint_ships_and_fits():
    start = starting_model("auto", dataset("toy"), layout_of(10), 0)
    assert "toy" in start.origin and "fresh" not in start.origin
