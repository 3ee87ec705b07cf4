"""The cohorts: few clients, few numbers, each here for a reason. All numbers are float32's, so nothing is rounded on the way in."""

import itertools
import struct
from dataclasses import dataclass
from fractions import Fraction

from conformance.exact import Given

Rows = list[list[float]]
LARGEST = 3.4028234663852886e38
"""The largest float32."""
DENORMAL = 1.401298464324817e-45
"""The smallest float32 above 0."""


@dataclass(frozen=True)
class Cohort:
    """One cohort."""

    name: str
    why: str
    """What it tells apart."""
    updates: Rows
    examples: tuple[int, ...] = ()
    """Of each client; none: one each."""
    server_update: tuple[float, ...] = ()
    output_layer: tuple[int, int] | None = None
    scale: float = 1.0
    """Of the global model's numbers."""

    def given(self) -> Given:
        """In exact numbers."""
        rows = [[Fraction(x) for x in row] for row in self.updates]
        own, model = ([Fraction(x) for x in vector] for vector in (self.server_update, self.global_model()))
        return Given(rows, list(self.counts()), own or None, self.output_layer, model)

    def global_model(self) -> list[float]:
        """The model that the updates are changes of: whole numbers from −64 to 64, times the scale."""
        return [single(16 * x * self.scale) for x in drawn(1, len(self.updates[0]), 97)[0]]

    def counts(self) -> tuple[int, ...]:
        """Examples of each client."""
        return self.examples or (1,) * len(self.updates)


