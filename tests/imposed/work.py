"""Runs the commands of FOLDER/commands.json one after the other, in one process.

Each has `argv`, and perhaps `held`, a file that is open meanwhile; `stop_at`, a step at which a
signal comes; `hold_at`, a step from which the first file of the pattern `held` is open.
FOLDER/said.json lists the status of each and what it said.
"""

import contextlib
import glob
import io
import json
import signal
import sys
from pathlib import Path

from gpt2v.cli.main import main
from gpt2v.train.metrics import Metrics


def run(stack, argv, held=None, stop_at=None, hold_at=None):
    log = Metrics.log

    def logged(self, step, **values):
        log(self, step, **values)
        if step == stop_at:
            signal.raise_signal(signal.SIGBREAK)
        if step == hold_at:
            stack.enter_context(Path(min(glob.glob(held))).open("rb"))  # noqa: SIM115

    if held and hold_at is None:
        stack.enter_context(Path(held).open("rb"))  # noqa: SIM115
    Metrics.log = logged
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(argv)
    Metrics.log = log
    return status, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    folder, said = Path(sys.argv[1]), []
    for command in json.loads((folder / "commands.json").read_bytes()):
        with contextlib.ExitStack() as open_files:
            said.append(run(open_files, **command))
            (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")
