"""The toy dataset: ten classes of small drawn pictures under CIFAR-10's names, made from code alone.

For runs and tests where CIFAR-10 cannot be had. Each image is a figure (a few polygons with random limbs, pose, size
and colours) on a textured scene with clutter, a random exposure and pixel noise; labels are always right. Image i of a
split has its own generator, keyed by (DATASET_SEED, split, i), so that the bytes depend neither on how many processes
drew them nor on their order. For the same bytes on every machine there is no libm and no floating-point NumPy:
rotations are rational, coordinates are rounded to whole pixels of a canvas four times too large, and filling, textures
and noise are integers. (Pillow's polygons are not the same in versions 11 and 12, so we fill our own.)

Our own design, not a copy of CIFAR-10: a toy image has one figure and flat colours. The constants below set how hard
the images are. After any change here that alters an image, raise VERSION.
"""

import colorsys
import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_SIZE, TEST_SIZE = 10_000, 2_000
VERSION = 1
DATASET_SEED = 20_260
SIZE, CANVAS = 32, 128  # sides of an image and of the canvas it is averaged from, 4×4 pixels to one

# How hard the images are; every pair is the range of a uniform draw.
SCALE = (0.42, 0.92)  # figure's longer side, as a share of the image's
CONTRAST = (0.33, 1.0)  # distance of the figure's colours from the scene's; 1 as drawn, 0 invisible
TURN = 0.176  # tan of half the largest rotation: 20 degrees
SHEAR = 0.15  # largest sideways shift per unit of height
CLUTTER_BEHIND = (2, 6)  # distractor shapes behind the figure
CLUTTER_BEFORE = (0, 3)  # and in front of it
NOISE = (2, 17)  # standard deviation of the pixel noise, in grey levels
FAMILIAR = 0.5  # how often the scene is one that suits the class; otherwise it is any

Point = tuple[float, float]
Part = tuple[list[Point], str, int]  # control points, name of the colour, rounds of corner cutting
Colour = tuple[int, ...]  # red, green, blue, 0 to 255
Gamut = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]  # ranges of hue, saturation and value
Uniform = Callable[[float, float], float]  # (low, high) → a draw


class Sketch:
    """The parts of one figure, back to front.

    Coordinates are flat lists x, y, x, y, …: x to the right, y down, facing right. Any size will do, since `_place`
    fits the whole figure into the image.
    """

    def __init__(self, u: Uniform) -> None:
        self.u = u
        self.parts: list[Part] = []

    def poly(self, colour: str, *xy: float, rounds: int = 0) -> None:
        """A polygon, its corners cut ``rounds`` times."""
        self.parts.append((list(zip(xy[::2], xy[1::2], strict=True)), colour, rounds))

    def blob(self, colour: str, *xy: float) -> None:
        """A smooth shape inside the polygon."""
        self.poly(colour, *xy, rounds=2)

    def oval(self, colour: str, x: float, y: float, rx: float, ry: float) -> None:
        """An ellipse around (x, y): an octagon that corner cutting makes round."""
        a, b = rx * 0.45, ry * 0.45
        octagon = [(a, -ry), (rx, -b), (rx, b), (a, ry), (-a, ry), (-rx, b), (-rx, -b), (-a, -ry)]
        self.parts.append(([(x + p, y + q) for p, q in octagon], colour, 2))

    def limb(self, colour: str, start: float, end: float, *xy: float) -> None:
        """A rounded stroke through the points whose half-width goes from ``start`` to ``end``."""
        points, left, right = list(zip(xy[::2], xy[1::2], strict=True)), [], []
        for k, (x, y) in enumerate(points):
            (x0, y0), (x1, y1) = points[max(k - 1, 0)], points[min(k + 1, len(points) - 1)]
            dx, dy = x1 - x0, y1 - y0
            width = (start + (end - start) * k / (len(points) - 1)) / math.sqrt(dx * dx + dy * dy)
            left.append((x - dy * width, y + dx * width))
            right.append((x + dy * width, y - dx * width))
        self.parts.append((left + right[::-1], colour, 1))

    def eye(self, x: float, y: float, r: float) -> None:
        """White and pupil."""
        self.oval("light", x, y, r, r)
        self.oval("dark", x + r * 0.2, y, r * 0.6, r * 0.7)

    def wheel(self, x: float, y: float, r: float) -> None:
        """Tyre and hub."""
        self.oval("dark", x, y, r, r)
        self.oval("light", x, y, r / 2, r / 2)


