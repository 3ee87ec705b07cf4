"""``--tyro-print-completion bash``: what a shell completes after ``oleander``, and in a source tree after ``python simulate.py`` too.

tyro writes a script for each command; in bash they are put together here, since ours have words before their flags.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Mapping

from oleander.system import itself
from oleander.system.errors import UserError

FLAG = "--tyro-print-completion"
SHELLS = ("bash", "zsh", "fish")
Writer = Callable[[list[str]], object]
"""Is given a command's flags, and lets tyro print the script and exit."""

_OLEANDER = """
_oleander() {
  if ((COMP_CWORD > 1)) && [[ "${COMP_WORDS[1]}" == @(server|client) ]]; then
    local part="${COMP_WORDS[1]}" COMP_CWORD=$((COMP_CWORD - 1))
    local COMP_WORDS=("${COMP_WORDS[@]:1}")
    "_tyro_oleander_$part"
  else
    _tyro_oleander
    ((COMP_CWORD == 1)) && COMPREPLY+=($(compgen -W "server client" -- "${COMP_WORDS[1]}"))
  fi
}
complete -o default -F _oleander oleander
"""
_PYTHON = """
_oleander_python() {
  local part="" skipped=1
  case "${COMP_WORDS[1]##*/}" in
    simulate.py) part=_tyro_oleander ;;
    server.py) part=_tyro_oleander_server ;;
    -m) [[ "${COMP_WORDS[2]}" == clients ]] && part=_tyro_oleander_client skipped=2 ;;
  esac
  COMPREPLY=()
  if [[ "$part" ]] && ((COMP_CWORD > skipped)); then
    local COMP_CWORD=$((COMP_CWORD - skipped)) COMP_WORDS=("${COMP_WORDS[@]:skipped}")
    "$part"
  fi
}
complete -o bashdefault -o default -F _oleander_python python python3
"""


def completion_script(arguments: list[str], writers: Mapping[itself.Part, Writer]) -> str:
    """What ``--tyro-print-completion SHELL`` prints.

    Raises:
        UserError: no shell that is known.
    """
    shell = " ".join(arguments[1:])
    if shell not in SHELLS:
        raise UserError(f"{FLAG} {shell}: wanted one of {', '.join(SHELLS)}")
    if shell != "bash":
        return _written(writers["simulate"], shell)
    scripts = [_without_its_end(_written(writer, shell)) for writer in writers.values()]
    return "\n".join([*scripts, _OLEANDER, _PYTHON if itself.project() else ""])


def _written(writer: Writer, shell: str) -> str:
    """A command's script, named as the installed command is."""
    said, called = io.StringIO(), sys.argv
    sys.argv = [itself.NAME]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            writer([FLAG, shell])
    finally:
        sys.argv = called
    return said.getvalue()


def _without_its_end(script: str) -> str:
    """Without the lines that would register the script for a command of its own."""
    return re.split(r"^# Register completion ", script, maxsplit=1, flags=re.MULTILINE)[0]
