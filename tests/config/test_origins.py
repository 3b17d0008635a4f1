"""A message names the file and the key, or the option as it was typed."""

import pytest

from gpt2v.config.load import load
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.option_values import values_of
from gpt2v.config.origins import Option, told, with_origin
from gpt2v.errors import UserError

KEYS = [Option("n_images", "--n-images"), Option("grid", "--grid"), Option("tiles.path", "--path")]
KEYS += [Option("grid.rows", "--grid.rows"), Option("metrics", "--metrics"), "seed"]
KEYS += [Option("projector.size", "--projector.size")]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("n_images: too small", "--n-images: too small"),
        ("tiles.path: a: no such folder", "--path: a: no such folder"),
        ("tiles.size: wrong", "c.yaml: tiles.size: wrong"),
        ("n_images_per: wrong", "c.yaml: n_images_per: wrong"),
        ("seed: wrong", "c.yaml: seed: wrong"),  # not an option
        ("grid.cols: wrong", "--grid: cols: wrong"),
        ("grid.rows: wrong", "--grid.rows: wrong"),
        ("metrics.1: wrong", "--metrics: wrong"),
        ("projector: size: wrong", "--projector.size: wrong"),
        ("projector: no such", "c.yaml: projector: no such"),
        ("grid must be square", "c.yaml: grid must be square"),
    ],
)
def test_the_option_replaces_the_file_and_the_key(message, expected):
    assert with_origin(message, "c.yaml", KEYS) == expected


def test_a_mistake_without_a_file():
    assert with_origin("seed: wrong", "") == "seed: wrong"
    with pytest.raises(UserError, match=r"^--n-images: wrong$"), told("c.yaml", KEYS):
        raise UserError("n_images: wrong")


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("n-images", "0", "--n-images: Input should be greater than or equal to 2, not 0"),
        ("n_images", "0", "--n_images: Input should be greater than or equal to 2, not 0"),
        ("grid.augment.index-bases", "0,2", "--grid.augment.index-bases: Input should be 0 or 1"),
        ("modalities", "text,sound", "--modalities: Input should be 'text', 'image' or"),
        ("tiles.size.x", "1", "--tiles.size.x: no key 'x'"),
        ("n-imgs", "1", "--n-imgs: unknown key; the keys here are tiles, split"),
        ("parts", "a", "--parts: has no meaning here: only a named suite has parts"),
        ("seed", "9" * 30, "--seed: must have at most 64 bits"),
    ],
)
def test_mistakes_of_options_and_of_files(tmp_path, key, text, says):
    file = tmp_path / "c.yaml"
    file.write_text("tiles: {size: 16}\n")
    with pytest.raises(UserError) as caught:
        load(EvalConfig, file, values_of([EvalConfig], [(key, text)]))
    assert str(caught.value).startswith(says)
    file.write_text("n_images: 0\n")
    with pytest.raises(UserError) as caught:
        load(EvalConfig, file, values_of([EvalConfig], [("seed", "1")]))
    assert str(caught.value).startswith(f"{file}: n_images: Input should be")


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("n_images: 0\nseed: -1\n", " (and 1 more mistake)"),
        ("n_images: 0\nseed: -1\nx: 1\n", " (and 2 more mistakes)"),
        ("n_images: 0\n", "2, not 0"),
    ],
)
def test_how_many_mistakes_there_are(tmp_path, text, end):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(EvalConfig, tmp_path / "c.yaml", {})
    assert str(caught.value).endswith(end)