# Figures: one function a class; every `u` is a joint that moves or a proportion that varies.


def _airplane(f: Sketch, u: Uniform) -> None:
    bank, sweep, span = u(0.05, 1), u(25, 60), u(70, 95)  # bank: 0 seen from the side, 1 from above
    far, fin = -span * (0.25 + 0.75 * bank), -50 + 30 * bank
    f.poly("shade", 30, -5, 30 - sweep, far, 12 - sweep, far, -15, -5)
    f.poly("shade", -70, -5, -95, far * 0.42, -108, far * 0.42, -95, 0)
    f.poly("accent", -55, -8, -85, fin, -105, fin, -95, -2)
    f.blob("main", 110, 2, 95, -15, 50, -17, -60, -12, -105, -7, -105, 3, -50, 14, 60, 17, 100, 15)
    f.poly("dark", 93, -10, 80, -13, 74, -3, 96, -3)
    f.poly("dark", 62, -7, 62, 0, -60, 0, -60, -7)
    f.oval("dark", 20 - sweep * 0.4, span / 2, 17, 8)
    f.poly("accent" if u(0, 1) < 0.3 else "main", 35, 6, 28 - sweep, span, 10 - sweep, span, -20, 6)
    f.poly("main", -68, 2, -95, span * 0.38, -108, span * 0.38, -95, 2)


def _automobile(f: Sketch, u: Uniform) -> None:
    roof, back, front, nose = u(-66, -45), u(-95, -60), u(5, 30), u(-12, 0)
    rise, r, middle = u(10, 25), u(18, 23), (back + front) / 2 + 5
    f.blob("main", back - 10, 0, back + rise, roof - 6, front, roof - 6, front + 45, 0, front, 20, back, 20)
    f.poly("glass", back + 10, -6, back + rise + 6, roof + 6, middle - 4, roof + 6, middle - 4, -6)
    f.poly("glass", middle + 4, -6, middle + 4, roof + 6, front - 2, roof + 6, front + 27, -6)
    f.blob("main", -105, -10, -60, -12, 30, -10, 100, nose, 110, 10, 108, 32, -105, 32, -110, 10)
    f.poly("shade", -105, 20, 107, 20, 104, 32, -103, 32)
    f.oval("light", 99, 8, 7, 6)
    f.oval("accent", -103, 6, 4, 7)
    f.wheel(-60, 32, r)
    f.wheel(62, 32, r)


def _bird(f: Sketch, u: Uniform) -> None:
    lift, spread, tail = u(-110, 50), u(20, 40), u(-10, 10)  # lift: the wing tip's height
    wing = (25, -5, 10, lift * 0.6, -22 - spread, lift * 1.2, -36, lift * 0.45, -42, 5, -10, 17)
    if lift < -25:
        f.blob("shade", *(v + 22 if k % 2 == 0 else v * 0.85 - 6 for k, v in enumerate(wing)))
    f.poly("shade", -40, -2, -105, -5 + tail, -110, 10 + tail, -98, 20 + tail, -35, 16)
    for x in (-2, 14) if lift > -45 else ():
        f.limb("beak", 3, 2.5, x, 20, x + 3, 50, x + 13, 52)
    f.poly("beak", 62, -32, 95, -20, 60, -14)
    f.blob("main", -70, 2, -30, -16, 20, -25, 40, -30, 50, -10, 35, 20, 0, 32, -40, 20)
    f.blob("light", 50, -10, 35, 22, 0, 33, -25, 26, 15, 12)
    f.oval("main", 46, -27, 22, 21)
    f.oval("dark", 53, -31, 6, 6)
    f.blob("tint", *wing)


def _quadruped(f: Sketch, u: Uniform, girth: float, leg: float, width: float, neck: Point, thick: float) -> None:
    """Four striding legs, a neck up to the point ``neck`` and a body, from the far side to the near one."""
    stride, foot = u(-28, 28), girth + leg
    for x, side, colour in ((-42, -1, "shade"), (50, 1, "shade"), (-55, 1, "main"), (38, -1, "main")):
        step = side * stride
        knee = x + step * 0.35 + (6 if x > 0 else -7)
        f.limb(colour, width * 1.8, width, x, 0, knee, (girth + leg) / 2, x + step, foot, x + step + 6, foot)
    f.limb("main", thick * 1.5, thick * 0.8, 30, 5, 48 + neck[0] * 0.1, -girth * 0.4, *neck)
    top, low = -girth * 0.3, girth * 0.8
    belly = (55, low, 10, low, -30, low * 0.75, -65, low)
    f.blob("main", -75, top, -60, -girth, -10, -girth * 0.85, 40, -girth, 65, top, *belly)


