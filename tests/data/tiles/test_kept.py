"""The cache of tiles: made once, verified, made again if damaged, and not needed."""

import shutil

import numpy as np
import pytest
from PIL import Image

import helpers
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles import folder as folder_module
from gpt2v.data.tiles import kept as kept_module
from gpt2v.data.tiles.kept import kept
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.storage.manifest import MANIFEST

ARRAYS = {
    "pixels": np.arange(600 * 48, dtype=np.uint8).reshape(600, 4, 4, 3),
    "looks": np.arange(9),
}
SPRITES = TilesConfig(per_class=10, size=8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache that keeps banks of any size; returns the folder of its entries."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_module, "FEWEST", 1)
    return tmp_path / "cache" / "gpt2v" / "tiles"


def counted(arrays=ARRAYS):
    """A function that makes arrays, and a list of its calls."""
    calls = []

    def make():
        calls.append(1)
        return arrays

    return make, calls


def check(arrays):
    assert sorted(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_arrays_are_made_once_for_each_content(cache):
    make, calls = counted()
    for content in ("a", "a", "b", "a"):
        check(kept(content, 600, 4, make))
    assert len(calls) == 2
    assert len([entry for entry in cache.iterdir() if not entry.name.startswith(".")]) == 2


@pytest.mark.parametrize("fault", ["changed", "cut", "missing", "no manifest", "no folder"])
def test_a_damaged_entry_is_made_again(cache, fault, capsys):
    make, calls = counted()
    kept("a", 600, 4, make)
    (entry,) = cache.iterdir()
    file = entry / "pixels.npy"
    content = file.read_bytes()
    if fault == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif fault == "cut":
        file.write_bytes(content[:-1])
    elif fault == "missing":
        file.unlink()
    elif fault == "no manifest":
        (entry / MANIFEST).unlink()
    else:
        shutil.rmtree(entry)
    check(kept("a", 600, 4, make))
    check(kept("a", 600, 4, make))
    assert len(calls) == 2
    said = capsys.readouterr().err
    assert said.endswith("; making it again\n") or fault == "no folder"


def test_without_a_cache_that_can_be_written_tiles_are_made_each_time(cache, capsys):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    make, calls = counted()
    for _ in range(2):
        check(kept("a", 600, 4, make))
    assert len(calls) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("; they are not kept") for line in lines)


def test_a_mistake_in_the_tiles_is_told_once_and_nothing_is_kept(cache, capsys):
    calls = []

    def make():
        calls.append(1)
        raise UserError("tiles.path: f: damaged")

    with pytest.raises(UserError, match=r"^tiles\.path: f: damaged$"):
        kept("a", 600, 4, make)
    assert (calls, capsys.readouterr().err) == ([1], "")
    assert not list(cache.glob("*"))


def test_small_and_huge_banks_are_not_kept(cache, monkeypatch):
    monkeypatch.setattr(kept_module, "FEWEST", 601)
    make, calls = counted()
    check(kept("a", 600, 4, make))
    monkeypatch.setattr(kept_module, "FEWEST", 600)
    monkeypatch.setattr(kept_module, "MOST_BYTES", 600 * 48 - 1)
    check(kept("a", 600, 4, make))
    assert len(calls) == 2
    assert not cache.exists()


def test_kept_sprites_are_the_drawn_ones(cache, monkeypatch):
    drawn = load_bank(SPRITES)
    pixels = np.array(drawn.splits["test"].pixels)

    def refuse(*_):
        raise AssertionError("sprites were drawn")

    monkeypatch.setattr("gpt2v.data.tiles.load.sprites.draw_sprites", refuse)
    again = load_bank(SPRITES)
    np.testing.assert_array_equal(again.splits["test"].pixels, pixels)
    with pytest.raises(AssertionError, match="sprites were drawn"):  # of a split not seen before
        again.splits["val"].pixels  # noqa: B018
    with pytest.raises(AssertionError, match="sprites were drawn"):
        load_bank(TilesConfig(per_class=10, size=8, seed=1)).splits["test"].pixels  # noqa: B018


@pytest.mark.parametrize("decode", ["once", "on-the-fly"])
def test_a_folder_that_stays_as_it_is_is_decoded_once(cache, decode, tmp_path, monkeypatch):
    root = helpers.picture_folder(tmp_path / "f")
    config = TilesConfig(source="folder", path=str(root), size=8, decode=decode)
    decoded = []
    original = folder_module.decode

    def counting(blob, size):
        decoded.append(1)
        return original(blob, size)

    monkeypatch.setattr(folder_module, "decode", counting)
    first = load_bank(config)
    assert len(decoded) == 18
    root = root.rename(tmp_path / "moved")
    moved = load_bank(config.model_copy(update={"path": str(root)}))
    assert len(decoded) == 18
    assert helpers.hashes_of(moved) == helpers.hashes_of(first)
    for split, own in moved.splits.items():
        assert all(source.startswith(str(root)) for source in own.sources)
        if decode == "once":
            np.testing.assert_array_equal(own.pixels, first.splits[split].pixels)
    Image.new("RGB", (8, 8), "red").save(root / "ant" / "0.png")
    changed = load_bank(config.model_copy(update={"path": str(root)}))
    assert len(decoded) == 36
    assert helpers.hashes_of(changed) != helpers.hashes_of(first)


def test_a_folder_with_damaged_files_is_not_kept(cache, tmp_path, capsys):
    root = helpers.picture_folder(tmp_path / "f")
    (root / "ant" / "x.png").write_bytes(b"no picture")
    config = TilesConfig(source="folder", path=str(root), size=8, corrupt="skip")
    for _ in range(2):
        assert load_bank(config).counts.sum() == 18
        assert "left out 1 picture of 19" in capsys.readouterr().err
    helpers.wrong_tiles(config.model_copy(update={"corrupt": "refuse"}), "x.png")
    assert not list(cache.glob("*"))
