"""`~` is a home folder, whether a shell has replaced it or not; without a home it is one line."""

import pwd
from pathlib import Path

import pytest

from gpt2v.config.models import FeaturesConfig
from gpt2v.errors import UserError
from gpt2v.features.store import CacheUnavailable, open_features
from gpt2v.paths import expanded, expanded_text, user_cache
from helpers import TINY_LM, picture_folder, refusal, write_yaml


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def homeless(monkeypatch):
    """Neither HOME nor an entry in the list of users, as in some containers."""

    def missing(_):
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", missing)


def test_home_folders(home):
    assert expanded("~/x") == home / "x"
    assert expanded_text("~/x") == str(home / "x")
    assert expanded_text("a/~/x/") == "a/~/x/"
    with pytest.raises(UserError, match=r"^~no-such-user/x: .* ~no-such-user .*no such user$"):
        expanded("~no-such-user/x")


def test_without_a_home(homeless, monkeypatch):
    with pytest.raises(UserError, match=r"^~/x: the home folder ~ is not known: HOME is not set$"):
        expanded("~/x")
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(UserError, match=r"set HOME or XDG_CACHE_HOME$"):
        user_cache()


def test_features_without_a_home(homeless, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME")
    none = (None, None, None, FeaturesConfig())
    assert open_features(*none, make=False) is None
    assert "no cache is used" in capsys.readouterr().err
    with pytest.raises(CacheUnavailable, match="set HOME"):
        open_features(*none, make=True)


def test_a_cache_folder_that_is_not_absolute_is_not_used(home, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/once")
    assert user_cache() == user_cache() == home / ".cache"
    assert capsys.readouterr().err.count("relative/once: is no absolute path") == 1


def test_every_option_for_a_path_knows_home(home, capsys):
    from gpt2v.cli.main import main

    write_yaml(
        home / "c.yaml", {"tiles": {"size": 16}, "grid": {"rows": 1, "cols": 2}, "n_images": 2}
    )
    assert main(["data", "preview", "~/c.yaml", "--n=1", "--png=~/sheet.png"]) == 0
    assert (home / "sheet.png").is_file()
    assert main(["data", "export", "~/c.yaml", "--to=~/e", "--format=folder"]) == 0
    assert (home / "e" / "manifest.json").is_file()
    picture_folder(home / "p", names=("a", "b", "c", "d"))
    words = ["--tiles.source=folder", "--tiles.path=~/p", "--n=1", "--png=b.png"]
    assert main(["data", "preview", "~/c.yaml", *words]) == 0
    capsys.readouterr()
    said = refusal(capsys, "eval", "~/none", "--suite", "~/c.yaml", "--out", "r")
    assert str(home / "none") in said
    for option in ("--out", "--suite"):
        said = refusal(capsys, "eval", "m", f"{option}=~no-such-user/x")
        assert "no such user" in said
    said = refusal(capsys, "data", "suites", "--import", "~no-such-user/x.py")
    assert "no such user" in said
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("path", "fault"), [("~no-such-user/x", "no such user"), ("~/x", "HOME is not set")]
)
@pytest.mark.parametrize("what", ["folder", "cifar10", "corpus", "valid"])
def test_data_in_a_home_folder_that_is_not_known(
    tmp_path, monkeypatch, capsys, homeless, what, path, fault
):
    monkeypatch.chdir(tmp_path)
    if what in ("folder", "cifar10"):
        file = write_yaml(tmp_path / "c.yaml", {"tiles": {"source": what, "path": path}})
        said = refusal(capsys, "data", "preview", file)
    else:
        mix = {"corpus": "a.txt", "context": 8, what: path}
        data = {"batch_size": 4, "stages": [{"steps": 1, "mix": [mix]}]}
        (tmp_path / "a.txt").write_text("the cat saw the dog and the bird\n" * 9)
        train = {k: v for k, v in TINY_LM["train"].items() if k != "eval_grids"}
        file = write_yaml(tmp_path / "lm.yaml", {**TINY_LM, "data": data, "train": train})
        said = refusal(capsys, "data", "tokenize", file, "--out", "r")
    assert f"{path}: the home folder " in said
    assert said.endswith(fault)


@pytest.mark.parametrize("key", ["lm", "encoder", "projector_from"])
def test_models_in_a_home_folder(home, key, capsys):
    from gpt2v.model.found import find_checkpoint

    with pytest.raises(UserError, match=f"{key}: ~/none: no such run"):
        find_checkpoint("~/none", key)
    (home / "m").mkdir()
    with pytest.raises(UserError, match=r"no config\.json here"):
        find_checkpoint("~/m", key)
    with pytest.raises(UserError, match="no such user"):
        find_checkpoint("~no-such-user/m", key)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["eval", "", "--suite", "c.yaml"], "model: is empty"),
        (["eval", "m", "--suite=c.yaml", "--out="], "--out: is empty"),
        (["lm", "train", "c.yaml", "--out", ""], "--out: is empty"),
        (["lm", "train", "c.yaml", "--out=r", "--init="], "init: the path is empty"),
        (
            ["lm", "train", "c.yaml", "--out=r", "--tokenizer.source="],
            "tokenizer.source: the path is empty",
        ),
    ],
)
def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, capsys, words, fault):
    """It comes from a variable of the shell that is not set."""
    monkeypatch.chdir(tmp_path)
    write_yaml(tmp_path / "c.yaml", TINY_LM)
    assert refusal(capsys, *words).endswith(fault)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
