"""One process at a time works in a folder, and others are told who it is."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpt2v.errors import UserError
from gpt2v.storage.files import write_text
from gpt2v.storage.names import lock_of
from gpt2v.storage.ownership import check_free_inside, owned

HOLD = """
import sys, time
from pathlib import Path
from gpt2v.storage.ownership import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that owns the folder `r`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "r")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()


def refused(path, match):
    with pytest.raises(UserError, match=match), owned(path):
        pytest.fail("was entered")


def test_a_second_process_is_told_who_and_since_when(tmp_path, holder):
    refused(tmp_path / "r", rf"r: is in use by process {holder.pid} since 20\d\d-.* \(gpt2v .*\)")
    with owned(tmp_path / "other"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".r.gpt2v-lock", ".r.gpt2v-owner"]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_owner_owns_nothing(tmp_path, holder, signum):
    holder.send_signal(signum)
    holder.wait()
    assert os.listdir(tmp_path)
    with owned(tmp_path / "r"):
        pass
    assert os.listdir(tmp_path) == []


def test_the_same_folder_by_another_name(tmp_path, holder, monkeypatch):
    (tmp_path / "r").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "to_r").symlink_to("r")
    monkeypatch.chdir(tmp_path / "r")
    for name in ("link/r", "to_r", "../r", ".", "link/r/../r"):
        path = tmp_path / name if "link" in name or "to" in name else Path(name)
        refused(path, f"process {holder.pid}")


def test_a_folder_in_or_around_one_that_is_owned(tmp_path, holder):
    refused(tmp_path / "r" / "a" / "b", rf"/r is in use by process {holder.pid}")
    assert sorted(os.listdir(tmp_path)) == [".r.gpt2v-lock", ".r.gpt2v-owner"]
    with owned(tmp_path), pytest.raises(UserError, match=rf"/r is in use by process {holder.pid}"):
        check_free_inside(tmp_path)


def test_at_most_one_owner_at_a_time(tmp_path):
    """Many threads; each is an owner of its own."""
    inside, most, entered, refusals = [], [], [], []

    def work(number):
        for _ in range(30):
            try:
                with owned(tmp_path / "r"):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.remove(number)
                    entered.append(number)
            except UserError as error:
                refusals.append(str(error))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert max(most) == 1
    assert all("is in use by" in text for text in refusals)
    assert len(entered) >= 6
    assert os.listdir(tmp_path) == []


def test_owners_of_neighbours_do_not_disturb_each_other(tmp_path):
    """Their names begin alike, and one of their parents had an owner that was killed."""
    place = tmp_path / "place"
    place.mkdir()

    def work(name):
        for _ in range(60):
            lock_of(place).touch()
            with owned(place / name):
                write_text(place / name / "x", name)
                time.sleep(0.001)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ["lm", "lm.2", ".lm", "lm.2.x"]))
    assert sorted(os.listdir(place)) == [".lm", "lm", "lm.2", "lm.2.x"]


def test_a_process_may_work_in_its_own_folders(tmp_path):
    with owned(tmp_path / "r"), owned(tmp_path / "r" / "cache" / "key"):
        check_free_inside(tmp_path / "r")


def test_files_of_the_user_with_such_names_stay(tmp_path):
    for name in (".r.lock", ".r.owner", "r.gpt2v-lock"):
        (tmp_path / name).write_text("of the user")
    with owned(tmp_path / "r"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".r.lock", ".r.owner", "r.gpt2v-lock"]


def test_waiting_for_the_owner(tmp_path, capsys):
    order = []
    first_is_in = threading.Event()

    def first():
        with owned(tmp_path / "r"):
            first_is_in.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait()
    with owned(tmp_path / "r", wait=True):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert f"r: waiting for process {os.getpid()} since" in capsys.readouterr().err


def test_folders_above_are_removed_if_they_stay_empty(tmp_path):
    with owned(tmp_path / "a" / "b" / "r"):
        assert (tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path) == []
    with owned(tmp_path / "a" / "b" / "r"):
        (tmp_path / "a" / "b" / "r").mkdir()
    assert (tmp_path / "a" / "b" / "r").is_dir()
    (tmp_path / "mine").mkdir()
    with owned(tmp_path / "mine" / "r"):
        pass
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("file/r", "cannot be written: Not a directory"),
        ("file/a/r", "cannot be written: Not a directory"),
        ("/proc/self/r", "cannot be written"),
        ("/", "root of a disk"),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written(tmp_path, name, match):
    (tmp_path / "file").write_text("")
    refused(tmp_path / name, match)
    assert os.listdir(tmp_path) == ["file"]
