"""Commands and scripts in two processes, as torchrun starts them."""

import socket
import subprocess
import sys


def torchrun_command(*command: str) -> list[str]:
    """The words that run a script, or `-m` and a module, in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return [*start, "--master-addr", "127.0.0.1", "--master-port", str(port), *command]


def ended_torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m` and a module, in two processes, which may fail."""
    command_line = torchrun_command(*command)
    return subprocess.run(command_line, capture_output=True, text=True, timeout=600)


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m` and a module, in two processes."""
    done = ended_torchrun(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    return done
