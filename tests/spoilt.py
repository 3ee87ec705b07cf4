"""What a hostile node may put in each field of what it sends: values of every kind, and arrays packed in every way."""

import contextlib
import gzip
import io
import pickle
import zlib
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import strategies as st

METADATA = ("run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id", "group_id", "created_at", "ttl",
            "message_type", "src_task_id", "dst_task_id")  # fmt: skip
WIRE_METADATA = ("run_id", "src_node_id", "dst_node_id", "group_id", "created_at", "ttl", "message_type")


class Hostile:
    """Raises whatever it is asked."""

    def __init__(self, error: type[Exception]) -> None:
        self.__dict__["error"] = error

    def fail(self, *_: object, **__: object) -> Any:
        raise self.__dict__["error"]("\x1b[2J" + "x" * 500)

    __eq__ = __lt__ = __le__ = __gt__ = __len__ = __iter__ = __repr__ = __str__ = __bool__ = __getattr__ = fail
    __int__ = __float__ = __index__ = __contains__ = __getitem__ = __hash__ = __abs__ = fail


class Executed:
    """Unpickled, it says so."""

    seen: list[int] = []  # noqa: RUF012

    def __reduce__(self):
        return Executed.seen.append, (1,)


def nested(depth: int) -> list:
    """Lists in lists: ``repr`` of them is a RecursionError."""
    outer: list = []
    for _ in range(depth):
        outer = [outer]
    return outer


def npy(array: np.ndarray, *, allow_pickle: bool = False, version=None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=allow_pickle)
    return file.getvalue()


