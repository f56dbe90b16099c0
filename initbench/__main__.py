"""`python -m initbench` and the command `initbench`."""

import gc
import os
import sys
import threading

from initbench.workers import head_start

STOPPED = (130, 143)
"""The exit codes of a command that a signal has stopped."""
SECONDS_TO_END = 3.0
"""How long Python may then take to end: it would wait for ever for a thread of a user's model."""


def main() -> None:
    """Reads the command line, carries it out and leaves with its exit code."""
    head_start.begin(sys.argv[1:])
    from initbench.cli.app import app

    try:
        app(prog_name="initbench")
    except SystemExit as leaving:
        if leaving.code in STOPPED:
            timer = threading.Timer(SECONDS_TO_END, os._exit, [leaving.code])
            timer.daemon = True
            timer.start()
        raise
    finally:
        gc.freeze()  # Python else looks for garbage once more before it ends, which takes a tenth of a second


if __name__ == "__main__":
    main()
