"""The cohorts: few clients, few numbers, each here for a reason. All numbers are float32's, so nothing is rounded on the way in."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import product as every

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

    def given(self) -> Given:
        """In exact numbers."""
        rows = [[Fraction(x) for x in row] for row in self.updates]
        return Given(rows, list(self.counts()), [Fraction(x) for x in self.server_update] or None, self.output_layer)

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
           server_update=(DENORMAL * 16, DENORMAL * 16)),
    Cohort("tiny", "updates of 1e-20: squares of 1e-40",
           [[single(x * 1e-20) for x in row] for row in drawn(7, 3, 5)], server_update=tuple(single(x * 1e-20) for x in SERVER)),
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


def check() -> None:
    """That all numbers are float32's, and no two cohorts have one name."""
    for cohort, row in every(COHORTS, range(12)):
        for x in cohort.updates[row] if row < len(cohort.updates) else cohort.server_update:
            assert single(x) == x, (cohort.name, x)
    assert len({cohort.name for cohort in COHORTS}) == len(COHORTS)
