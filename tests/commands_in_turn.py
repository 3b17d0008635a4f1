"""Started by torchrun: runs the commands of FOLDER/commands.json one after the other.

What each process said and how it ended is in FOLDER/NAME.RANK.json.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from gpt2v.cli.main import main
from gpt2v.train.distributed import processes

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    del os.environ["TORCHELASTIC_RUN_ID"]  # a mistake does not end these processes
    with processes():
        for name, argv in json.loads((folder / "commands.json").read_text()).items():
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(argv)
            said = json.dumps([status, out.getvalue(), err.getvalue()])
            (folder / f"{name}.{os.environ['RANK']}.json").write_text(said)
            if status not in (0, 2):  # the other process waits for this one
                break
