"""The command ``oleander``: simulate.py, or by its first word, ``server`` or ``client``, server.py or ``python -m clients``."""

import sys

from oleander.system.display import begin_display
from oleander.system.output import hold_up_nothing
from oleander.system.processes import end_on_signals
from oleander.system.proxies import talk_to_nobody_else


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    talk_to_nobody_else()
    hold_up_nothing()
    end_on_signals()  # before the imports, which take seconds
    begin_display()
    first, rest = sys.argv[1:2], sys.argv[2:]
    if first == ["server"]:
        import server

        return server.main(rest)
    if first == ["client"]:
        from oleander.network.client import main as client

        return client(rest)
    import simulate

    return simulate.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