def _sitting(f: Sketch, u: Uniform) -> None:
    """A cat's or dog's body from the front, tail first."""
    reach, lift = u(65, 95), u(0, 60)
    f.limb("main", 10, 7, 25, 80, 65, 80, reach, lift + 15, reach - 15, lift - 20)
    f.blob("main", -22, -20, 22, -20, 42, 30, 52, 95, -52, 95, -42, 30)
    f.blob("light", -17, 0, 17, 0, 16, 55, -16, 55)
    for s in (-1, 1):
        f.limb("tint", 10, 11, s * 18, 25, s * 17, 70, s * 19, 93)


def _cat(f: Sketch, u: Uniform) -> None:
    if u(0, 1) < 0.5:
        x, y, r = u(-12, 12), -38.0, 42.0
        _sitting(f, u)
    else:
        x, y, r, wag = u(70, 85), u(-50, -30), 30, u(-30, 30)
        f.limb("main", 9, 7, -65, -10, -95, -20, wag - 100, -65, wag * 1.5 - 80, -95)
        _quadruped(f, u, 26, 36, 7, (x - 10, y + 8), 15)
        for stripe in (-45, -20, 5, 30):
            f.limb("tint", 5, 2, stripe, -26, stripe + 4, 2)
    for s in (-r, r):
        f.poly("main", x + s * 0.98, y - r * 0.2, x + s * 0.85, y - r * 1.5, x + s * 0.1, y - r * 0.75)
        f.poly("pink", x + s * 0.8, y - r * 0.5, x + s * 0.75, y - r * 1.15, x + s * 0.35, y - r * 0.75)
    f.oval("main", x, y, r * 1.08, r * 0.9)
    f.eye(x - r * 0.42, y - r * 0.12, r * 0.25)
    f.eye(x + r * 0.42, y - r * 0.12, r * 0.25)
    f.oval("light", x, y + r * 0.42, r * 0.4, r * 0.28)
    f.poly("pink", x - r * 0.14, y + r * 0.2, x + r * 0.14, y + r * 0.2, x, y + r * 0.4)


def _dog(f: Sketch, u: Uniform) -> None:
    flop = u(-8, 8)
    if u(0, 1) < 0.5:
        x, y = u(-12, 12), -40.0
        _sitting(f, u)
        f.blob("main", x - 30, y - 40, x + 30, y - 40, x + 42, y, x + 25, y + 38, x - 25, y + 38, x - 42, y)
        for s in (-1, 1):
            f.limb("tint", 10, 13, x + s * 28, y - 34, x + s * (50 + flop), y - 10, x + s * (48 + flop), y + 30)
            f.eye(x + s * 17, y - 12, 8.5)
        f.oval("light", x, y + 18, 22, 20)
        f.oval("dark", x, y + 8, 10, 7.5)
        f.oval("pink" if flop > 0 else "light", x + 2, y + 36, 8, 12)
        return
    x, y, wag = u(68, 80), u(-62, -40), u(-25, 25)
    f.limb("main", 9, 4, -60, -15, -85, -35, wag - 100, -65)
    _quadruped(f, u, 30, 45, 8.5, (x - 8, y), 20)
    f.blob("tint", -55, -29, 0, -26, 10, -10, -20, 5, -50, 0)
    jaw = (x + 50, y + 18, x + 10, y + 24, x - 20, y + 20)
    f.blob("main", x - 25, y - 20, x + 10, y - 24, x + 20, y - 6, x + 52, y, *jaw)
    f.oval("dark", x + 50, y + 2, 8, 7)
    f.eye(x + 12, y - 6, 7)
    f.limb("tint", 9, 11, x - 12, y - 18, x - 20 + flop, y + 5, x - 16 + flop, y + 30)


