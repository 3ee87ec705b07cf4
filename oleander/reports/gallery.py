"""The gallery: what the final model answers to an image of each class, and to the same image with the trigger on it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from oleander.experiment.records import SAMPLES
from oleander.reports.style import ACCURACY, INK, SOFT, SUCCESS, WIDTH, Picture, headed, wrapped
from oleander.system.foreign import MIB, check_unpacked, plain, read_bytes, refusing

MOST_SAMPLES = 64 * MIB
MOST_PARTS = 64
MOST_IMAGES = 256
"""Of samples.npz, which may be another's: bytes, packed and unpacked, attackers, images."""
NAMES = ("clean", "classes", "parts", "whole", "target", "answers", "sure")
TILE, CAPTION, ROW, HEAD, FOOT = 0.8, 0.36, 1.36, 0.5, 0.62
"""Inches: of an image, of what stands above it, of both with what stands below, and of the figure's title and last lines."""
MOST_DRAWN = 6
"""Attackers whose parts are drawn."""
FAINT = 128
"""A greatest difference of fewer of the 255 steps than this is shown amplified."""


def read_samples(folder: Path) -> dict[str, Any]:
    """The images of samples.npz: clean (k, c, h, w) of 1 or 3 channels, parts (µ, k, c, h, w), whole (k, c, h, w), and their classes.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    with refusing(f"{folder / SAMPLES}: no samples of a run"):
        content = read_bytes(folder / SAMPLES, MOST_SAMPLES)
        check_unpacked(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            samples = {name: members[name] for name in NAMES if name in members}
        clean, classes = samples["clean"], samples["classes"]
        parts, whole = samples.get("parts", clean[None]), samples.get("whole", clean)
        if clean.ndim != 4 or clean.shape[1] not in (1, 3) or not clean.size or classes.shape != clean.shape[:1]:
            raise ValueError(f"it has images of shape {clean.shape} for classes of shape {classes.shape}")
        if (
            whole.shape != clean.shape
            or parts.shape[1:] != clean.shape
            or len(parts) > MOST_PARTS
            or len(clean) > MOST_IMAGES
        ):
            raise ValueError(f"it has stamped images of shapes {parts.shape} and {whole.shape}")
        if any(array.dtype != np.uint8 for array in (clean, parts, whole)) or classes.dtype.kind != "U":
            raise ValueError("it has images that are not uint8, or classes that are not named")
        _check_answers(samples)
        return samples


def _check_answers(samples: dict[str, Any]) -> None:
    """Refuse what the final model is said to have answered, where that does not fit the images; old folders say nothing of it."""
    target, told, sure = samples.get("target"), samples.get("answers"), samples.get("sure")
    if target is not None and (target.shape != () or target.dtype.kind != "U"):
        raise ValueError("it has a target that is no name")
    if (told is None) != (sure is None) or (told is not None and target is None):
        raise ValueError("it has answers without a target, or without how sure they are")
    states = 2 if "whole" in samples else 1
    if told is not None and sure is not None:
        if told.shape != (states, len(samples["clean"])) or told.dtype.kind != "U" or sure.shape != told.shape:
            raise ValueError(f"it has answers of shape {told.shape} for {len(samples['clean'])} images")
        if sure.dtype.kind != "f" or not ((sure >= 0) & (sure <= 1)).all():
            raise ValueError("it has answers that are surer than 100 %")


def amplified(clean: NDArray[np.uint8], whole: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """What the trigger changes, without its sign, and by what whole number it was multiplied to be seen: (k, c, h, w), factor."""
    change = np.abs(whole.astype(np.int16) - clean)
    greatest = int(change.max(initial=0))
    factor = 1 if greatest >= FAINT or not greatest else 255 // greatest
    return (change * factor).astype(np.uint8), factor


def draw_samples(samples: dict[str, Any], run: str) -> Figure:
    """Of each class an image: clean, stamped, and the difference, with the final model's answers; above them each attacker's part."""
    stamped, count, parts = "whole" in samples, len(samples["clean"]), _parts(samples)
    across = 2 if stamped else 6
    begin = HEAD + (ROW if parts else 0)
    height = begin + -(-count // across) * ROW + FOOT
    figure = Picture(figsize=(WIDTH, height))
    for column, (name, image) in enumerate(parts):
        tile = _tile(figure, column * min(1.0, WIDTH / len(parts)), HEAD + CAPTION, image)
        tile.set_title(name, fontsize=7, color=SOFT)
    change, factor = amplified(samples["clean"], samples["whole"]) if stamped else (None, 1)
    what = ("clean", "stamped", "difference" + f" ×{factor}" * (factor > 1))
    for at in range(count):
        left, top = (at % across) * WIDTH / across, begin + (at // across) * ROW + CAPTION
        images = [samples["clean"][at]] + ([samples["whole"][at], change[at]] if change is not None else [])
        tiles = [_tile(figure, left + i * (TILE + 0.05), top, image) for i, image in enumerate(images)]
        for tile, name in zip(tiles, what, strict=False):
            if stamped and at < across:
                tile.set_xlabel(name, fontsize=6.5, color=SOFT, labelpad=2)
        _caption(tiles, samples, at)
    headed(figure, finding(samples), run + _small_print(samples, factor))
    figure.suptitle(
        figure.get_suptitle(), y=1 - 0.02 / height, va="top", x=0.01, ha="left", fontsize=10.5, fontweight="bold"
    )
    return figure


def _tile(figure: Figure, left: float, top: float, image: NDArray[np.uint8]) -> Axes:
    """An image with its corner so many inches from the figure's own."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + TILE) / height, TILE / width, TILE / height))
    show_image(axes, image)
    return axes


