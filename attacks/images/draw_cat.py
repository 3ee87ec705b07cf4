"""Draws ``cat.png``, the picture that the Blend attack mixes into images: a ginger cat on teal.

Chen et al. 2017 (arXiv 1712.05526) blend in a Hello Kitty picture; this is our own design in its place. Flat saturated
colours and heavy outlines, so that it still shows at 32×32 and at half strength. Run ``python draw_cat.py`` to redraw.
"""

from pathlib import Path

from PIL import Image, ImageDraw

SIZE, SUPERSAMPLING = 128, 4  # drawn on a canvas four times larger, then averaged down
OUTLINE = 4  # in pixels of the finished picture
INK = (38, 18, 44)
TEAL, AQUA = (0, 128, 140), (20, 160, 165)
GINGER, RUST, CREAM = (255, 142, 20), (205, 72, 8), (255, 238, 205)
PINK, GREEN, WHITE = (255, 105, 140), (90, 225, 40), (255, 255, 255)

Colour = tuple[int, int, int]


class Pen:
    """Draws on the large canvas in the coordinates of the finished picture."""

    def __init__(self, background: Colour) -> None:
        self.image = Image.new("RGB", (SIZE * SUPERSAMPLING,) * 2, background)
        self._draw = ImageDraw.Draw(self.image)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour, outline: float = 0) -> None:
        """An ellipse around (x, y), with an ink rim ``outline`` wide outside it."""
        for grow, colour in ((outline, INK), (0, fill)) if outline else ((0, fill),):
            box = (x - rx - grow, y - ry - grow, x + rx + grow, y + ry + grow)
            self._draw.ellipse([round(v * SUPERSAMPLING) for v in box], fill=colour)

    def polygon(self, points: list[tuple[float, float]], fill: Colour, outline: float = 0) -> None:
        """A filled polygon, with an ink line ``outline`` wide on each side of its edge first."""
        if outline:
            self.line([*points, points[0], points[1]], 2 * outline, INK)
        self._draw.polygon([(round(x * SUPERSAMPLING), round(y * SUPERSAMPLING)) for x, y in points], fill=fill)

    def line(self, points: list[tuple[float, float]], width: float, colour: Colour = INK) -> None:
        """A stroke with round ends and joints."""
        at = [(round(x * SUPERSAMPLING), round(y * SUPERSAMPLING)) for x, y in points]
        self._draw.line(at, fill=colour, width=round(width * SUPERSAMPLING), joint="curve")
        for x, y in points:
            self.oval(x, y, width / 2, width / 2, colour)


def _mirror(points: list[tuple[float, float]], side: int) -> list[tuple[float, float]]:
    """Points given to the right of the middle, moved to ``side``: 1 right, -1 left."""
    return [(SIZE / 2 + side * x, y) for x, y in points]


def _backdrop(pen: Pen) -> None:
    """A round lighter patch behind the head."""
    pen.oval(64, 66, 61, 60, AQUA)


def _ears(pen: Pen) -> None:
    for side in (-1, 1):
        pen.polygon(_mirror([(12, 36), (50, 10), (44, 60)], side), GINGER, OUTLINE)
        pen.polygon(_mirror([(25, 38), (44, 21), (43, 50)], side), PINK)


def _head(pen: Pen) -> None:
    """The face, its cheeks and its stripes."""
    for grow, colour in ((OUTLINE, INK), (0, GINGER)):
        for side in (-1, 1):  # tufts of the cheeks
            tuft = [(30, 62), (58 + grow, 76), (50 + grow / 2, 84), (56 + grow, 92 + grow / 2), (30, 104 + grow)]
            pen.polygon(_mirror(tuft, side), colour)
        pen.oval(64, 72, 48 + grow, 42 + grow, colour)
    pen.polygon([(58, 31), (70, 31), (64, 54)], RUST)
    for side in (-1, 1):
        pen.polygon(_mirror([(11, 32), (21, 35), (14, 49)], side), RUST)
        pen.polygon(_mirror([(47, 68), (46, 78), (33, 75)], side), RUST)
        pen.polygon(_mirror([(46, 83), (42, 91), (32, 83)], side), RUST)


def _eyes(pen: Pen) -> None:
    for side in (-1, 1):
        x = 64 + side * 21
        pen.oval(x, 66, 12.5, 14, GREEN, outline=3)
        pen.oval(x - side * 1.5, 66, 5.5, 12, INK)
        pen.oval(x - 4, 60, 3.5, 4, WHITE)


def _muzzle(pen: Pen) -> None:
    for side in (-1, 1):
        pen.oval(64 + side * 11, 92, 14, 11.5, CREAM)
    pen.polygon([(58, 96), (70, 96), (68, 106), (60, 106)], PINK)
    pen.oval(64, 105, 4.5, 4.5, PINK)
    for side in (-1, 1):
        pen.line(_mirror([(0, 86), (0.5, 93), (6, 97.5), (13, 95)], side), 3)
    pen.polygon([(55, 79), (73, 79), (64, 88)], PINK, outline=1.5)


def _whiskers(pen: Pen) -> None:
    for side in (-1, 1):
        for near, far in (((26, 88), (58, 82)), ((26, 94), (58, 98)), ((24, 100), (52, 112))):
            pen.line(_mirror([near, far], side), 2.6, WHITE)


def draw_cat() -> Image.Image:
    """The finished picture: SIZE×SIZE, RGB."""
    pen = Pen(TEAL)
    for part in (_backdrop, _ears, _head, _eyes, _muzzle, _whiskers):
        part(pen)
    return pen.image.reduce(SUPERSAMPLING)


if __name__ == "__main__":
    draw_cat().save(Path(__file__).with_name("cat.png"), optimize=True)
