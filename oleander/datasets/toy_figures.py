"""The figures of the toy dataset: ten silhouettes as a few polygons each, with random limbs and proportions."""

import math
from collections.abc import Callable

Point = tuple[float, float]
Part = tuple[list[Point], str, int]  # control points, name of the colour, rounds of corner cutting
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
