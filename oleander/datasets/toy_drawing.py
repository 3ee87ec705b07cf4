"""Draws the toy dataset: ten classes of small pictures under CIFAR-10's names, made from code alone.

For runs and tests where CIFAR-10 cannot be had. Each image is a figure (a few polygons with random limbs, pose, size
and colours) on a textured scene with clutter, a random exposure and pixel noise; labels are always right. Image i of a
split has its own generator, keyed by (DATASET_SEED, split, i), so that the bytes depend neither on how many processes
drew them nor on their order. For the same bytes on every machine there is no libm and no floating-point NumPy:
rotations are rational, coordinates are rounded to whole pixels of a canvas four times too large, and filling, textures
and noise are integers. (Pillow's polygons are not the same in versions 11 and 12, so we fill our own.)

Our own design, not a copy of CIFAR-10: a toy image has one figure and flat colours. ``Difficulty`` sets how hard
the images are. After any change here that alters an image, raise VERSION.
"""

import colorsys
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from oleander.datasets.toy_figures import FIGURES, Part, Point, Sketch, Uniform

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_SIZE, TEST_SIZE = 10_000, 2_000
VERSION = 1
DATASET_SEED = 20_260
SIZE, CANVAS = 32, 128  # sides of an image and of the canvas it is averaged from, 4×4 pixels to one

TURN = 0.176  # tan of half the largest rotation: 20 degrees
SHEAR = 0.15  # largest sideways shift per unit of height
CLUTTER_BEHIND = (2, 6)  # distractor shapes behind the figure
FAMILIAR = 0.5  # how often the scene is one that suits the class; otherwise it is any

Colour = tuple[int, ...]  # red, green, blue, 0 to 255
Gamut = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]  # ranges of hue, saturation and value


@dataclass(frozen=True)
class Difficulty:
    """How hard the images are; every pair is the range of a uniform draw."""

    scale: tuple[float, float]
    """Figure's longer side, as a share of the image's."""
    contrast: tuple[float, float]
    """Distance of the figure's colours from the scene's; 1 as drawn, 0 invisible."""
    clutter_before: tuple[int, int]
    """Distractor shapes in front of the figure."""
    noise: tuple[int, int]
    """Standard deviation of the pixel noise, in grey levels."""


TOY = Difficulty(scale=(0.36, 0.9), contrast=(0.28, 1.0), clutter_before=(0, 4), noise=(2, 22))
"""The dataset's."""
EASIER = Difficulty(scale=(0.46, 0.92), contrast=(0.4, 1.0), clutter_before=(0, 2), noise=(2, 15))
"""What a fresh model is first trained on (``checkpoints/pretrain.py``): on TOY it takes too long to leave the ground."""


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


def _palette(
    label: int, scene: Colour, difficulty: Difficulty, rng: np.random.Generator, u: Uniform
) -> dict[str, Colour]:
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
    contrast = u(*difficulty.contrast)
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


def _place(parts: list[Part], difficulty: Difficulty, u: Uniform) -> list[Part]:
    """Flip, shear, turn, scale and move a figure onto the canvas at random."""
    t, shear, flip, share = u(-TURN, TURN), u(-SHEAR, SHEAR), 1 if u(0, 1) < 0.5 else -1, u(*difficulty.scale)
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


def draw(label: int, rng: np.random.Generator, difficulty: Difficulty = TOY) -> np.ndarray:
    """One image of class ``label``: (3, 32, 32) uint8. All randomness comes from ``rng``."""
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label must be in 0..{len(CLASSES) - 1}, got {label}")

    def u(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    names = HOMES[label] if rng.random() < FAMILIAR else tuple(SCENES)
    scene = _scene(names[int(rng.integers(len(names)))], rng, u).clip(0, 255)  # (32, 32, 3)
    mean = tuple(int(c) for c in scene.sum(axis=(0, 1)) // SIZE**2)
    sketch, palette = Sketch(u), _palette(label, mean, difficulty, rng, u)
    FIGURES[label](sketch, u)
    figure = [(part, palette[part[1]]) for part in _place(sketch.parts, difficulty, u)]
    shapes = _clutter(CLUTTER_BEHIND, 48, rng, u) + figure + _clutter(difficulty.clutter_before, 22, rng, u)
    top = _fill([_smooth(points, rounds) for (points, _, rounds), _ in shapes])  # (128, 128)
    colours = np.array([(0, 0, 0), *(colour for _, colour in shapes)], dtype=np.int16)  # (shapes + 1, 3)
    bare = _box_sum((top == 0).astype(np.int16)[..., None])  # (32, 32, 1): how much of the scene still shows, in 16ths
    image = (_box_sum(colours[top]) + scene * bare) // 16  # (32, 32, 3)
    return _expose(image, difficulty, rng).transpose(2, 0, 1).astype(np.uint8)  # (3, 32, 32)


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


def _expose(image: np.ndarray, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """Random brightness and contrast, then near-Gaussian noise: (32, 32, 3) int64 in 0..255."""
    gain, shift = int(rng.integers(170, 280)), int(rng.integers(-24, 25))
    noise = rng.integers(-8, 9, size=(4, *image.shape)).sum(axis=0)  # (32, 32, 3): standard deviation 9.8
    sigma = int(rng.integers(difficulty.noise[0] * 10, difficulty.noise[1] * 10 + 1))
    return ((image - 128) * gain // 256 + 128 + shift + noise * sigma // 98).clip(0, 255)


def _draw_span(job: tuple[int, int, int, Difficulty]) -> np.ndarray:
    """Images start..stop of a split: (stop - start, 3, 32, 32) uint8."""
    split, start, stop, difficulty = job
    keys = ([DATASET_SEED, split, i] for i in range(start, stop))
    return np.stack([draw(key[-1] % len(CLASSES), np.random.default_rng(key), difficulty) for key in keys])


def make_toy(
    train_size: int = TRAIN_SIZE,
    test_size: int = TEST_SIZE,
    processes: int | None = None,
    difficulty: Difficulty = TOY,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw the dataset: train images (m, 3, 32, 32) uint8, train labels (m,) int64, test images, test labels.

    Args:
        train_size: Number of training images; classes are as equal as it allows, in shuffled order.
        test_size: Number of test images, likewise.
        processes: How many processes draw; one a CPU if None. The result is the same for any. More than one needs a
            main script with the ``if __name__ == "__main__"`` guard.
        difficulty: How hard the images are.
    """
    if train_size < 1 or test_size < 1:
        raise ValueError(f"sizes must be at least 1, got {train_size} train and {test_size} test")
    sizes = (train_size, test_size)
    processes = (os.cpu_count() or 1) if processes is None else processes
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    jobs = [(s, i, min(i + 250, size), difficulty) for s, size in enumerate(sizes) for i in range(0, size, 250)]
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


if __name__ == "__main__":  # FILE.npz PROCESSES
    a, b, c, d = make_toy(processes=int(sys.argv[2]))
    np.savez(sys.argv[1], a=a, b=b, c=c, d=d)
