"""`python -m initbench` and the command `initbench`."""

import gc
import sys

from initbench.workers import head_start


def main() -> None:
    """Reads the command line, carries it out and leaves with its exit code."""
    head_start.begin(sys.argv[1:])
    from initbench.cli.app import app

    try:
        app(prog_name="initbench")
    finally:
        gc.freeze()  # Python else looks for garbage once more before it ends, which takes a tenth of a second


if __name__ == "__main__":
    main()
