"""The two errors a user may meet: what they asked for cannot be (exit 2), or a run that began could not go on (exit 1)."""

from typing import Self


class UserError(Exception):
    """A setting, file or name is wrong. Says the value, the rule and the known alternatives. Exit code 2."""

    exit_code = 2

    @classmethod
    def of(cls, error: OSError) -> Self:
        """What the system says, with the file where it names one."""
        return cls(f"{error.filename}: {error.strerror}" if error.filename else str(error))


class RunError(Exception):
    """A run that had begun had to end: a client, a reply or the engine failed. Exit code 1."""

    exit_code = 1
