"""The command `gpt2v`, and `python -m gpt2v`. Signals are answered while it still imports."""

import io
import sys

from gpt2v.stopping import end_with_torchrun, signals_end_at_once


def main() -> int:
    """Run the command in `sys.argv`; returns the exit status."""
    end_with_torchrun()
    with signals_end_at_once():
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack letters of class names
            sys.stdout.reconfigure(errors="backslashreplace")
        from gpt2v.cli.main import main as run  # takes a moment

        return run()


if __name__ == "__main__":
    sys.exit(main())