def _deer(f: Sketch, u: Uniform) -> None:
    x, y, w = u(72, 92), u(-92, -68), u(16, 26)
    _quadruped(f, u, 25, 75, 4.5, (x - 8, y + 5), 12)
    f.oval("light", -74, -8, 10, 13)
    for spot_x, spot_y in ((-50, -12), (-30, -4), (-15, -16), (5, -5), (20, -15)):
        f.oval("light", spot_x, spot_y, 4.5, 4.5)
    for s, colour in ((10.0, "dark"), (-8.0, "horn")):  # antlers: a beam and two tines
        a, b = x + s - w, x + s - w * 0.4
        f.limb(colour, 5, 3, x + s * 0.6, y - 15, a, y - 45, b, y - 85)
        f.limb(colour, 4.5, 2.5, a, y - 45, a + w * 1.5, y - 67)
        f.limb(colour, 4, 2.5, (a + b) / 2 - 3, y - 65, b - w * 1.4, y - 77)
    f.limb("tint", 9, 4, x - 10, y - 10, x - 36, y - 12)
    f.blob("main", x - 15, y - 17, x + 10, y - 18, x + 42, y + 5, x + 38, y + 18, x + 10, y + 17, x - 15, y + 12)
    f.oval("dark", x + 38, y + 10, 5, 5)
    f.oval("dark", x + 8, y - 3, 5, 5)


def _horse(f: Sketch, u: Uniform) -> None:
    x, y, wag = u(78, 98), u(-85, -50), u(-15, 15)
    f.limb("dark", 10, 9, -65, -25, -90, -15, wag - 98, 20, wag * 2 - 95, 60)
    _quadruped(f, u, 34, 62, 7, (x - 8, y + 6), 19)
    f.limb("dark", 12, 8, 30, -40, x - 42, y + 25, x - 20, y - 10, x + 2, y - 18)
    f.poly("main", x - 10, y - 12, x - 2, y - 36, x + 10, y - 10)
    jaw = (x + 48, y + 40, x + 30, y + 42, x, y + 22, x - 20, y + 20)
    f.blob("main", x - 18, y - 14, x + 10, y - 16, x + 50, y + 22, *jaw)
    f.oval("dark", x + 10, y, 5, 5)
    f.oval("tint", x + 42, y + 30, 11, 10)


def _frog(f: Sketch, u: Uniform) -> None:
    wide, bump, splay = u(40, 55), u(16, 23), u(0, 22)
    for s in (-1, 1):
        f.limb("tint", 20, 12, s * 30, 35, s * (75 + splay), 0, s * 62, 50)
        f.poly("tint", s * 50, 50, s * (85 + splay), 62, s * (90 + splay), 72, s * 50, 68)
    f.blob("main", -wide, -35, wide, -35, 62, 10, 55, 60, -55, 60, -62, 10)
    f.blob("light", -36, 12, 36, 12, 40, 58, -40, 58)
    for s in (-1, 1):
        f.limb("main", 9, 8, s * 36, 20, s * 30, 50, s * 26, 72)
        f.poly("main", s * 14, 70, s * 28, 62, s * 45, 70, s * 40, 78, s * 18, 78)
        f.oval("main", s * wide * 0.75, -40, bump * 1.25, bump * 1.2)
        f.eye(s * wide * 0.75, -43, bump * 0.85)
    f.limb("dark", 3.5, 3.5, -wide * 0.95, -8, -20, 6, 20, 6, wide * 0.95, -8)


def _ship(f: Sketch, u: Uniform) -> None:
    deck, rake = u(15, 30), u(10, 30)
    if u(0, 1) < 0.4:
        _sails(f, deck, u(-10, 20), u(-115, -85), u(2, 12))
    else:
        _cabins(f, deck, u(-85, -60), u(15, 55), u(18, 24), int(u(1, 4)))
    f.poly("main", -100, deck, 75, deck, 110, deck - 12, 105 - rake, 62, -90, 62)
    f.poly("accent", -94, 50, 108 - rake, 50, 105 - rake, 62, -90, 62)


def _sails(f: Sketch, deck: float, mast: float, top: float, belly: float) -> None:
    f.limb("dark", 3.5, 3, mast, deck, mast, top - 6)
    f.poly("light", mast - 6, top + 5, mast - 45 - belly, -45, mast - 85, deck - 10, mast - 6, deck - 10)
    f.poly("accent", mast + 6, top + 15, mast + 40 + belly, -30, mast + 75, deck - 12, mast + 6, deck - 12)
    f.poly("main", mast, top - 6, mast - 25, top + 2, mast, top + 8)


