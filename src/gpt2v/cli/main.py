"""The command `gpt2v`. Every field of a command's configuration is an option.

A user's mistake ends with one line on stderr and exit status 2. Configurations are checked before
torch is imported, because the import takes seconds. A signal ends it with one line, too, after
everything is cleaned up; so does a disk that cannot be written, standard output included. Any other
error is one line, too, with a file that tells more; see `crashes`.
"""

import errno
import io
import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from gpt2v import __version__
from gpt2v.cli import ask, comparing, completion, configs, data, demo, measuring, training
from gpt2v.cli.crashes import DEBUG, say_crash
from gpt2v.cli.overrides import (
    Parser,
    joined,
    overrides_of,
    take_fields,
    take_imports,
    texts_of,
)
from gpt2v.errors import Stopped, Told, UserError
from gpt2v.hardware.memory import keep_freed_memory
from gpt2v.messages import say, say_from_first
from gpt2v.stopping import TORCHRUN, end_at_once, signals_as_exceptions
from gpt2v.storage.files import reason

# What a disk or a network folder answers when it cannot be written.
_CANNOT_WRITE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EFBIG", "ENAMETOOLONG")
    if hasattr(errno, name)  # Windows lacks some
}
_HEAD_START = 30.0  # seconds; torchrun ends this process sooner if the first one has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    with signals_as_exceptions():
        try:
            keep_freed_memory()
            status = _run(sys.argv[1:] if argv is None else argv)
        except KeyboardInterrupt:  # a second Ctrl-C, while the first one was answered
            status = 128 + signal.SIGINT
        end_at_once(status)
        return status


def _run(argv: Sequence[str]) -> int:
    try:
        _command(argv)
    except UserError as error:
        if not isinstance(error, Told):
            _say(str(error))
        return 2
    except Stopped as stopped:
        say_from_first(str(stopped))  # the signal came to all processes
        return 128 + stopped.signum
    except KeyboardInterrupt:
        say_from_first("stopped")
        return 128 + signal.SIGINT
    except BrokenPipeError as error:
        if _output_is_read():  # another pipe, e.g. of a library
            say_crash(error)
            return 1
        _drop_output()
        return 141
    except OSError as error:
        if _is_closed_pipe(error):
            _drop_output()
            return 141
        if error.errno not in _CANNOT_WRITE:
            say_crash(error)
            return 1
        if error.filename is None:  # of a stream that is open
            _drop_output()
        _say(f"{error.filename or 'standard output'}: cannot be written: {reason(error)}")
        return 2
    except SystemExit:  # --help
        raise
    except BaseException as error:  # also a panic of a library in Rust, which is no Exception
        say_crash(error)
        return 1
    return 0


def _command(argv: Sequence[str]) -> None:
    try:
        _check_folder()
        words = take_imports(list(argv))
        words, fields = take_fields(joined(words, [comparing.COMPARE, comparing.PLAN]))
        args, rest = _parser().parse_known_args(words)  # --help and --version end here
        overrides = overrides_of(args, texts_of([*rest, *fields]))
        try:
            args.command(args, overrides)
        except SystemExit as exit:  # e.g. quit() in a file of the user: it would end without a word
            ended = RuntimeError(f"SystemExit: {exit.code}")
            raise ended.with_traceback(exit.__traceback__) from exit
    finally:
        print(end="", flush=True)  # an error of standard output is one line, too


def _check_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the current folder has been removed; change to another one") from None


def _is_closed_pipe(error: OSError) -> bool:
    """Whether it is how Windows says that standard output is a pipe whose reader has closed it."""
    is_windows = not hasattr(select, "poll")
    return is_windows and error.errno == errno.EINVAL and error.filename is None


def _output_is_read() -> bool:
    """Whether standard output is no pipe whose reader has closed it, as `| head` does."""
    if not hasattr(select, "poll"):  # Windows
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # closed, or no file, as in a notebook
        return True


def _drop_output() -> None:
    """Write no more to standard output; else Python would try again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    """Print a line on stderr, in only one of several processes.

    torchrun ends all processes when one has ended. So the others let the first one say what they
    would say; if it does not end, the mistake is theirs alone.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        if TORCHRUN not in os.environ:
            return
        try:
            time.sleep(_HEAD_START)
        except (Stopped, KeyboardInterrupt):
            return
    say(text)


def _parser() -> Parser:
    parser = Parser(
        prog="gpt2v",
        description="Ask a small GPT-2 about the same grid as text and as a picture.",
    )
    parser.notes.append(
        lambda: "All commands take --import FILE.py, a file with your own projectors, metrics, ..."
    )
    parser.notes.append(lambda: f"With the environment variable {DEBUG}=1 errors show a traceback.")
    parser.add_argument("--version", action="version", version=f"gpt2v {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for family in (demo, configs, data, training, measuring, comparing, ask):
        family.add_commands(commands)
    completion.add_commands(commands, _parser)
    return parser
