"""Other people's checkpoints: the model's tensors wherever in a file they are, and by whatever prefix they go.

A safetensors file, or a PyTorch file of tensors (``weights_only=True``: no code runs), whose state dict may lie in a training's
checkpoint beside numbers, texts and an optimiser's state. What cannot be read says what was found, and how it is saved to be read.
"""

import difflib
import io
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from oleander.learning.parameters import COUNTER, VARIANCE, Layout
from oleander.system.foreign import GIB, check_unpacked, parsed_json, plain, read_bytes, shortened, what_it_is

MOST_BYTES = GIB
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "checkpoint",
)
"""Under which trainings keep the model in a checkpoint; where another fits too (an average of it, say), one of these is meant."""
WRAPPED = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What PyTorch's own wrappers put into names, at any place: DataParallel, compile, FSDP."""
PREFIXES = (*WRAPPED, *KEYS)
DEEPEST, MOST_SEEN, MOST_SAID, MOST_NAMED = 8, 100_000, 4, 6
SAVED = "torch.save(model.state_dict(), 'weights.pt')"
PLAIN = {
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter", "torch.Size", "torch.device", "collections.Counter", "builtins.set", "builtins.complex",
    "_codecs.encode", *(f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "int64", "int32", "bool")),
}  # fmt: skip
"""What tensors are made of, and what PyTorch itself reads beside them."""
BESIDE = {
    *(f"numpy.{room}.multiarray.{name}" for room in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray", "collections.defaultdict", "datetime.datetime", "datetime.timedelta", "datetime.date",
    "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
    *(f"builtins.{name}" for name in ("list", "dict", "int", "float", "str", "bool", "tuple")),
}  # fmt: skip
"""Values that trainings note beside the weights; they are passed over, and nothing of them is made."""


class Passed:
    """In the place of a value that is passed over, whatever it was to be made of."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _state: object) -> None:
        """Passed over as well."""


def read_tensors(path: Path, layout: Layout) -> Mapping[str, Tensor]:
    """Name in the model → tensor of a file, as far as it has them.

    Raises:
        OSError, ValueError, or whatever the libraries raise: it is no such file, or holds more than one such model.
    """
    content = read_bytes(path, MOST_BYTES)
    if content[8:9] == b"{":  # a safetensors file: 8 bytes of length, then JSON
        parsed_json(content[8 : 8 + int.from_bytes(content[:8], "little")])  # no tensor twice
        return _renamed(safetensors.torch.load(content), layout.names)
    found = _unpickled(content)
    states = {where: _renamed(tensors, layout.names) for where, tensors in _states(found)}
    if not states:
        keys = f" with the keys {_listed(list(map(str, found)))}" if isinstance(found, Mapping) and found else ""
        raise ValueError(f"holds a {type(found).__name__}{keys}, not a state dict of tensors; {SAVED} makes one")
    whole = [where for where, tensors in states.items() if set(layout.names) <= tensors.keys()]
    if len(whole) > 1:
        usual = [where for where in whole if set(where) <= set(KEYS)]
        if len(usual) != 1:
            both = " and ".join(".".join(where) or "the file itself" for where in whole[:3])
            raise ValueError(
                f"holds {len(whole)} such models, {both}; save one alone: torch.save(checkpoint[…], 'weights.pt')"
            )
        whole = usual
    return states[whole[0] if whole else max(states, key=lambda where: _rank(states[where], layout))]


def problems_of(tensors: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """Why these are not the tensors of this model; shapes and kinds before any values are looked at."""
    wanted = dict(zip(layout.names, layout.shapes, strict=True))
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    others = [name for name in found if name not in wanted]
    missing = [name for name in wanted if name not in found]
    problems = [f"missing {name}{_near(name, others) if i < MOST_SAID else ''}" for i, name in enumerate(missing)]
    problems += [f"unexpected {name}" for name in others]
    for name, shape in wanted.items():
        if name in found and (why := _amiss(name, found[name], shape)):
            problems.append(f"{name} {why}")
    return problems


def in_words(problems: list[str], tensors: Mapping[str, Tensor], layout: Layout) -> str:
    """The first of the problems; where it is names that differ, also those that were found and those wanted."""
    more = f" and {len(problems) - MOST_SAID} more" if len(problems) > MOST_SAID else ""
    said = "; ".join(shortened(plain(problem), 200) for problem in problems[:MOST_SAID]) + more
    if not problems[0].startswith(("missing", "unexpected")):
        return said
    names = [name for name in tensors if not name.endswith(COUNTER)]
    return f"{said}; found {len(names)}: {_listed(names)}; wanted {len(layout.names)}: {_listed(list(layout.names))}"


def _amiss(name: str, tensor: Tensor, shape: tuple[int, ...]) -> str:
    """Why a tensor cannot be this one; nothing where it can."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        return "is not a dense tensor of numbers"
    if tuple(tensor.shape) != shape:
        return f"is {tuple(tensor.shape)}, not {shape}"
    if tensor.dtype not in FLOATS:
        return f"has {_of_type(str(tensor.dtype))}"
    if not bool(tensor.isfinite().all()):
        return "has values that are not finite numbers"
    if not bool(tensor.to(torch.float32).isfinite().all()):
        return f"has values that are not finite numbers in float32: up to {float(tensor.abs().max()):.3g}"
    if name.endswith(VARIANCE) and tensor.numel() and float(tensor.min()) < 0:
        return f"has negative values, down to {float(tensor.min()):.3g}; a variance is 0 or more"
    return ""


def _of_type(dtype: str) -> str:
    """What numbers that no weight of ours is made of are, and what is known."""
    found, *known = (name.removeprefix("torch.") for name in (dtype, *map(str, FLOATS)))
    return f"values of the type {found}; known: {', '.join(known)}"


def _states(content: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Where in a file, by its keys, tensors lie side by side, and which: the model's, an optimiser's …"""
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    seen: set[int] = set()
    while waiting and len(seen) < MOST_SEEN:
        where, value = waiting.popleft()
        if id(value) in seen or len(where) > DEEPEST:
            continue
        seen.add(id(value))
        items = (
            value.items() if isinstance(value, Mapping) else enumerate(value if isinstance(value, list | tuple) else ())
        )
        below = [(str(key), other) for key, other in items]
        tensors = {key: other for key, other in below if isinstance(other, Tensor)}
        if tensors and isinstance(value, Mapping):
            yield where, tensors
        waiting.extend(((*where, key), other) for key, other in below if isinstance(other, Mapping | list | tuple))


def _renamed(tensors: Mapping[str, Tensor], wanted: tuple[str, ...]) -> Mapping[str, Tensor]:
    """By their names in the model: without what wraps them, where that brings more of the wanted names about."""
    best, waiting = tensors, [(tensors, 0)]
    while waiting:
        tried, depth = waiting.pop(0)
        if len(tried.keys() & set(wanted)) > len(best.keys() & set(wanted)):
            best = tried
        if set(wanted) <= best.keys() or depth > 4:
            break
        firsts = {name.partition(".")[0] for name in tried}
        ways = [_without_first(tried, prefix) for prefix in PREFIXES if prefix in firsts]
        if any(part in WRAPPED for name in tried for part in name.split(".")):
            ways.append(
                {".".join(p for p in name.split(".") if p not in WRAPPED): tensor for name, tensor in tried.items()}
            )
        waiting += [(way, depth + 1) for way in ways if len(way) == len(tried)]  # else two would have one name
    return best


def _without_first(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()}


def _rank(tensors: Mapping[str, Tensor], layout: Layout) -> tuple[int, int]:
    return len(tensors.keys() & set(layout.names)), len(tensors)


def _near(name: str, others: list[str]) -> str:
    close = difflib.get_close_matches(name, others[:1000], n=1)
    return f" (is it {close[0]}?)" if close else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(shortened(plain(name), 60) for name in names[:MOST_NAMED])
    return f"{shown} …" if len(names) > MOST_NAMED else shown


def _unpickled(content: bytes) -> Any:
    """What a PyTorch file holds: a ZIP archive with a pickle and raw numbers; before 1.6, pickles in a row.

    ``weights_only`` lets no code run, but lets a few bytes ask for any amount of memory. So the archive's members must be
    stored as they are, and the pickle may name what a state dict of plain tensors needs, what is passed over, and nothing else.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        if content[:1] != b"\x80":
            raise ValueError(f"is neither a safetensors nor a PyTorch file{what_it_is(content[:512])}")
        _check_pickles(content, pickles=5)
        return _loaded(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if any("/code/" in name for name in names):
            raise ValueError(
                "is TorchScript; torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt') makes a state dict"
            )
        check_unpacked(content)
        pickles = [name for name in names if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} data.pkl, where a PyTorch file has 1")
        _check_pickles(archive.read(pickles[0]), pickles=1)
    return _loaded(content)


def _loaded(content: bytes) -> Any:
    with torch.serialization.safe_globals([(Passed, name) for name in sorted(BESIDE)]):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_pickles(content: bytes, pickles: int) -> None:
    """Refuse pickles that name anything but what plain tensors are made of, and what is passed over."""
    foreign: list[str] = []
    with io.BytesIO(content) as opened:
        for _ in range(pickles):
            texts: list[str] = []
            for opcode, argument, _at in pickletools.genops(opened):
                if opcode.name in ("INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                    raise ValueError(f"its pickle has the operation {opcode.name}")
                if "UNICODE" in opcode.name:
                    texts = [*texts[-1:], str(argument)]
                if opcode.name in ("GLOBAL", "STACK_GLOBAL"):
                    name = str(argument).replace(" ", ".") if argument else ".".join(texts)
                    name = name.replace("__builtin__.", "builtins.")  # Python 2's name, which protocol 2 keeps
                    ours = name in PLAIN or name in BESIDE or re.fullmatch(r"torch\.\w+Storage", name)
                    if not ours:
                        foreign.append(name)
                    elif opcode.name == "STACK_GLOBAL":
                        raise ValueError(
                            "is pickled by another protocol than torch.save's own (it has STACK_GLOBAL); save it anew"
                        )
            if opened.tell() >= len(content):
                break
    if foreign:
        raise ValueError(_said_of(foreign))


def _said_of(foreign: list[str]) -> str:
    """What objects a pickle holds, which only running their own code would bring to life, and how to do without."""
    first = shortened(foreign[0], 80)
    if any(name.startswith("torch.nn.") for name in foreign):
        return f"holds a whole model, pickled (a {first}), not its numbers alone; in the program that made it: {SAVED}"
    types = [name for name in foreign if isinstance(getattr(torch, name.removeprefix("torch."), None), torch.dtype)]
    if types:
        return f"has {_of_type(types[0])}"
    return (
        f"its pickle names {first}, which no state dict of plain tensors needs; in the program that made it: "
        f"torch.save(checkpoint[KEY], 'weights.pt'), KEY being the state dict's, such as 'model_state_dict'"
    )