def _cabins(f: Sketch, deck: float, back: float, front: float, step: float, funnels: int) -> None:
    top, band = deck - step * 3.2, deck - step * 2.8
    for x in (back + 25 + 30 * k for k in range(funnels)):
        f.poly("accent", x, deck, x - 4, top, x + 16, top, x + 20, deck)
        f.poly("dark", x - 4, top, x - 3, band, x + 17, band, x + 16, top)
    f.limb("dark", 3, 2, front - 10, deck, front - 10, deck - step * 3.6)
    for a, b, y in ((back, front, deck), (back + 12, front - 12, deck - step)):
        f.poly("light", a, y, a, y - step, b, y - step, b + 6, y)
        f.poly("glass", a + 8, y - step * 0.7, b - 5, y - step * 0.7, b - 3, y - step * 0.35, a + 8, y - step * 0.35)


def _truck(f: Sketch, u: Uniform) -> None:
    top, cab, rear, r = u(-75, -50), u(-50, -30), u(25, 32), u(16, 20)
    f.poly("dark", -110, 15, 100, 15, 100, 33, -110, 33)
    if u(0, 1) < 0.7:
        f.poly("accent", -110, top, rear, top, rear, 20, -110, 20)
        for x in (-80, -45, -10):
            f.poly("light", x - 3, top + 10, x + 3, top + 10, x + 3, 10, x - 3, 10)
    else:  # a tanker
        f.blob("light", -120, top + 25, -100, top, rear - 10, top, rear + 10, top + 25, rear, 22, -110, 22)
        f.poly("accent", -105, top / 2, rear, top / 2, rear, top / 2 + 17, -105, top / 2 + 17)
    f.poly("main", 38, cab, 80, cab, 95, -8, 108, -2, 110, 30, 38, 30)
    f.poly("glass", 55, cab + 8, 77, cab + 8, 88, -6, 55, -6)
    f.oval("light", 105, 13, 6, 6)
    for x in (-85, -45, 75):
        f.wheel(x, 36, r)


FIGURES = (_airplane, _automobile, _bird, _cat, _deer, _dog, _frog, _horse, _ship, _truck)

# Coats: what a class's main colour is drawn from. Beasts with fur share one list and vehicles another, so that colour
# tells little more than the group.

ANY, FULL, PALE = (0.0, 1.0), (0.6, 1.0), (0.0, 0.15)
FUR: tuple[Gamut, ...] = (
    ((0.06, 0.10), (0.6, 0.9), (0.75, 1.0)),
    ((0.05, 0.09), (0.5, 0.75), (0.4, 0.65)),
    ((0.08, 0.13), (0.2, 0.45), (0.75, 0.95)),
    (ANY, PALE, (0.2, 0.9)),
)
PAINT: tuple[Gamut, ...] = ((ANY, FULL, FULL), (ANY, FULL, FULL), (ANY, PALE, (0.75, 1.0)))
PLUMAGE: tuple[Gamut, ...] = ((ANY, FULL, FULL), ((0.05, 0.1), (0.4, 0.7), (0.4, 0.7)), (ANY, PALE, (0.4, 1.0)))
SKIN: tuple[Gamut, ...] = (((0.22, 0.4), FULL, (0.5, 0.9)), ((0.22, 0.4), FULL, (0.5, 0.9)), (ANY, FULL, (0.5, 0.9)))
COATS = (PAINT, PAINT, PLUMAGE, FUR, FUR, FUR, SKIN, FUR, PAINT, PAINT)

# Scenes: colour at the top, colour at the bottom, whether a horizon parts them (otherwise one runs into the other).
SCENES: dict[str, tuple[Gamut, Gamut, bool]] = {
    "sky": (((0.54, 0.62), (0.4, 0.75), (0.7, 1.0)), ((0.5, 0.6), (0.1, 0.35), (0.85, 1.0)), False),
    "sea": (((0.52, 0.62), (0.15, 0.5), (0.8, 1.0)), ((0.52, 0.62), (0.6, 0.9), (0.35, 0.7)), True),
    "field": (((0.5, 0.6), (0.2, 0.5), (0.8, 1.0)), ((0.2, 0.36), (0.45, 0.8), (0.4, 0.75)), True),
    "street": (((0.0, 1.0), (0.05, 0.3), (0.55, 0.85)), ((0.5, 0.7), (0.0, 0.15), (0.3, 0.55)), True),
    "room": (((0.0, 1.0), (0.15, 0.45), (0.7, 0.95)), ((0.03, 0.12), (0.3, 0.6), (0.4, 0.8)), True),
    "leaves": (((0.22, 0.42), (0.4, 0.8), (0.3, 0.7)), ((0.15, 0.36), (0.4, 0.8), (0.25, 0.6)), False),
    "dusk": (((0.65, 0.85), (0.35, 0.7), (0.3, 0.6)), ((0.0, 0.1), (0.4, 0.75), (0.75, 1.0)), False),
    "sand": (((0.5, 0.6), (0.15, 0.4), (0.85, 1.0)), ((0.09, 0.13), (0.3, 0.55), (0.7, 0.95)), True),
}
HOMES = (
    ("sky", "dusk"), ("street", "sand"), ("sky", "leaves"), ("room", "street"), ("leaves", "field"),
    ("room", "field"), ("leaves", "sea"), ("field", "sand"), ("sea", "dusk"), ("street", "field"),
)  # fmt: skip

