"""What shows and what refuses does not wait for an import that takes seconds; told by the modules, not by the clock."""

import json
import subprocess
import sys

import pytest

from tests.programs import ROOT

SLOW = (
    "torch",
    "torchvision",
    "ray",
    "flwr",
    "grpc",
    "scipy",
    "sklearn",
    "matplotlib",
    "pandas",
    "PIL",
    "numpy",
    "jinja2",
)
SCRIPT = """
import contextlib, importlib, io, json, sys
module, slow, lines = json.loads(sys.argv[1])
main, found = importlib.import_module(module).main, {}
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            code = main(line.split())
        except SystemExit as ended:
            code = ended.code
    found[line] = [code or 0, [name for name in slow if name in sys.modules], bool(said.getvalue() + error.getvalue())]
print(json.dumps(found))
"""
LINES = {
    "simulate": {
        0: ["", "--list", "--list krum", "--list dba", "--list=cnn", "--help", "--version"],
        2: [
            "--lst", "--list krun", "--rounds x", "--rounds 0", "--dataset no_such", "--strategy krun", "--attack no_such",
            "--repair no_such", "--model no_such", "--scenario no_such", "--scenario no_such.toml", "--strategy ./no_such.py",
            "--clip-norm 3", "--sweep no_such=1", "--sweep rounds=x", "--malicious 9 --attack blend --dataset digits",
            "--clients-per-round 9", "--out . --dataset digits", "--client-cpus 4096 --dataset digits",
            "--attack blend --malicious 1 --blend-image no_such.png --dataset digits", "--dry-run --resume no_such",
            "--dry-run --rounds 0", "--dry-run --malicious 9", "--resume no_such", "--report no_such", "--report",
            "--report docs --rounds 1",
        ],
    },
    "server": {
        0: ["--help", "--version", "keys --help"],
        2: [
            "--bad", "--port x", "--port 99999 --dataset digits", "--host 0.0.0.0 --dataset digits", "--host a/b --dataset digits",
            "--malicious 9 --dataset digits", "--dry-run --dataset digits", "--resume no_such", "keys --clients x",
        ],
    },
    "oleander.network.client": {
        0: ["--help", "--version"],
        2: ["--bad", "--client-id x", "--server no_port --client-id 1"],
    },
}  # fmt: skip
"""Module of a command → exit code → command lines."""


@pytest.mark.parametrize("module", LINES)
def test_what_shows_or_refuses_imports_nothing_slow(module):
    codes = {line: code for code, lines in LINES[module].items() for line in lines}
    asked = json.dumps([module, SLOW, list(codes)])
    done = subprocess.run([sys.executable, "-c", SCRIPT, asked], capture_output=True, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {line: told[0] for line, told in found.items()} == codes
    assert all(said for _, _, said in found.values())
    assert {line: slow for line, (_, slow, _) in found.items() if slow} == {}


def test_flowers_own_programs_find_both_apps_in_the_text_and_in_the_module():
    from flwr.supercore.object_ref import load_app, validate

    for reference in ("server:app", "clients.app:app"):
        assert validate(reference, project_dir=ROOT) == (True, None)
        assert (
            type(load_app(reference, ValueError, ROOT)).__name__ == {"s": "ServerApp", "c": "ClientApp"}[reference[0]]
        )
    with pytest.raises(ValueError, match="Unable to load attribute no_such"):
        load_app("server:no_such", ValueError, ROOT)


def test_run_and_study_are_importable_from_the_program():
    import simulate
    from oleander.calls import functions

    assert (simulate.run, simulate.study) == (functions.run, functions.study)
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        _ = simulate.no_such
