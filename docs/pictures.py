"""The documentation's pictures of runs: made by the program itself, from two runs on digits that anybody can repeat.

``python docs/pictures.py RUNS`` makes the runs in the folder RUNS, or takes those that it finds finished there, and writes
report.png, samples.png, norms.png and scores.png beside this file. report.png is the top of a page as Chromium shows it. Look at
each before it is committed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
RUNS = {
    "dba": ["--scenario", "dba"],
    "scaling": ["--scenario", "scaling"],
}
"""Folder → what is run, on digits."""
FIGURES = {"samples": "dba", "norms": "scaling", "scores": "scaling"}
"""Figure → the run that it is of."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WINDOW = "1060,1215"
"""Pixels: the page's width and what is seen of it at once."""


def main(runs: Path) -> None:
    """Make what is not there yet, then the pictures."""
    for name, flags in RUNS.items():
        if not (runs / name / "report.html").is_file():
            program = [sys.executable, str(DOCS.parent / "simulate.py")]
            subprocess.run([*program, *flags, "--dataset", "digits", "--out", str(runs / name)], check=True)
    for figure, name in FIGURES.items():
        shutil.copyfile(runs / name / "figures" / f"{figure}.png", DOCS / f"{figure}.png")
    _screenshot(runs / "dba" / "report.html", DOCS / "report.png")


def _screenshot(page: Path, picture: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed: {picture.name} is not made")
    quiet = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WINDOW}"]
    subprocess.run([browser, *quiet, f"--screenshot={picture}", page.resolve().as_uri()], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
