"""What ``pip install`` brings: a wheel with every file that the source tree has in its rooms, and a command of one name."""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes

import pytest
from flwr.cli.build import build_fab_from_disk

from oleander.network.superlink import app_folder
from oleander.system import itself
from tests.programs import ROOT
from tests.test_layers import OURS

ROOMS = [*sorted(name for name in OURS if (ROOT / name).is_dir()), "scenarios"]
MODULES = [f"{name}.py" for name in sorted(OURS) if not (ROOT / name).is_dir()]


def files_of(*names):
    """Those of the source tree that belong to it, by their paths."""
    found = [p for name in names for p in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))]
    return {p.relative_to(ROOT).as_posix() for p in found if p.is_file() and "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, as pip has it built, of a copy of the tree: building leaves files behind."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in (*ROOMS, *MODULES, "pyproject.toml", "README.md", "LICENSE"):
        whole = (ROOT / name).is_dir()
        shutil.copytree(ROOT / name, tree / name) if whole else shutil.copy(ROOT / name, tree / name)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr  # setuptools warns of what it will not do for long
    with zipfile.ZipFile(next(out.glob("*.whl"))) as found:
        yield found


def test_it_has_every_file_of_the_rooms_as_the_source_tree_has_it_and_no_other(wheel):
    ours = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert ours == files_of(*ROOMS, *MODULES)
    assert {"scenarios/dba.toml", "attacks/images/cat.png", "oleander/learning/checkpoints/toy.safetensors"} <= ours
    for name in ours:
        assert wheel.read(name) == (ROOT / name).read_bytes(), name


def test_whatever_our_code_imports_of_the_tree_is_in_it(wheel):
    """A new room at the top of the tree that pyproject.toml does not name would be missed by those who install it."""
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    packed = {name.partition("/")[0].removesuffix(".py") for name in wheel.namelist()}
    for name in wheel.namelist():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(wheel.read(name))):
                asked = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                asked = [alias.name for alias in node.names] if isinstance(node, ast.Import) else asked
                missing = {module.partition(".")[0] for module in asked} & there - packed
                assert not missing, f"{name} imports {missing}, which the wheel has not"


def test_every_room_says_that_it_has_types(wheel):
    for room in ROOMS:
        assert f"{room}/py.typed" in wheel.namelist() or room == "scenarios"


def test_it_has_the_command_and_the_one_version(wheel):
    about = {name.rpartition("/")[2]: wheel.read(name) for name in wheel.namelist() if ".dist-info/" in name}
    assert re.search(r"^oleander = oleander\.__main__:main$", about["entry_points.txt"].decode(), re.M)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert message_from_bytes(about["METADATA"])["Version"] == version == itself.version()
    cited = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.M))
    assert (cited["version"], cited["license"]) == (
        version,
        message_from_bytes(about["METADATA"])["License-Expression"],
    )
    assert "LICENSE" in about


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function that runs the command from the unpacked wheel, in an empty folder."""
    folder, empty = tmp_path_factory.mktemp("site-packages"), tmp_path_factory.mktemp("empty")
    wheel.extractall(folder)
    start = "import sys; sys.argv[0] = 'oleander'; from oleander.__main__ import main; sys.exit(main())"

    def run(*words):
        command = [sys.executable, "-P", "-c", start, *words]
        return subprocess.run(
            command,
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    yield run
    assert not list(empty.iterdir())


def test_what_is_installed_finds_its_scenarios_in_an_empty_folder_and_is_called_by_its_name(installed):
    refused = installed("--scenario", "dbaa")
    assert (
        refused.returncode == 2 and "did you mean dba?" in refused.stderr and "fig1_malicious_count" in refused.stderr
    )
    listed = " ".join(installed().stdout.split())
    assert "oleander --scenario NAME" in listed and "simulate.py" not in listed
    helped = " ".join(installed("--help").stdout.split())
    assert "usage: oleander [-h]" in helped and "oleander server runs it over a real network" in helped


def test_the_words_server_and_client_lead_to_their_commands(installed):
    assert "usage: oleander client [-h]" in installed("client", "--help").stdout
    assert "usage: oleander server keys" in installed("server", "keys", "--help").stdout
    refused = installed("server", "--scenario", "dba", "--host", "0.0.0.0")
    assert refused.returncode == 2 and "oleander server keys --clients N" in " ".join(refused.stderr.split())


def test_the_app_of_an_installed_server_leads_flower_to_what_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(itself, "project", dict)
    folder = app_folder(tmp_path)
    about = tomllib.loads((folder / "pyproject.toml").read_text())
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert about["tool"]["flwr"]["app"]["config"].keys() == ours["tool"]["flwr"]["app"]["config"].keys()
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(folder))) as app:
        assert {"pyproject.toml", "server_app.py", "client_app.py"} <= set(app.namelist())
