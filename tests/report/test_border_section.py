"""The section about patch borders says what its rows show, of its own part only."""

from types import SimpleNamespace

import pytest

from gpt2v.report.sections.patch_borders import PatchBorders


def row(modality="image", part="p", difference=0.1, ci95=(0.05, 0.15), pure=(1.0, 0.5)):
    groups = [{"pure": s, "n_cells": 2, "accuracy": 0.5, "ci95": [0.4, 0.6]} for s in pure]
    return {
        "model": "gpt2v", "modality": modality, "part": part, "instruction": "matrix",
        "rows": [[0, 8], [8, 16]], "cols": [[0, 8], [8, 16]], "accuracy": [[0.5, 0.25], [1, 0.75]],
        "pure": [[1.0, 0.5], [0.5, 1.0]], "n_images": 9, "by_pure": groups,
        "difference": difference, "difference_ci95": ci95,
    }  # fmt: skip


def content_of(*rows, part=""):
    results = {"vision": {"image_size": 16, "patch_size": 4}, "patch_borders": list(rows)}
    section = PatchBorders()
    section.name = "patch-borders"
    return section.content(SimpleNamespace(results=results, part=part))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "Image: the purest cells are read better than the rest: 10.0 points (5.0 to 15.0)."),
        ({"difference": -0.1, "ci95": (-0.2, -0.01)}, "read worse than the rest: −10.0 points"),
        ({"ci95": (-0.05, 0.25)}, "no difference between the purest cells and the rest is shown"),
        ({"difference": None, "ci95": None}, "all cells are read, or none"),
        ({"pure": (1.0,)}, "no border cuts a cell (100.0% of each"),
        ({"pure": (0.25,)}, "borders cut all cells alike (25.0% of each"),
    ],
)
def test_each_relation_has_its_sentence(changes, says):
    content = content_of(row(**changes))
    (sentence,) = content["sentences"]
    assert says in sentence
    assert len(content["charts"]) == len(changes.get("pure", (1, 2))) - 1


def test_text_is_a_control_without_borders():
    content = content_of(row("text", pure=(1.0,)), row(pure=(1.0,)))
    assert content["has_text"]
    assert len(content["sentences"]) == 1
    text, image = (chart.svg for chart in content["maps"])
    assert "4 by 4 patches" in image
    assert "patches" not in text
    assert image.count("<path") > text.count("<path")


def test_a_part_shows_its_own_rows_only():
    rows = [row(part="p"), row(part="q"), row(modality="text+image", part="q")]
    assert len(content_of(*rows, part="p")["maps"]) == 1
    titles = [chart.title for chart in content_of(*rows)["maps"]]
    assert titles == ["p, image", "q, image", "q, text+image"]
    assert content_of(*rows, part="r") is None
    assert content_of() is None
