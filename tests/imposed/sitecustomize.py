"""Windows' rules for files and signals, imposed on processes with this folder in PYTHONPATH.

Python imports this file by its name, in each process, before anything else. What Windows refuses is
refused with its number (`winerror`): to sync what is open for reading only, to open a folder, to
replace a folder, to move or remove what any of these processes has open or mapped, and folders with
such a file in them. Windows' line ends are written. Signals and calls that it lacks are gone. A
file that gpt2v opens as text in the encoding of the locale is an error.

`IMPOSED` is a folder in which these processes list themselves. `IMPOSED_GLANCES` is how often
another program, such as a virus scanner, holds a file just when it is moved or removed.
"""

import builtins
import errno
import fcntl
import io
import os
import select
import shutil
import signal
import stat
import warnings
from pathlib import Path

_FOLDER = Path(os.environ["IMPOSED"])
_DENIED, _HELD = 5, 32  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION
_glances = [int(os.environ.get("IMPOSED_GLANCES", "0"))]


def _refused(number, path):
    error = PermissionError(errno.EACCES, "refused as on Windows", str(path))
    error.winerror = number
    return error


def _open_files():
    """The paths of all files that one of the processes has open or mapped."""
    for process in (Path("/proc", name) for name in os.listdir(_FOLDER)):
        try:
            for handle in os.listdir(process / "fd"):
                try:
                    yield os.readlink(process / "fd" / handle)
                except OSError:  # closed meanwhile
                    continue
            with _real_open(process / "maps", encoding="utf-8") as maps:
                for line in maps:
                    yield "/" + line.rstrip("\n").partition("/")[2]
        except OSError:  # it has ended
            continue


def _check_unused(path):
    whole = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), "")
    whole += os.path.basename(os.fspath(path))
    is_folder = os.path.isdir(whole) and not os.path.islink(whole)
    for used in _open_files():
        if used == whole or (is_folder and used.startswith(whole + "/")):
            raise _refused(_DENIED if is_folder else _HELD, path)
    if _glances[0] > 0 and os.path.exists(whole):
        _glances[0] -= 1
        raise _refused(_HELD, path)


def _removing(real):
    def remove(path, *, dir_fd=None):
        assert dir_fd is None, "not on Windows"
        _check_unused(path)
        real(path)

    return remove


def _moving(real, replaces):
    def move(source, target, *, src_dir_fd=None, dst_dir_fd=None):
        assert src_dir_fd is dst_dir_fd is None, "not on Windows"
        _check_unused(source)
        if os.path.lexists(target) and not os.path.samefile(source, target):
            if not replaces:
                raise FileExistsError(errno.EEXIST, "exists, as on Windows", str(target))
            if os.path.isdir(target) or os.path.isdir(source):
                raise _refused(_DENIED, target)
            _check_unused(target)
        real(source, target)

    return move


def _fsync(handle):
    number = handle if isinstance(handle, int) else handle.fileno()
    reads_only = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if reads_only or stat.S_ISDIR(os.fstat(number).st_mode):
        raise OSError(errno.EBADF, "Bad file descriptor, as on Windows")
    _real_fsync(number)


def _os_open(path, flags, mode=0o777, *, dir_fd=None):
    if dir_fd is None and os.path.isdir(path) and not flags & _TMPFILE:
        raise _refused(_DENIED, path)
    return _real_os_open(path, flags, mode, dir_fd=dir_fd)


def _open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more, **named):
    if "b" not in mode and "r" not in mode and newline is None and file != os.devnull:
        newline = "\r\n"
    if "b" not in mode and encoding is None:
        encoding = io.text_encoding(encoding, 2)
    return _real_open(file, mode, buffering, encoding, errors, newline, *more, **named)


(_FOLDER / str(os.getpid())).touch()
_real_open, _real_os_open, _real_fsync = io.open, os.open, os.fsync
_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY
builtins.open = io.open = _open
os.open, os.fsync = _os_open, _fsync
os.rename, os.replace = _moving(os.rename, False), _moving(os.replace, True)
os.unlink, os.rmdir = _removing(os.unlink), _removing(os.rmdir)
os.remove = os.unlink
shutil._use_fd_functions = False
for _module, _names in {
    os: "O_DIRECTORY killpg fork forkpty statvfs mkfifo",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGPIPE pthread_sigmask pthread_kill alarm setitimer",
    select: "poll epoll",
}.items():
    for _name in _names.split():
        if hasattr(_module, _name):
            delattr(_module, _name)
signal.SIGBREAK = signal.SIGPROF  # the name that only Windows has
warnings.simplefilter("ignore", EncodingWarning)  # of libraries
warnings.filterwarnings("error", category=EncodingWarning, module=r"gpt2v(\.|$)")