def single(number: float) -> float:
    """The float32 nearest to it."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def drawn(n: int, d: int, seed: int, spread: int = 64) -> Rows:
    """Whole numbers over 16 by a small generator written out here (Park and Miller's), so that the vectors can be made anew."""
    state, rows = seed + 1, []
    for _ in range(n):
        row = []
        for _ in range(d):
            state = state * 48271 % 2147483647
            row.append((state % (2 * spread + 1) - spread) / 16)
        rows.append(row)
    return rows


def around(centre: list[float], rows: Rows, factor: float) -> Rows:
    """Rows of ``drawn``, smaller, around a centre."""
    return [[c + factor * x for c, x in zip(centre, row, strict=True)] for row in rows]


SERVER = (1.0, 0.5, -0.25)
BENIGN = around([1.0, 0.5, -0.25], drawn(5, 3, 3), 0.0625)

COHORTS = [
    Cohort("plain", "six unlike updates", drawn(6, 3, 1), server_update=SERVER),
    Cohort("odd", "seven of them: a median that is one of the values", drawn(7, 3, 2), server_update=SERVER),
    Cohort("examples", "numbers of examples that differ: only rules that weight with them may look", drawn(7, 3, 2),
           (1, 2, 3, 50, 5, 6, 7), SERVER),
    Cohort("eleven", "eleven clients in five dimensions: room for f = 2", drawn(11, 5, 4), server_update=(*SERVER, 0.0, 1.0)),
    Cohort("outlier", "five alike and one far away", [*BENIGN, [-64.0, 96.0, 32.0]], server_update=SERVER),
    Cohort("huge", "one number of 1e30 must not swallow the others' digits",
           [*BENIGN, [single(1e30), 0.5, -0.25]], server_update=SERVER),
    Cohort("largest", "float32's largest number: its square is no float32",
           [*BENIGN, [LARGEST, -LARGEST, LARGEST]], server_update=SERVER),
    Cohort("denormal", "the smallest numbers: their squares are no float32",
           [[x * DENORMAL for x in row] for row in [[3.0, 5.0], [4.0, 4.0], [5.0, 3.0], [4.0, 5.0], [900.0, -700.0]]],
           server_update=(DENORMAL * 16, DENORMAL * 16), scale=DENORMAL),
    Cohort("tiny", "updates of 1e-20: squares of 1e-40",
           [[single(x * 1e-20) for x in row] for row in drawn(7, 3, 5)], server_update=tuple(single(x * 1e-20) for x in SERVER),
           scale=1e-20),
    Cohort("cancel", "large numbers that cancel: the mean is what is left",
           [[1e8, 1.0], [-1e8, 1.0], [1.0, -1e8], [1.0, 1e8], [1.0, 3.0]], server_update=(1.0, 1.0)),
    Cohort("close", "updates that differ in the eighth digit: ‖x‖² + ‖y‖² − 2xy in float32 sees none of it",
           [[1024 + k / 8192, 1024 - k / 8192] for k in (0, 1, 2, 3, 40)], server_update=(1.0, 1.0)),
    Cohort("zeros", "nobody changes anything", [[0.0, 0.0]] * 5, server_update=(1.0, 1.0)),
    Cohort("one zero", "one client changes nothing: it has no direction", [*BENIGN[:4], [0.0] * 3], server_update=SERVER),
    Cohort("equal", "all send the same", [[0.5, -2.0, 1.0]] * 7, server_update=SERVER),
    Cohort("duplicates", "three send the same: duplicates are neighbours of each other", [*BENIGN[:4], *[[2.0, -2.0, 2.0]] * 3],
           server_update=SERVER),
    Cohort("corners", "the corners of a square and its middle twice: ties between corners",
           [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [4.0, 0.0]], server_update=(1.0, 0.0)),
    Cohort("opposite", "two of six point the other way", [*BENIGN[:4], [-1.0, -0.5, 0.25], [-3.0, -1.5, 0.75]],
           server_update=SERVER),
    Cohort("against", "all point away from the server's own update", [[-x for x in row] for row in BENIGN], server_update=SERVER),
    Cohort("clusters", "five around one point, three around another", [*BENIGN, *around([-4.0, 4.0, 4.0], drawn(3, 3, 6), 0.0625)],
           server_update=SERVER),
    Cohort("sybils", "three send nearly the same direction in different lengths",
           [*BENIGN[:3], [2.0, -4.0, 1.0], [4.0, -8.0, 2.125], [1.0, -2.0, 0.5625]], server_update=SERVER),
    Cohort("layer", "two alike in the output layer alone, its last two numbers",
           [[5.0, 1.0, 1.0, 2.0], [-3.0, 2.0, 1.0, 2.125], [1.0, -6.0, -2.0, 1.0], [0.5, 2.0, 1.5, -1.0]],
           server_update=(1.0, 1.0, 0.5, 0.5), output_layer=(2, 4)),
    Cohort("three", "n = 3, the least for f = 0", drawn(3, 2, 7), server_update=(1.0, -1.0)),
    Cohort("four", "n = 4, below 2f + 3 for f = 1", drawn(4, 2, 8), server_update=(1.0, -1.0)),
    Cohort("seven wide", "seven clients, the least for Bulyan with f = 1, on so fine a grid that nothing ties", drawn(7, 3, 9, 40000),
           server_update=SERVER),
    Cohort("seven apart", "the same with one far away", [*drawn(6, 3, 10, 4000), [4096.0, -4096.0, 2048.0]], server_update=SERVER),
    Cohort("fifteen", "fifteen clients with two of them far away together", [*drawn(13, 4, 11, 4000), [900.0] * 4, [901.0] * 4],
           server_update=(*SERVER, 0.0)),
    Cohort("one", "a cohort of one", [[0.25, -8.0]], server_update=(1.0, -1.0)),
    Cohort("signs", "+0, −0 and signs that balance", [[1.0, 0.0, -0.0], [-1.0, 0.0, 2.0], [1.0, -0.0, -2.0], [-1.0, 0.0, 0.0]],
           server_update=(1.0, 1.0, 1.0)),
]  # fmt: skip


def ordered(row: list[float], small: tuple[int, ...]) -> list[float]:
    """The row with these of its numbers so small that they are never among the 70 % largest."""
    return [x / 4096 if j in small else x + (1 if x > 0 else -1) for j, x in enumerate(row)]


TEN = [1.0, -0.5, 0.75, -0.25, 2.0, -1.5, 0.5, -1.0, 1.25, -0.75]
TENS = around(TEN, drawn(7, 10, 21, 40000), 0.0001220703125)
LAYERS = [ordered(row, (1, 4, 6, 12, 15, 19)) for row in drawn(8, 20, 28, 40000)]

WIDE = [
    Cohort("ten", "eight unlike updates of ten numbers: 30 and 70 % are whole", drawn(8, 10, 22, 40000)),
    Cohort("ten odd", "nine of them", drawn(9, 10, 23, 40000)),
    Cohort("ten many", "fifteen of them", drawn(15, 10, 24, 40000)),
    *(Cohort(f"ten by {n}", f"{n} unlike updates of ten numbers", drawn(n, 10, 30 + n, 40000)) for n in (5, 6, 7, 10, 11, 12)),
    Cohort("ten alike", "seven around one point", TENS),
    Cohort("ten turned", "two of nine point the other way", [*TENS, *([-x for x in row] for row in TENS[:2])]),
    Cohort("ten longer", "one of eight is 128 times as long", [*TENS, [128 * x for x in TENS[0]]]),
    Cohort("ten shorter", "one of eight is hardly there", [*TENS, [x / 4096 for x in TENS[0]]]),
    Cohort("ten huge", "one number of 1e30", [*TENS, [single(1e30), *TENS[0][1:]]]),
    Cohort("ten flipped", "three of ten have the signs of half of the numbers turned, at the same length",
           [*TENS, *([x if j % 2 else -x for j, x in enumerate(row)] for row in TENS[:3])]),
    Cohort("ten apart", "eight around one point, four around another",
           [*TENS, [x + 0.03125 for x in TEN], *around([-x for x in TEN[::-1]], drawn(4, 10, 25, 40000), 0.0001220703125)]),
    Cohort("ten equal", "all send the same", [[*TEN]] * 6),
    Cohort("ten sparse", "numbers of 0 that have no sign", [[x if (i + j) % 3 else 0.0 for j, x in enumerate(row)]
                                                           for i, row in enumerate(TENS)]),
    Cohort("ten examples", "numbers of examples that differ", drawn(8, 10, 22, 40000), (1, 2, 3, 50, 5, 6, 7, 8)),
    Cohort("layers", "two layers of ten numbers", LAYERS, output_layer=(10, 20)),
    Cohort("layers far", "one client is far away in the second layer alone",
           [*LAYERS[:7], [*LAYERS[7][:10], *(64 * x for x in LAYERS[7][10:])]], output_layer=(10, 20)),
    Cohort("layers turned", "one client is turned round in the first layer alone",
           [*around(LAYERS[0], drawn(6, 20, 26, 400), 0.00390625), [*(-x for x in LAYERS[0][:10]), *LAYERS[0][10:]]],
           output_layer=(10, 20)),
]  # fmt: skip
"""For rules that take shares of the coordinates, or look into layers."""


def check() -> None:
    """That all numbers are float32's, and no two cohorts have one name."""
    for cohort in (*COHORTS, *WIDE):
        for x in itertools.chain(*cohort.updates, cohort.server_update, cohort.global_model()):
            assert single(x) == x, (cohort.name, x)
    assert len({cohort.name for cohort in (*COHORTS, *WIDE)}) == len(COHORTS) + len(WIDE)
