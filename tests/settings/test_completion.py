"""What a shell completes: tyro's scripts, put together for commands with words before their flags, as bash runs them."""

import shutil
import subprocess

import pytest

import simulate
from oleander.settings.completion import FLAG

CASES = [
    (["oleander", "--sce"], "--scenario"),
    (["oleander", "s"], "server"),
    (["oleander", "server", "--ke"], "--keys --keep"),
    (["oleander", "client", "--client"], "--client-id"),
    (["oleander", "--partition", "d"], "dirichlet"),
    (["oleander", "--scenario", "dba", "--clip"], "--clip-norm"),
    (["python", "simulate.py", "--dry"], "--dry-run"),
    (["python", "/a/server.py", "--sto"], "--stock"),
    (["python", "-m", "clients", "--serv"], "--server"),
    (["python", "other.py", "--dry"], ""),
    (["python", "-m", "other", "--dry"], ""),
]
TRY = """
source {script}
try() {{
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  "$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')" "$1" "${{!#}}"
  echo "${{COMPREPLY[*]}}" | xargs
}}
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_completes_flags_values_and_words_of_every_command(tmp_path, capsys):
    assert simulate.main([FLAG, "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    lines = [TRY.format(script=tmp_path / "script"), *(f"try {' '.join(words)}" for words, _ in CASES)]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.stdout.splitlines() == [wanted for _, wanted in CASES]


def test_other_shells_get_tyros_own_script_of_the_command(capsys):
    assert simulate.main([FLAG, "zsh"]) == 0 and capsys.readouterr().out.startswith("#compdef oleander\n")
    assert simulate.main([FLAG, "fish"]) == 0 and "--command 'oleander'" in capsys.readouterr().out


@pytest.mark.parametrize("shell", [[], ["ksh"], ["bash", "zsh"]])
def test_a_shell_that_is_none_is_refused_with_those_that_are(shell, capsys):
    assert simulate.main([FLAG, *shell]) == 2
    assert "wanted one of bash, zsh, fish" in capsys.readouterr().err
