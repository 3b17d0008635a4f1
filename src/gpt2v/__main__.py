"""The command `gpt2v`, and `python -m gpt2v`. Signals are answered while it still imports."""

import atexit
import os
import signal
import sys

# Nothing is there to clean up before the command begins, and the imports below take a moment.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))

from gpt2v.hardware.memory import importing
from gpt2v.stopping import end_with_torchrun, let_signals_end_at_once


def main() -> int:
    """Run the command in `sys.argv`; returns the exit status, with which the process must end."""
    stopped_by: list[int] = []
    atexit.register(_end_by_ctrl_c, stopped_by)  # the first one is called last
    end_with_torchrun()
    let_signals_end_at_once()  # also after the command, while Python ends
    with importing():
        from gpt2v.cli.crashes import report_all_crashes
        from gpt2v.cli.main import main as run  # takes a moment

    report_all_crashes()
    status = run()
    if status == 128 + signal.SIGINT:
        stopped_by.append(status)
    return status


def _end_by_ctrl_c(stopped_by: list[int]) -> None:
    """End with the status of Ctrl-C; Python replaces it if Ctrl-C came while it ran `exec`."""
    if stopped_by:
        os._exit(stopped_by[0])


if __name__ == "__main__":
    sys.exit(main())
