"""The documentation's site: built without a network and without a warning, and its examples are what they say."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import strategies
from attacks import attack_of
from oleander.datasets.space import ImageSpace
from oleander.models import build
from oleander.settings import outside
from oleander.settings.cli import parse
from oleander.settings.config import SETTINGS
from oleander.settings.declared import DATASETS, FLAGS, built_in, declared, shown_source
from strategies.contract import failures
from tests.programs import ROOT

HOWTO = ROOT / "docs" / "howto"
NO_NETWORK = """
import runpy, socket, sys
def refused(*_, **__): raise OSError("the site is built without a network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
sys.argv = ["mkdocs", "build", "--strict", "--site-dir", sys.argv[1]]
try:
    runpy.run_module("mkdocs", run_name="__main__")
finally:
    print("imported:", *sorted({"torch", "flwr", "ray"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site, and what building it printed."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


class Assets(HTMLParser):
    """What a page loads, and the parts of it that links can name."""

    def __init__(self):
        super().__init__()
        self.loaded, self.links = [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "embed", "object"):
            self.loaded += [found[key] for key in ("src", "srcset", "data") if found.get(key)]
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found["href"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])


class Text(HTMLParser):
    """What a page says, and apart from that its code; blocks of code are left out."""

    def __init__(self):
        super().__init__()
        self.open, self.said, self.code = [], "", []

    def handle_starttag(self, tag, attrs):
        if tag in ("code", "pre", "script", "style", "svg"):
            self.open.append(tag)
            self.code += [""] if tag == "code" else []

    def handle_endtag(self, tag):
        if tag in self.open:
            del self.open[self.open.index(tag) :]

    def handle_data(self, data):
        if self.open in ([], ["code"]):
            self.said += data
        if self.open == ["code"]:
            self.code[-1] += data


def text_of(page: Path) -> Text:
    parser = Text()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def read(page: Path) -> Assets:
    parser = Assets()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_it_is_built_without_a_warning_and_without_pytorch(site):
    _, printed = site
    assert [line for line in printed.splitlines() if line.strip() and not line.startswith("INFO ")] == ["imported:"]


def test_nothing_is_loaded_from_another_host(site):
    folder, _ = site
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = read(page).loaded
        assert loaded
        for path in loaded:
            assert not re.match(r"(\w+:)?//", path), f"{page.name} loads {path}"
            assert page.name == "404.html" or (page.parent / path.partition("?")[0]).exists(), f"{page.name}: {path}"
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(\w+:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_every_page_of_the_documentation_is_in_it_and_no_program(site):
    folder, _ = site
    for page in (ROOT / "docs").rglob("*.md"):
        assert (folder / page.relative_to(ROOT / "docs").with_suffix(".html")).exists(), page.name
    assert not list(folder.rglob("*.py"))


def test_the_front_page_says_which_pages_are_in_the_site_alone_and_no_link_misses_another(site):
    folder, _ = site
    docs = ROOT / "docs"
    made = {docs / page.relative_to(folder).with_suffix(".md") for page in (folder / "reference").glob("*.html")}
    made = {page for page in made if not page.exists()}
    missed = {
        (page.parent / link).resolve()
        for page in docs.rglob("*.md")
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    }
    assert missed and missed <= made
    front = (docs / "index.md").read_text(encoding="utf-8")
    assert [page.stem for page in made if page.stem not in front] == []
    build = re.match(r"# The documentation's site: (.+)\n", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))[1]
    assert {build, "python simulate.py --list", "--list NAME", "--help"} <= set(re.findall(r"`(.+?)`", front))


def test_every_list_is_one(site):
    """Python-Markdown takes a list that follows a line of text for more of that text; GitHub does not."""
    folder, _ = site
    pages = {page.relative_to(folder): text_of(page).said for page in folder.rglob("*.html")}
    assert "Group norm" in pages[Path("definitions.html")]
    collapsed = [
        f"{page}: {line.strip()[:60]}"
        for page, said in pages.items()
        for line in said.splitlines()
        if re.match(r"\s*[-*+] ", line)
    ]
    assert collapsed == []


def test_no_code_shows_the_backslash_that_escapes_a_line_in_a_table(site):
    """On GitHub ``\\|`` is a line in a table's code, too; Python-Markdown shows both characters."""
    folder, _ = site
    codes = {page.name: text_of(page).code for page in folder.rglob("*.html")}
    assert "--min-clients" in codes["network.html"]
    assert {name: found for name, code in codes.items() if (found := [c for c in code if r"\|" in c])} == {}


def test_the_reference_names_every_setting_and_plug_in(site):
    folder, _ = site
    text = "".join(page.read_text(encoding="utf-8") for page in (folder / "reference").glob("*.html"))
    hidden = {name for name, setting in declared().items() if setting.hidden}
    assert [n for n in SETTINGS if f"<code>--{n.replace('_', '-')}</code>" not in text and n not in hidden] == []
    for package in FLAGS:
        for name in built_in(package):
            shown = shown_source(name) if package == DATASETS else name
            assert f"<code>{shown}</code>" in text, name


def example(page: str, folder: Path) -> Path:
    """The file that a how-to page shows."""
    (code,) = re.findall(r"```python\n(.*?)```", (HOWTO / f"{page}.md").read_text(encoding="utf-8"), re.S)
    name = re.search(r"^def (\w+)", code, re.M)[1]
    assert f"`{name}.py`" in (HOWTO / f"{page}.md").read_text(encoding="utf-8")
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return folder / f"{name}.py"


def test_the_example_of_a_defence_keeps_the_contract(tmp_path):
    assert failures(str(example("own-defence", tmp_path))) == {}


def test_the_example_of_an_attack_stamps_a_frame(tmp_path):
    file = example("own-attack", tmp_path)
    experiment = parse(
        ["--scenario", "blend", "--dataset", "digits", "--attack", f"{file}+scaling", "--frame-width", "2"]
    )
    attack = attack_of(experiment, ImageSpace(1, 16, mean=(0.5,), std=(0.5,)))
    stamped = attack.trigger(torch.zeros(1, 1, 16, 16))
    assert stamped.sum() == 16**2 - 12**2 and len(attack.tampers) == 1


def test_the_example_of_a_model_takes_the_images(tmp_path):
    file = example("own-model", tmp_path)
    experiment = parse(["--scenario", "blend", "--dataset", "digits", "--model", str(file)])
    grey = ImageSpace(1, 16, mean=(0.5,), std=(0.5,))
    assert build(experiment.model, 10, grey)(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


def test_the_example_of_a_dataset_gives_images(tmp_path):
    names: dict = {}
    exec(compile(example("own-dataset", tmp_path).read_text(), "stripes.py", "exec"), names)
    images = names["stripes"](tmp_path)
    assert images.train_images.shape == (3000, 1, 16, 16) and images.train_images.dtype == "uint8"
    rows, columns = (images.train_images[label, 0].astype(int) for label in (0, 1))
    assert rows.mean(axis=1).std() > 3 * rows.mean(axis=0).std()  # horizontal: rows differ
    assert columns.mean(axis=0).std() > 3 * columns.mean(axis=1).std()


@pytest.mark.parametrize("page", ["docs/first-hour.md", "README.md"])
def test_the_defences_of_the_first_hour_and_of_readme_drop_a_long_update(page, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    file = tmp_path / f"{re.search(r'^def ([a-z_]+)', code, re.M)[1]}.py"
    file.write_text(code, encoding="utf-8")
    updates = np.ones((5, 8), dtype=np.float32)
    updates[2] *= 5
    found = strategies.aggregate(str(file), updates)
    assert found.influence[2] == 0 and np.allclose(found.delta, 1)
