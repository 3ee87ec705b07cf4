"""MkDocs: adds the pages that the program writes of itself, and the repository's own pages, and mends links between them.

Pages below ``docs/`` link to other files of the repository as GitHub wants it (``../CONTRIBUTING.md``). On the site such a file is
either a page of its own (``OUTSIDE``), or its link becomes its name.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import generate  # it lies beside this file, which is in no package

OUTSIDE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "oleander/learning/checkpoints/README.md": "project/checkpoints.md",
}
"""File of the repository → its page on the site."""
SITE = OUTSIDE | {"README.md": "index.md"}
INTERVAL = re.compile(r"(\d) ± (\d)")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages that are not in ``docs/``."""
    outside = {page: (generate.ROOT / name).read_text(encoding="utf-8") for name, page in OUTSIDE.items()}
    for path, text in (generate.pages() | outside).items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages of the site, and keep a mean and its interval on one line."""
    home = page.file.src_uri
    own = next((name for name, path in OUTSIDE.items() if path == home), f"docs/{home}")
    return INTERVAL.sub("\\1\u00a0±\u00a0\\2", LINK.sub(lambda link: _mended(link, own, home), markdown))


def _mended(link: re.Match[str], own: str, home: str) -> str:
    words, target, part = link[1], link[2], link[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
    wanted = SITE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
    if wanted:
        return f"[{words}]({posixpath.relpath(wanted, posixpath.dirname(home) or '.')}{part})"
    if (generate.ROOT / path).exists():  # a file of source
        return words if words.startswith("`") else f"`{words}`" if words == path else words
    return link[0]
