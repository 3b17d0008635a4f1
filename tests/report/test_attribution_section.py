"""The section on wrong answers, and a verdict that says no more than every decoder does."""

import html
import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt2v.errors import UserError
from gpt2v.probing.beside import at_site
from gpt2v.report import write_report
from gpt2v.report.family import family_words
from gpt2v.report.read import load_run
from gpt2v.report.sections.attribution import Attribution, diagnosis_sentence
from gpt2v.report.verdict import headline, sentence
from gpt2v.run_layout import mark

TESTED = {"n_questions": 90, "excess": 0.25, "ci95": [0.2, 0.3], "p": 0.001, "p_holm": 0.004}


def share(of: str, by: str, category: str, value: float) -> dict[str, Any]:
    row = {"of": of, "by": by, "category": category, "share": value, "n": int(100 * value)}
    return {**row, "n_of": 100, "ci95": [value - 0.01, value + 0.01]}


def decoder(name: str, difference: float, half: float = 0.01, **changes: Any) -> dict[str, Any]:
    row = {"site": "pre-projector", "layer": -1, "decoder": name, "palette_accuracy": 0.98}
    row |= {"model_accuracy": 0.965, "text_accuracy": 0.999, "difference": difference}
    row |= {"ci95": [difference - half, difference + half], "p": 0.01, "p_holm": 0.02}
    row |= {"below_text": 0.034 - difference, "n_images": 60, "n_questions": 540}
    row["below_text_ci95"] = [0.034 - difference - half, 0.034 - difference + half]
    return {**row, **changes}


MEASURES: dict[str, Any] = {
    "attribution": {
        "shares": [
            share("all", "answer", "wrong", 0.04),
            share("wrong", "why", "text-fails-too", 0.1),
            share("wrong", "why", "not-found", 0.3),
            share("wrong", "why", "found-misread", 0.6),
            share("wrong", "what", "wrong-cell", 0.7),
            share("wrong", "what", "wrong-object", 0.2),
            share("wrong", "what", "not-listed", 0.1),
        ],
        "displacements": [
            {"down": down, "right": right, **TESTED, "excess": 0.4 if right < 0 else -0.02}
            for down in (-1, 0, 1)
            for right in (-2, -1, 1)
        ],
        "confusions": [{"truth": "cat", "said": "dog", **TESTED}],
        "diagnoses": [{"diagnosis": "reads-neighbour", "down": 0, "right": -1, **TESTED}],
    },
    "beside": [decoder("ridge", 0.015), decoder("knn", 0.012), decoder("any", 0.03)],
}


def section_of(measures: dict[str, Any]) -> Any:
    section = Attribution()
    section.name = "attribution"
    return section.content(SimpleNamespace(measures=measures))  # type: ignore[arg-type]


@pytest.fixture
def demo(made: Path, tmp_path: Path) -> Path:
    """The invented demo, whose probe has measured more."""
    run = shutil.copytree(made, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    with_measures(run / "probe", MEASURES)
    return run


def with_measures(folder: Path, measures: Any) -> None:
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "measures": measures}))


def test_a_demo_shows_what_its_probe_has_measured(demo: Path) -> None:
    page = write_report(demo).read_text()
    section = page.split('<section id="attribution">')[1].split("</section>")[0]
    assert "Reads the object 1 column to the left 25.0 points more frequently" in section
    for shown in ("Wrong answers about pictures, 100 questions", "60.0%", "59.0% to 61.0%"):
        assert shown in section
    for shown in ("40.0", "\N{MINUS SIGN}2.0", "cat", "dog", "knn", "majority", "pre-projector.-1"):
        assert shown in section
    words = "2 decoders at the projector's input name 1.2 to 1.5 points more than the model says"
    after = f"{words}: lost in the projector or the language model"
    page = html.unescape(page)
    assert f"; {after}; they miss 1.9 to 2.2 points of what is answered from text, because" in page
    lost = page.split('<section id="lost">')[1].split("</section>")[0]
    assert f"<p>{words}" in lost
    for shown in ("text \N{MINUS SIGN} ridge", "knn \N{MINUS SIGN} pictures"):
        assert shown in lost


