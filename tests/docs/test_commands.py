"""The command lines that README and docs/ show: each is one that the program takes."""

import re
import shlex

import pytest

from oleander.settings import outside
from oleander.settings.cli import parse_command
from oleander.settings.plan import plan_of
from oleander.settings.registry import find
from oleander.system.errors import UserError
from tests.programs import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES = ("./", "runs/", "question.toml", "my.toml", "my.safetensors", "hello_kitty.jpg", "central.safetensors")
"""What stands for files of the reader's."""


def commands():
    """Page → the words behind ``python simulate.py`` of each command line that needs no file of the reader's."""
    for page in PAGES:
        for block in re.findall(r"```(?:bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.splitlines():
                found = re.match(r"\s*(?:\$ )?(?:python simulate\.py|oleander)( --.*|)$", line)
                words = shlex.split(found[1].partition("|")[0], comments=True) if found else []
                if words and not any(word.startswith(FILES) or "=./" in word for word in words):
                    yield pytest.param(words, id=f"{page.name}: {' '.join(words)}")


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


@pytest.mark.network  # no network, but half a minute
@pytest.mark.parametrize("words", [*commands()])
def test_a_command_line_of_the_documentation_can_be_run(words):
    if "--list" in words:
        assert (
            any(words[-1] in find(p) for p in ("attacks", "strategies", "oleander.datasets")) or words[-1] == "--list"
        )
    elif not {"--help", "--tyro-print-completion", "--version", "--resume"} & set(words):
        command = parse_command([word.replace("HEAD", "127.0.0.1") for word in words], auto="digits")
        assert plan_of(command) is not None or command.flags.experiment


def test_there_are_commands_and_a_wrong_one_is_refused():
    assert len([*commands()]) > 40
    with pytest.raises(UserError, match="krumm"):
        plan_of(parse_command(["--scenario", "blend", "--strategy", "krumm"]))
