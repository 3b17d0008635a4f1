"""Every example of docs/python.md runs, in order, in an empty folder."""

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import gpt2v

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The variables after the last example, and all figures."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    found: dict = {"figures": [], "printed": []}
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.chdir(folder)
        found["print"] = lambda *values: found["printed"].append(values)
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), found)
            found["figures"].append(found["figure"])
        found["files"] = sorted(path.name for path in folder.iterdir())
        found["runs"] = sorted(path.name for path in (folder / "runs").iterdir())
    return found


def test_the_trainings_return_their_results(names):
    assert (names["lm"].steps, names["mm"].steps) == (50, 5)
    assert names["lm"].checkpoint.name == "step-000050"
    assert names["lm"].seconds > 0
    assert 0 <= names["lm"].validation["text/markdown 1x2_accuracy"] <= 1


def test_the_model_answers(names):
    assert set(names["palette"]) < set(names["answer"].probabilities)
    assert sum(names["answer"].probabilities.values()) == pytest.approx(1)
    shapes = {name: tuple(value.shape) for name, value in names["inputs"].items()}
    assert shapes["pixel_values"] == (1, 3, 96, 96)
    assert shapes["input_ids"] == shapes["attention_mask"] == shapes["position_ids"]
    words = "What object is in row 0, column 1?"
    (asked,) = names["model"].ask(words, sample=names["sample"])
    assert names["model"].tokenizer.decode([names["best"]]).strip() == asked.text


def test_the_attention_has_the_shape_of_the_comment(names):
    rows, cols = names["attention"].cells.shape
    assert names["attention"].weights.shape == (2, 4, rows, cols)
    assert names["attention"].cells[:, : cols // 2].max() == 0
    assert names["attention"].cells[:, cols // 2 :].min() == 1


def test_the_tables_have_a_row_for_each_question(names):
    assert len(names["frame"]) == 2 * 2 * 100
    assert names["records"].num_rows == 2 * 2 * 20
    assert [row["rung"] for row in names["climbed"].rows] == ["R0", "R3", "R4"]
    assert names["climbed"].records is None


def test_the_figures_are_figures(names):
    assert len({id(figure) for figure in names["figures"]}) >= 5
    assert all(isinstance(figure, Figure) for figure in names["figures"])


def test_only_what_was_asked_for_is_on_disk(names):
    assert names["files"] == ["cells.png", "picture.png", "runs"]
    assert names["runs"] == ["lm", "mm", "mm-eval", "one", "two"]


def test_the_mistake_is_that_of_the_comment(names):
    (message,) = names["printed"][-1]
    comment = re.search(r"print\(mistake\)  # (.*)", PAGE.read_text())[1]
    assert str(message).startswith(comment.removesuffix("..."))


def test_every_name_of_the_front_door_is_on_the_page():
    text = PAGE.read_text()
    assert [name for name in gpt2v.__all__ if f"`{name}`" not in text] == []
