"""`python -m initbench` and the command `initbench`."""

from initbench.cli import app


def main() -> None:
    """Reads the command line, carries it out and leaves with its exit code."""
    app(prog_name="initbench")


if __name__ == "__main__":
    main()
