"""Data flows one way, and so do imports; and what the documents say of the tree is so."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from oleander.settings.run_config import KEYS

ROOT = Path(__file__).parent.parent
ORDER = (
    ("oleander.system",),
    ("oleander.settings",),
    ("oleander.datasets",),
    ("oleander.models",),
    ("oleander.learning",),
    ("attacks", "oleander.transport"),
    ("clients",),
    ("strategies",),
    ("repairs",),
    ("oleander.experiment",),
    ("oleander.learning.checkpoints.pretrain", "oleander.learning.checkpoints.central"),
    ("oleander.reports",),
    ("oleander.network",),
    ("oleander.calls",),
    ("clients.__main__",),
    ("server", "simulate"),
    ("oleander.__main__",),
)
OURS = {"attacks", "clients", "oleander", "repairs", "strategies", "server", "simulate"}
FILES = [p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0].removesuffix(".py") in OURS]


def layer(module: str) -> int:
    fits = [(len(n), i) for i, names in enumerate(ORDER) for n in names if module == n or module.startswith(n + ".")]
    return max(fits)[1]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            rooms = node.module == "oleander"
            found |= {f"{node.module}.{a.name}" if rooms else node.module for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_data(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "oleander":
        return
    for other in imports(path):
        assert layer(other) <= layer(module), f"{module} imports {other}, which comes after it"


@pytest.mark.parametrize("package", ["attacks", "strategies", "repairs"])
def test_maths_is_free_of_flower_and_ray(package):
    for path in (ROOT / package).glob("*.py"):
        if path.name not in ("flower.py", "_robust.py"):
            assert not re.search(r"^\s*(from|import) (flwr|ray)\b", path.read_text(), re.M), path


def test_what_is_not_flowers_public_interface_is_in_three_files():
    """Public: what a name without a dot in it is, and the packages that Flower's own documents import from."""
    inside = {f"oleander/network/{name}.py" for name in ("internals", "task", "link")}
    public = r"flwr\.(app|clientapp|client|serverapp|serverapp\.strategy|simulation)( |$)"
    for path in FILES:
        if path.relative_to(ROOT).as_posix() not in inside:
            for line in re.findall(r"^\s*(?:from|import) (flwr(?!_datasets)\S* ?)", path.read_text(), re.M):
                known = re.fullmatch(public, line) or (
                    path.as_posix().endswith("transport/grid.py")
                    and line.startswith(("flwr.proto.node", "flwr.supercore.run"))
                )
                assert known, f"{path}: {line}"


def test_nothing_seeds_a_global_generator():
    for path in FILES:
        if path != ROOT / "oleander" / "system" / "streams.py":  # there inside fork_rng
            assert not re.search(r"(torch|random)\.(manual_seed|seed)\(|np\.random\.seed", path.read_text()), path


def test_constraints_pin_every_dependency_and_name_no_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    wanted = project["dependencies"] + [name for name in extras if not name.startswith("oleander[")]
    text = (ROOT / "constraints.txt").read_text()
    pinned = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line}
    assert {re.match(r"[\w-]+", name)[0].lower() for name in wanted} <= pinned
    assert "://" not in text and " @ " not in text


def test_the_map_of_the_code_in_contributing_is_true():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    block = text[text.index("## Map of the code") :]
    named = re.findall(r"^ *(\S+\.py|\S+/|\S+\.toml)\s", block.split("```")[1], re.M)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_flower_app_is_importable_and_its_config_has_its_keys():
    app = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert app["config"] == dict.fromkeys(KEYS, "") | {"scenario": "dba"}
    for reference in app["components"].values():
        module, name = reference.split(":")
        assert hasattr(__import__(module, fromlist=[name]), name)