def lying(shape: str, descr: str = "'<f4'", version: int = 1, more: str = "", data: bytes = b"\0" * 24) -> bytes:
    """An .npy file whose header claims what its data do not have."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}{more}}}".encode() + b"\n"
    length = len(head).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + length[: 2 if version == 1 else 4] + head + data


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(10**6, dtype=np.float32))
    return file.getvalue()


SIX = np.arange(6, dtype=np.float32)
PACKED: dict[str, bytes] = {
    "nothing": b"", "garbage": b"\x00\x01garbage", "half": npy(SIX)[:-9], "more": npy(SIX) + b"\0" * 9, "only a head": npy(SIX)[:128],
    "doubles": npy(SIX.astype(np.float64)), "halves": npy(SIX.astype(np.float16)), "big-endian": npy(SIX.astype(">f4")),
    "whole numbers": npy(SIX.astype(np.int64)), "bools": npy(SIX > 2), "complex": npy(SIX.astype(np.complex64)),
    "texts": npy(SIX.astype("U9")), "dates": npy(SIX.astype("M8[s]")), "records": npy(np.zeros(6, dtype=[("a",
    "<f4"), ("b", "<i8")])),
    "matrix": npy(SIX.reshape(2, 3)), "scalar": npy(np.array(1, np.float32)), "fortran": npy(np.asfortranarray(SIX.reshape(2, 3))),
    "NaN": npy(np.full(6, np.nan, np.float32)), "infinite": npy(np.full(6, np.inf, np.float32)),
    "largest": npy(np.full(6, 3e38, np.float32)),
    "pickle": pickle.dumps(Executed()), "objects": npy(np.array([Executed()] * 6), allow_pickle=True), "npz": _npz(),
    "gzip": gzip.compress(npy(SIX)), "zlib": zlib.compress(b"\0" * 10**6), "version 2": npy(SIX, version=(2, 0)),
    "10^12 numbers": lying("(1000000000000,)"), "10^8 numbers": lying("(100000000,)"),
    "10^8 numbers, version 2": lying("(100000000,)", version=2),
    "negative": lying("(-6,)"), "no number": lying("(None,)"), "true": lying("(True,)"), "10^5000": lying("(" + "9" * 5000 + ",)"),
    "6, and objects": lying("(6,)", "'|O'", data=pickle.dumps([Executed()] * 6)), "wide numbers": lying("(6,)", "'|V100000000'"),
    "6 times 10^8": lying("(6,)", "('<f4', (100000000,))"), "an expression": lying("(6,) + (7,)"),
    "deep": lying("(" * 4000 + "6," + ")" * 4000),
    "minus": lying("-" * 9000 + "6"), "long": lying("(6,)", more=", 'x': '" + "y" * 40_000 + "'"),
    "no end": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "no dictionary": b"\x93NUMPY\x01\x00\x04\x00[1]\n", "version 9": b"\x93NUMPY\x09\x00" + npy(SIX)[8:],
}  # fmt: skip
"""Ways to pack an array, other than the right one."""

TEXTS = [
    "",
    "\x00",
    "\x1b[2J\r\n",
    "\ud800",
    "x" * 100_000,
    "../../etc",
    "NaN",
    "{" * 5000,
    "Node Unavailable",
    "ÿ\u202e",
]
NUMBERS = [0, 1, -1, 10, 2**31, 2**52, 2**63, -(2**63), 10**400, 10**5000, True, False, 0.0, -0.0, 0.5, 10.0, 1e308, -1e308, 5e-324,
           float("nan"), float("inf"), float("-inf")]  # fmt: skip
ERRORS = (
    ValueError,
    TypeError,
    RecursionError,
    MemoryError,
    OverflowError,
    AttributeError,
    KeyError,
    ZeroDivisionError,
    UnicodeError,
)


def _one_of(values: list[Any]) -> st.SearchStrategy[Any]:
    """One of these, by its place: Hypothesis may print all that a strategy holds, and Python no number of 5,000 digits."""
    return st.integers(0, len(values) - 1).map(lambda place: values[place])


odd = st.one_of(
    st.none(),
    _one_of(NUMBERS),
    _one_of(TEXTS),
    _one_of(list(PACKED.values())),
    st.sampled_from(ERRORS).map(Hostile),
    st.builds(nested, st.sampled_from([1, 5000])),
    _one_of([(), (6,), (6, 1), (-6,), (10**12,), (6.0,), (True,), ("6",), (None,), (1,) * 100_000, [1] * 100_000,
             {}, {6: 6}, object()]),
    st.builds(lambda: Array(dtype="float32", shape=(6,), stype="numpy.ndarray", data=b"")),
    st.builds(lambda: ArrayRecord([SIX])),
    st.builds(lambda: MetricRecord({"num-examples": 10})),
    st.builds(lambda: ConfigRecord({"partition-id": 2})),
    st.builds(RecordDict),
)  # fmt: skip


def replies(honest: Message) -> st.SearchStrategy[Message]:
    """This reply (content with arrays and metrics, or with an identity), one to three of its fields spoilt."""
    return st.lists(st.tuples(_places(honest), odd), min_size=1, max_size=3).map(
        lambda changes: _spoilt(honest, changes)
    )


def _places(honest: Message) -> st.SearchStrategy[tuple]:
    places: list[tuple] = [("metadata", name) for name in METADATA]
    places += [("message", name) for name in ("_metadata", "_content", "_error", "error", "reason", "code")]
    for key, record in honest.content.items():
        places += [("record", key), ("drop", key), ("extra", key)]
        places += [(kind, key, field) for field in record for kind in ("field", "lose")]
        if isinstance(record, ArrayRecord):
            fields = ("dtype", "shape", "stype", "data", "packed", "packed", "packed", "packed")
            places += [("array", key, index, name) for index in range(len(record)) for name in fields]
            places += [("twice", key)]
    return st.tuples(st.sampled_from(places), st.sampled_from(list(PACKED)))


def copied(message: Message) -> Message:
    """A message that can be spoilt without spoiling the one it was made from."""
    records: dict[str, Any] = {}
    for key, record in message.content.items():
        records[key] = record.copy()
        for name, value in record.items():
            if isinstance(value, Array):
                records[key].__dict__["_data"][name] = Array(value.dtype, value.shape, value.stype, value.data)
    new = Message(RecordDict(records), dst_node_id=1, message_type="train")
    new.metadata.__dict__.update(message.metadata.__dict__)
    return new


def _spoilt(honest: Message, changes: list[tuple[tuple, Any]]) -> Message:
    message = copied(honest)
    for ((kind, *where), packed), value in changes:
        content = message.__dict__["_content"]
        data = content.__dict__["_data"] if isinstance(content, RecordDict) else {}
        if kind == "metadata":
            with contextlib.suppress(Exception):
                message.__dict__["_metadata"].__dict__.update({f"_{where[0]}": value})
        elif kind == "message":
            _set_message(message, where[0], value)
        elif kind in ("record", "drop", "extra"):
            if kind == "drop":
                data.pop(where[0], None)
            else:
                data[where[0] if kind == "record" else "extra"] = value
        else:
            record = data.get(where[0])
            fields = (
                record.__dict__.get("_data") if isinstance(record, ArrayRecord | MetricRecord | ConfigRecord) else None
            )
            if fields is not None:
                _set_field(fields, kind, where[1:], value, PACKED[packed])
    return message


def _set_message(message: Message, name: str, value: Any) -> None:
    if name.startswith("_"):
        message.__dict__[name] = value
    else:
        message.__dict__["_content"] = None
        message.__dict__["_error"] = {
            "error": Error(1, None),
            "reason": Error(1, value),
            "code": Error(value, "out of cheese"),
        }[name]


def _set_field(fields: dict, kind: str, where: list, value: Any, packed: bytes) -> None:
    if kind == "field":
        fields[where[0]] = value
    elif kind == "lose":
        fields.pop(where[0], None)
    elif kind == "twice":
        fields.update({f"{name}'": array for name, array in list(fields.items())})
    elif len(fields) > where[0] and isinstance(array := list(fields.values())[where[0]], Array):
        array.__dict__["data" if where[1] == "packed" else where[1]] = packed if where[1] == "packed" else value
