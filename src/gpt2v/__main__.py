"""The command `gpt2v`, and `python -m gpt2v`. Signals are answered while it still imports."""

import sys

from gpt2v.errors import Stopped
from gpt2v.messages import say
from gpt2v.stopping import signals_as_exceptions


def main() -> int:
    """Run the command in `sys.argv`; returns the exit status."""
    try:
        with signals_as_exceptions():
            from gpt2v.cli.main import main as run  # takes a moment

            return run()
    except Stopped as stopped:
        say(stopped)
        return 128 + stopped.signum
    except KeyboardInterrupt:
        say("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