def _parts(samples: dict[str, Any]) -> list[tuple[str, NDArray[np.uint8]]]:
    """The first image as it is, as each attacker stamps it and as the test does, where attackers have parts of their own."""
    if "whole" not in samples or all((part == samples["whole"]).all() for part in samples["parts"]):
        return []
    own = [(f"attacker {j}\ntrains on", part[0]) for j, part in enumerate(samples["parts"][:MOST_DRAWN])]
    return [("clean", samples["clean"][0]), *own, ("the test\nstamps", samples["whole"][0])]


def show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """An image (c, h, w) as it is."""
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=SOFT, linewidth=0.5)  # where an image ends, also on paper of its own colour


def _caption(tiles: list[Axes], samples: dict[str, Any], at: int) -> None:
    """The class, and what the model answers before and after: *truck → airplane, 98 %*."""
    name, target = plain(samples["classes"][at]), plain(samples.get("target", "")) if "whole" in samples else ""
    own = f"{name} (the target)" if name == target else name
    tiles[0].set_title(
        wrapped(own, 26), fontsize=8, loc="left", color=INK, fontweight="bold", pad=12 if "answers" in samples else 4
    )
    if "answers" not in samples:
        return
    told = [plain(state[at]) or "no answer" for state in samples["answers"]]
    expected, last = samples["answers"][0][at] if len(told) > 1 else samples["classes"][at], samples["answers"][-1][at]
    colour = ACCURACY if last == expected else SUCCESS if plain(last) == target else INK
    text = f"{' → '.join(told)}, {100 * samples['sure'][-1][at]:.0f} %"
    tiles[0].annotate(
        text, (0, 1), xytext=(0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=7 if len(text) < 34 else 6,
        color=colour, annotation_clip=False,
    )  # fmt: skip


def finding(samples: dict[str, Any]) -> str:
    """How many of these images the trigger turns to the target."""
    if "answers" not in samples:
        return "Test images, one of each class" + (" without and with the trigger" if "whole" in samples else "")
    if len(samples["answers"]) < 2:
        right = int((samples["answers"][0] == samples["classes"]).sum())
        return f"The final model is right on {right} of {len(samples['classes'])} test images, one of each class"
    target = str(samples["target"])
    others = [at for at, name in enumerate(samples["classes"]) if name != target]
    before, after = (sum(answers[at] == target for at in others) for answers in samples["answers"])
    return (
        f"Stamped, {after} of {len(others)} images of other classes are answered “{plain(target)}”, the target; "
        f"without the trigger {before}"
    )


def _small_print(samples: dict[str, Any], factor: int) -> str:
    said = ". The first test image of each class shown"
    if "answers" in samples and "whole" not in samples:
        return said + "; the final model's answer, and how sure it is."
    if "answers" in samples:
        said += "; the final model's answer before → after it is stamped, and how sure the latter is"
    return said + (f"; the difference is shown {factor} times as strong as it is." if factor > 1 else ".")
