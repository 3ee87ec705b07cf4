"""``python -m clients --server HOST:PORT --client-id 3``: one client of a real network, in one process.

It may be started before the server, tries again when the connection is lost, and ends when the run does. What it trains, and
how, comes from the server; where its images are is its own (``--dataset``, ``--data-dir``).
"""

import sys

from oleander.system.output import hold_up_nothing
from oleander.system.processes import end_on_signals
from oleander.system.proxies import talk_to_nobody_else

if __name__ == "__main__":
    hold_up_nothing()
    talk_to_nobody_else()
    end_on_signals(nothing="")  # before the imports, which take seconds

from oleander.network.client import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