_ROWS, _COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.int64)  # (32, 32) each


def _rgb(colours: Gamut, u: Uniform) -> Colour:
    return tuple(int(255 * c + 0.5) for c in colorsys.hsv_to_rgb(*(u(low, high) for low, high in colours)))


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    """``share`` of a and the rest of b."""
    return tuple(int(share * p + (1 - share) * q + 0.5) for p, q in zip(a, b, strict=True))


def _scene(name: str, rng: np.random.Generator, u: Uniform) -> np.ndarray:
    """The textured background: (32, 32, 3) int64."""
    top, bottom, horizon = SCENES[name]
    high, low = np.array(_rgb(top, u)), np.array(_rgb(bottom, u))
    tilt = int(rng.integers(-4, 5))
    depth = _ROWS * 16 + (_COLUMNS - 16) * tilt  # (32, 32): 0 at the top, 512 at the bottom, on a slope
    if horizon:
        level = int(rng.integers(220, 400))
        weight = np.where(depth > level, 512 - (depth - level) // 3, (depth - level + 256).clip(0) // 6)
    else:
        weight = depth.clip(0, 512)
    image = (high * (512 - weight[..., None]) + low * weight[..., None]) // 512  # (32, 32, 3)
    return image + _texture(rng)[..., None]


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Soft blotches and, half the time, stripes: (32, 32) int64 around 0."""
    cells = int(rng.integers(3, 9))
    knots = rng.integers(-24, 25, size=(cells + 1, cells + 1))
    left, inside = np.divmod(_COLUMNS[0] * cells, SIZE)  # (32,) each: the cell, and the place in it in 32nds
    rows = knots[left] * (SIZE - inside)[:, None] + knots[left + 1] * inside[:, None]  # (32, cells + 1)
    blotches = (rows[:, left] * (SIZE - inside) + rows[:, left + 1] * inside) // SIZE**2  # (32, 32)
    if rng.random() < 0.5:
        return blotches
    a, b, period, height = (int(rng.integers(*r)) for r in ((-3, 4), (1, 4), (8, 24), (8, 32)))
    wave = abs((a * _COLUMNS + b * _ROWS) % period * 2 - period)  # (32, 32): a triangle wave, 0 to period
    return blotches + (wave * height) // period - height // 2


def _palette(label: int, scene: Colour, rng: np.random.Generator, u: Uniform) -> dict[str, Colour]:
    """The figure's colours by name, all drawn toward the ``scene`` by the same random share."""
    coats = COATS[label]
    main = _rgb(coats[int(rng.integers(len(coats)))], u)
    colours = {
        "main": main,
        "shade": _mix(main, (0, 0, 0), 0.68),
        "tint": _mix(main, (20, 10, 0), 0.8),
        "accent": _rgb(((0.0, 1.0), (0.6, 1.0), (0.7, 1.0)), u),
        "dark": _rgb(((0.0, 1.0), (0.0, 0.4), (0.05, 0.2)), u),
        "light": _rgb(((0.08, 0.16), (0.0, 0.15), (0.9, 1.0)), u),
        "horn": _rgb(((0.08, 0.12), (0.25, 0.45), (0.6, 0.8)), u),
        "pink": _rgb(((0.92, 1.0), (0.3, 0.6), (0.85, 1.0)), u),
        "beak": _rgb(((0.05, 0.15), (0.7, 1.0), (0.85, 1.0)), u),
        "glass": _rgb(((0.5, 0.6), (0.1, 0.5), (0.25, 0.9)), u),
    }
    contrast = u(*CONTRAST)
    return {name: _mix(colour, scene, contrast) for name, colour in colours.items()}


def _smooth(points: list[Point], rounds: int) -> list[tuple[int, int]]:
    """Chaikin's corner cutting of a closed polygon, then whole pixels."""
    for _ in range(rounds):
        cut = []
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            cut.append((0.75 * x0 + 0.25 * x1, 0.75 * y0 + 0.25 * y1))
            cut.append((0.25 * x0 + 0.75 * x1, 0.25 * y0 + 0.75 * y1))
        points = cut
    return [(int(x + 1000.5) - 1000, int(y + 1000.5) - 1000) for x, y in points]  # shifted: int() rounds toward 0


def _place(parts: list[Part], u: Uniform) -> list[Part]:
    """Flip, shear, turn, scale and move a figure onto the canvas at random."""
    t, shear, flip, share = u(-TURN, TURN), u(-SHEAR, SHEAR), 1 if u(0, 1) < 0.5 else -1, u(*SCALE)
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    posed = []
    for points, colour, rounds in parts:
        leant = [(flip * x + shear * y, y) for x, y in points]
        posed.append(([(cos * x - sin * y, sin * x + cos * y) for x, y in leant], colour, rounds))
    xs, ys = zip(*(point for points, _, _ in posed for point in points), strict=True)
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    scale = share * CANVAS / max(width, height)
    free_x, free_y = (CANVAS - scale * width) / 2, (CANVAS - scale * height) / 2
    x0 = CANVAS / 2 - scale * (min(xs) + width / 2) + u(-free_x, free_x) * 0.8
    y0 = CANVAS / 2 - scale * (min(ys) + height / 2) + u(-free_y, free_y) * 0.8
    return [([(x0 + scale * x, y0 + scale * y) for x, y in points], colour, rounds) for points, colour, rounds in posed]


def _clutter(counts: tuple[int, int], size: float, rng: np.random.Generator, u: Uniform) -> list[tuple[Part, Colour]]:
    """Distractors with their colours: ovals, boxes, triangles and strokes, up to ``size`` pixels of the canvas wide."""
    shapes = []
    for _ in range(int(rng.integers(counts[0], counts[1] + 1))):
        f, kind, colour = Sketch(u), int(rng.integers(4)), _rgb(((0.0, 1.0), (0.1, 0.8), (0.2, 0.95)), u)
        x, y, w, h = u(0, CANVAS), u(0, CANVAS), u(0.3, 1) * size, u(0.3, 1) * size
        if kind == 0:
            f.oval("", x, y, w / 2, h / 2)
        elif kind == 1:
            f.poly("", x, y, x + w, y + h * u(-0.2, 0.2), x + w, y + h, x, y + h)
        elif kind == 2:
            f.poly("", x, y, x + w, y + h * u(-1, 1), x + w * u(-0.5, 0.5), y + h)
        else:
            f.limb("", size / 14, size / 20, x, y, x + u(-40, 40), y + u(10, 40), x + u(-90, 90), y + u(45, 90))
        shapes.append((f.parts[0], colour))
    return shapes


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """One image of class ``label``: (3, 32, 32) uint8. All randomness comes from ``rng``."""
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label must be in 0..{len(CLASSES) - 1}, got {label}")

    def u(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    names = HOMES[label] if rng.random() < FAMILIAR else tuple(SCENES)
    scene = _scene(names[int(rng.integers(len(names)))], rng, u).clip(0, 255)  # (32, 32, 3)
    mean = tuple(int(c) for c in scene.sum(axis=(0, 1)) // SIZE**2)
    sketch, palette = Sketch(u), _palette(label, mean, rng, u)
    FIGURES[label](sketch, u)
    figure = [(part, palette[part[1]]) for part in _place(sketch.parts, u)]
    shapes = _clutter(CLUTTER_BEHIND, 48, rng, u) + figure + _clutter(CLUTTER_BEFORE, 22, rng, u)
    top = _fill([_smooth(points, rounds) for (points, _, rounds), _ in shapes])  # (128, 128)
    colours = np.array([(0, 0, 0), *(colour for _, colour in shapes)], dtype=np.int16)  # (shapes + 1, 3)
    bare = _box_sum((top == 0).astype(np.int16)[..., None])  # (32, 32, 1): how much of the scene still shows, in 16ths
    image = (_box_sum(colours[top]) + scene * bare) // 16  # (32, 32, 3)
    return _expose(image, rng).transpose(2, 0, 1).astype(np.uint8)  # (3, 32, 32)


def _fill(polygons: list[list[tuple[int, int]]]) -> np.ndarray:
    """Which polygon each pixel of the canvas shows, 1 for the first and 0 for none: (128, 128) uint8.

    Even-odd scanlines through the pixels' centres. Later polygons cover earlier ones.
    """
    sides = ((k, zip(points, points[1:] + points[:1], strict=True)) for k, points in enumerate(polygons))
    edges = np.array([(k, *p, *q) for k, pairs in sides for p, q in pairs if p[1] != q[1]])  # (edges, 5)
    first, last = edges[:, [2, 4]].clip(0, CANVAS).min(axis=1), edges[:, [2, 4]].clip(0, CANVAS).max(axis=1)
    rows = last - first  # (edges,): how many rows each one crosses
    k, x0, y0, x1, y1 = np.repeat(edges, rows, axis=0).T  # (crossings,) each
    y = np.arange(len(k)) + np.repeat(first - rows.cumsum() + rows, rows)  # (crossings,)
    across = (2 * y + 1 - 2 * y0) * (x1 - x0) + (2 * x0 - 1) * (y1 - y0)
    x = -(-across // (2 * (y1 - y0))).clip(-CANVAS, 0)  # (crossings,): the first pixel right of the edge, rounded up
    keys = np.sort((k * CANVAS + y) * 2 * CANVAS + x)  # (crossings,): by polygon, row and column, so in pairs
    starts, lengths = keys[::2], keys[1::2] - keys[::2]
    at = starts // (2 * CANVAS) % CANVAS * CANVAS + starts % (2 * CANVAS)
    canvas = bytearray(CANVAS * CANVAS)
    for k, start, length in zip((starts // (2 * CANVAS**2)).tolist(), at.tolist(), lengths.tolist(), strict=True):
        canvas[start : start + length] = bytes((k + 1,)) * length
    return np.frombuffer(canvas, dtype=np.uint8).reshape(CANVAS, CANVAS)


def _box_sum(canvas: np.ndarray) -> np.ndarray:
    """Sums over the canvas pixels of each image pixel: (128, 128, c) → (32, 32, c)."""
    rows = canvas[0::4] + canvas[1::4] + canvas[2::4] + canvas[3::4]  # (32, 128, c)
    return rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4]


def _expose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random brightness and contrast, then near-Gaussian noise: (32, 32, 3) int64 in 0..255."""
    gain, shift = int(rng.integers(170, 280)), int(rng.integers(-24, 25))
    noise = rng.integers(-8, 9, size=(4, *image.shape)).sum(axis=0)  # (32, 32, 3): standard deviation 9.8
    sigma = int(rng.integers(NOISE[0] * 10, NOISE[1] * 10 + 1))
    return ((image - 128) * gain // 256 + 128 + shift + noise * sigma // 98).clip(0, 255)


def _draw_span(job: tuple[int, int, int]) -> np.ndarray:
    """Images start..stop of a split: (stop - start, 3, 32, 32) uint8."""
    split, start, stop = job
    keys = ([DATASET_SEED, split, i] for i in range(start, stop))
    return np.stack([draw(key[-1] % len(CLASSES), np.random.default_rng(key)) for key in keys])


def make_toy(
    train_size: int = TRAIN_SIZE, test_size: int = TEST_SIZE, processes: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw the dataset: train images (m, 3, 32, 32) uint8, train labels (m,) int64, test images, test labels.

    Args:
        train_size: Number of training images; classes are as equal as it allows, in shuffled order.
        test_size: Number of test images, likewise.
        processes: How many processes draw; one a CPU if None. The result is the same for any. More than one needs a
            main script with the ``if __name__ == "__main__"`` guard.
    """
    if train_size < 1 or test_size < 1:
        raise ValueError(f"sizes must be at least 1, got {train_size} train and {test_size} test")
    sizes = (train_size, test_size)
    processes = (os.cpu_count() or 1) if processes is None else processes
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    jobs = [(s, i, min(i + 250, size)) for s, size in enumerate(sizes) for i in range(0, size, 250)]
    if processes == 1:
        spans = [_draw_span(job) for job in jobs]
    else:  # spawn: a fork of a process that has torch's threads can hang
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=spawn) as pool:
            spans = list(pool.map(_draw_span, jobs))
    data: list[np.ndarray] = []
    for split, size in enumerate(sizes):
        images = np.concatenate([span for job, span in zip(jobs, spans, strict=True) if job[0] == split])
        order = np.random.default_rng([DATASET_SEED, split]).permutation(size)
        data += [images[order], (order % len(CLASSES)).astype(np.int64)]
    return data[0], data[1], data[2], data[3]
