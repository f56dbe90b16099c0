"""`python -m initbench` and the command `initbench`."""

import sys

from initbench.cli import app


def main() -> None:
    """Reads the command line, carries it out and leaves with its exit code. Modules of the working folder can be named."""
    if "" not in sys.path:
        sys.path.append("")
    app(prog_name="initbench")


if __name__ == "__main__":
    main()