def test_a_run_of_a_probe_shows_its_own(demo: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(demo / "probe", tmp_path / "probe")
    mark(folder)
    page = write_report(folder).read_text()
    assert '<section id="attribution">' in page


def test_without_measures_there_is_no_section_and_the_verdict_is_as_before(made: Path) -> None:
    run = load_run(made)
    assert run.measures == {}
    assert section_of({}) is None
    head = headline(run)
    assert list(head.family) == []
    assert sentence(head, run).endswith("a gap of 2.8 points.")


def test_only_pairs_beyond_chance_are_shown() -> None:
    tables = deepcopy(MEASURES["attribution"])
    rows = tables["confusions"]
    rows += [{**rows[0], "said": "bird", "p_holm": 0.06}, {**rows[0], "said": "ship", "excess": -1}]
    shown = section_of({"attribution": tables})["confusions"].rows
    assert [row[:2] for row in shown] == [("cat", "dog")]
    tables["confusions"] = rows[1:]
    assert section_of({"attribution": tables})["confusions"] is None


def test_the_map_has_each_excess_at_its_place() -> None:
    content = section_of(MEASURES)
    rows = [line[1:] for line in content["map"].values.rows]
    assert np.array(rows).shape == (3, 5)
    assert rows[0] == ("40.0", "40.0", "", "\N{MINUS SIGN}2.0", "")
    assert len(content["bars"]) == 2
    assert content["bars"][0].values.heads == ("", "share", "95% interval")
    assert "1 row up and 1 column to the left" in content["beyond"]
    assert len(content["beyond"]) == 6  # all to the left
    only = section_of({"beside": MEASURES["beside"]})
    assert only["map"] is None
    assert only["bars"] == only["diagnoses"] == []
    assert len(only["beside"].rows) == 3


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("none", {}, "No fault is named: 90 wrong answers about pictures show none"),
        ("reads-neighbour", {"down": -2, "right": 1}, "2 rows up and 1 column to the right"),
        ("ignores-rows", {}, "Does not tell rows apart: it says objects of the same column"),
        ("ignores-columns", {}, "columns apart: it says objects of the same row 25.0"),
        ("confuses-classes", {"classes": ["a", "b"]}, "Takes a for b in place of other"),
        ("blurs-class", {"class": "a", "where": "encoder"}, "it is behind already there"),
        (
            "blurs-class",
            {"class": "a", "where": "reading"},
            "in the projector or the language model",
        ),
        ("blurs-class", {"class": "a", "where": "not told"}, "do not tell where"),
    ],
)
def test_each_fault_has_its_sentence(name: str, row: dict[str, Any], says: str) -> None:
    said = diagnosis_sentence({**TESTED, **row, "diagnosis": name})
    assert says in said
    assert ("95% interval 20.0 to 30.0, p after Holm 0.004" in said) == (name != "none")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([decoder("a", 0.02), decoder("b", 0.03)], "name 2.0 to 3.0 points more than the model"),
        ([decoder("a", 0.02), decoder("b", 0.005)], "no loss after the projector's input can be"),
        ([decoder("a", 0.02), decoder("b", -0.02)], "2 decoders at the projector's input differ"),
        (
            [decoder("a", -0.03), decoder("b", -0.02)],
            "the model is 2.0 to 3.0 points ahead of 2",
        ),
        ([decoder("a", -0.03)], "ahead of one decoder at the projector's input; it misses 6.4"),
    ],
)
def test_reading_is_said_only_where_every_decoder_agrees(rows: list[Any], says: str) -> None:
    said = family_words(rows)
    assert says in said
    assert ("lost in the projector or the language model" in said) == all(
        row["ci95"][0] > 0 for row in rows
    )


def test_a_loss_in_the_encoder_needs_every_decoder() -> None:
    assert "no loss before can be told" in family_words([decoder("a", 0.02), decoder("b", 0.03)])
    assert "they miss 1.4 to 5.4 points of what is answered from text" in family_words(
        [decoder("a", 0.02), decoder("b", -0.02)]
    )


def test_the_decoders_are_those_of_the_probe_s_site() -> None:
    other = decoder("ridge", -0.5, site="pixels", layer=None)
    rows = [other, *MEASURES["beside"]]
    assert [row["decoder"] for row in at_site(rows, "pre-projector", -1)] == ["ridge", "knn"]
    assert at_site(rows, "pixels", None) == [other]
    assert at_site(rows, "vision", 1) == []
    assert at_site([], "vision", 1) == []


def test_a_verdict_without_a_readable_probe_stays(demo: Path) -> None:
    run = load_run(demo)
    head = replace(headline(run), probe=None)
    assert "decoders" not in sentence(head, run)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("attribution.shares.0.share", None, "shares[0].share: must be a number, not None"),
        ("attribution.shares.0.ci95", [1], "shares[0].ci95: must be two numbers, not [1]"),
        ("attribution.shares", {}, "attribution.shares: must be a list of rows"),
        ("attribution.displacements.0.down", 0.5, "displacements[0].down: must be a whole number"),
        ("attribution.displacements.0.down", 10**6, "down: must be a whole number"),
        ("attribution.confusions.0.truth", 3, "confusions[0].truth: must be text, not 3"),
        ("attribution.diagnoses.0.diagnosis", "bad luck", "diagnosis: must be one of none,"),
        ("attribution.diagnoses.0.right", "x", "diagnoses[0].right: must be a whole number"),
        ("attribution", [], "measures.attribution: must be a mapping"),
        ("beside.0.difference", float("nan"), "beside[0].difference: must be a number"),
        ("beside.1.layer", "x", "beside[1].layer: must be a number, or null"),
        ("beside", "x", "measures.beside: must be a list of rows"),
    ],
)
def test_a_value_that_does_not_fit_is_named(demo: Path, path: str, value: Any, says: str) -> None:
    measures: Any = deepcopy(MEASURES)
    node, *parts = measures, *path.split(".")
    for part in parts[:-1]:
        node = node[int(part) if part.isdigit() else part]
    node[int(parts[-1]) if parts[-1].isdigit() else parts[-1]] = value
    with_measures(demo / "probe", measures)
    with pytest.raises(UserError) as error:
        load_run(demo)
    assert str(error.value).startswith(f"{demo / 'probe' / 'results.json'}: measures.")
    assert says in str(error.value)


def test_a_missing_key_and_other_measures(demo: Path) -> None:
    measures = deepcopy(MEASURES)
    del measures["beside"][1]["ci95"]
    with_measures(demo / "probe", measures)
    with pytest.raises(UserError, match=r"measures.beside\[1\]: has no key 'ci95'"):
        load_run(demo)
    with_measures(demo / "probe", {"own": [1]})
    assert load_run(demo).measures == {"own": [1]}
    with_measures(demo / "probe", [1])
    with pytest.raises(UserError, match="measures: must be a mapping"):
        load_run(demo)
