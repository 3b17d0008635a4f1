"""The verdict in every regime, with planted numbers: it names the right thing and nothing else."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2v.report.analysis import Rate
from gpt2v.report.sections.ladder import _meaning
from gpt2v.report.sections.lost import Lost
from gpt2v.report.standing import Standing, is_blind, reads, remark, standing
from gpt2v.report.verdict import Headline, can_locate, headline, sentence, warnings

CHANCE, BLIND, BAG = 0.1, 0.25, 0.43
BASELINES = {"chance": CHANCE, "blind": BLIND, "bag": BAG}


def rate(value: float, half: float = 0.01) -> Rate:
    return Rate(value, (value - half, value + half))


REGIMES = {
    "below chance": (rate(0.05), Standing.BELOW_CHANCE),
    "at chance": (rate(0.1), Standing.AT_CHANCE),
    "below blind": (rate(0.183), Standing.BELOW_BLIND),
    "at blind": (rate(0.25), Standing.AT_BLIND),
    "between": (rate(0.35), Standing.BELOW_BAG),
    "at bag": (rate(0.43), Standing.AT_BAG),
    "above": (rate(0.9), Standing.ABOVE_BAG),
    "few questions": (rate(0.35, 0.2), Standing.UNCLEAR),
    "very few questions": (rate(0.5, 0.5), Standing.UNCLEAR),
    "chance or blind": (rate(0.17, 0.1), Standing.AT_BLIND),
    "bag or above": (rate(0.5, 0.2), Standing.AT_BAG),
}
WORDS = {
    Standing.BELOW_CHANCE: "below chance (10.0%)",
    Standing.AT_CHANCE: "at chance (10.0%)",
    Standing.BELOW_BLIND: "answers worse than without the grid",
    Standing.AT_BLIND: "nothing shows that it reads the grid",
    Standing.BELOW_BAG: "reads something of the grid",
    Standing.AT_BAG: "may know which objects a grid holds, but not where they are",
    Standing.UNCLEAR: "too few questions to tell",
}


@pytest.mark.parametrize("name", REGIMES)
def test_each_regime_has_its_own_words_and_no_others(name: str) -> None:
    value, expected = REGIMES[name]
    assert standing(value, BASELINES) is expected
    said = remark("text", value, BASELINES)
    if expected is Standing.ABOVE_BAG:
        assert said == ""
        return
    own = WORDS[expected]
    assert own in said
    below = (Standing.BELOW_CHANCE, Standing.AT_CHANCE)
    for other, words in WORDS.items():
        if other is not expected and not (
            other is Standing.BELOW_BLIND and expected in below  # both are below blind
        ):
            assert words not in said


def test_the_borders() -> None:
    assert standing(Rate(0.44, (0.4301, 0.45)), BASELINES) is Standing.ABOVE_BAG
    assert standing(Rate(0.44, (0.43, 0.45)), BASELINES) is Standing.AT_BAG
    assert standing(Rate(0.24, (0.2, 0.2499)), BASELINES) is Standing.BELOW_BLIND
    assert standing(Rate(0.24, (0.2, 0.25)), BASELINES) is Standing.AT_BLIND
    assert standing(rate(0.1), {}) is Standing.UNKNOWN
    assert standing(Rate(0.5), BASELINES) is Standing.ABOVE_BAG  # without an interval
    same = {"chance": 0.25, "blind": 0.25, "bag": 0.43}
    assert standing(rate(0.183), same) is Standing.BELOW_CHANCE
    assert "chance" not in remark("text", rate(0.183), same)


def test_what_is_read_and_what_is_blind() -> None:
    assert [name for name, (value, _) in REGIMES.items() if reads(value, BASELINES)] == ["above"]
    blind = {name for name, (value, _) in REGIMES.items() if is_blind(value, BASELINES)}
    assert blind == {"below chance", "at chance", "below blind", "at blind", "chance or blind"}


def head(text: Rate, image: Rate, probe: Rate | None = None, **more: Any) -> Headline:
    gap = rate(text.value - image.value, 0.02)
    return Headline(text, image, None, gap, probe, None, BASELINES, FAMILY, **more)


NAMED = {"model": "gpt2v", "model_name": "GPT-2v", "measures": {}}
RUN: Any = SimpleNamespace(kinds={"eval"}, rows=[], records=None, **NAMED)
SPLITS = ("lost in the projector", "no loss after", "they miss", "no loss before")
FAMILY = [
    {"decoder": name, "site": "pre-projector", "layer": None, "difference": 0.05 + more,
     "ci95": [0.03, 0.1], "below_text": 0.04 - more, "below_text_ci95": [0.01, 0.06]}
    for name, more in (("ridge", 0.0), ("knn", 0.01))
]  # fmt: skip
GAPS = ("a gap of", "no measurable gap", "pictures are ahead")


def holds(said: str, *words: str) -> bool:
    return any(word in said for word in words)


@pytest.mark.parametrize("text", [name for name in REGIMES if name != "above"])
@pytest.mark.parametrize("image", REGIMES)
def test_where_text_is_not_read_nothing_is_attributed(text: str, image: str) -> None:
    one = head(REGIMES[text][0], REGIMES[image][0], rate(0.95))
    said = sentence(one, RUN)
    assert not holds(said, *SPLITS, *GAPS)
    assert not can_locate(one)
    blind = [is_blind(REGIMES[name][0], BASELINES) for name in (text, image)]
    assert ("neither is clearly above the blind baseline (25.0%)" in said) == all(blind)
    assert ("too few questions" in said) == (REGIMES[text][1] is Standing.UNCLEAR)


def test_the_report_of_a_failed_training() -> None:
    """Text 18.3%, below blind: it says so, and does not say that the model knows objects."""
    one = head(rate(0.183), rate(0.085), rate(0.372))
    said = sentence(one, RUN)
    assert "neither is clearly above the blind baseline (25.0%), so no gap can be measured" in said
    assert "objects" not in said


@pytest.mark.parametrize("image", ["below chance", "below blind", "at blind", "between", "at bag"])
def test_where_only_pictures_fail_the_probe_says_where(image: str) -> None:
    one = head(rate(0.99), REGIMES[image][0], rate(0.95))
    said = sentence(one, RUN)
    assert "a gap of" in said
    assert "name 5.0 to 6.0 points more than the model says: lost in the projector or" in said
    assert "they miss 3.0 to 4.0 points of what is answered from text" in said
    assert can_locate(one)


@pytest.mark.parametrize("probe", [name for name in REGIMES if name != "above"])
def test_a_probe_that_finds_nothing_splits_nothing(probe: str) -> None:
    one = head(rate(0.99), rate(0.3), REGIMES[probe][0])
    said = sentence(one, RUN)
    assert "it cannot tell where it is lost" in said
    assert not holds(said, *SPLITS)
    assert not can_locate(one)


def test_without_decoders_beside_the_model_nothing_is_said_of_where() -> None:
    said = sentence(replace(head(rate(0.99), rate(0.9), rate(0.97)), family=()), RUN)
    assert "a gap of 9.0 points." in said
    assert not holds(said, *SPLITS)


def test_too_few_pictures_split_nothing() -> None:
    one = head(rate(0.99), REGIMES["few questions"][0], rate(0.95))
    assert "too few questions were asked to tell where it is lost" in sentence(one, RUN)
    assert not can_locate(one)


def test_gaps() -> None:
    assert "no measurable gap" in sentence(head(rate(0.9), rate(0.9)), RUN)
    assert "pictures are ahead by 9.0 points" in sentence(head(rate(0.9), rate(0.99)), RUN)
    assert "a gap of 9.0 points" in sentence(head(rate(0.99), rate(0.9)), RUN)


def empty_records() -> dict[str, Any]:
    import numpy as np

    names = ("sample", "model", "modality", "instruction", "row", "col", "exact")
    return {name: np.zeros(0, object if name in names[1:4] else int) for name in names}


def test_each_modality_is_warned_of_by_itself_and_the_gpt2_before() -> None:
    run: Any = SimpleNamespace(records=empty_records(), results={}, **NAMED)
    lines = warnings(run, head(rate(0.183), rate(0.43)))
    assert len(lines) == 2
    assert lines[0].startswith("From text, the model is below the blind baseline (25.0%)")
    assert lines[1].startswith("From pictures, the model is not clearly above the bag baseline")
    assert warnings(run, head(rate(0.99), rate(0.9))) == []
    lines = warnings(run, replace(head(rate(0.183), rate(0.9)), lm=rate(0.99)))
    assert "The GPT-2 read text before it got eyes (99.0%): MM-Train has undone it." in lines
    lines = warnings(run, replace(head(rate(0.183), rate(0.9)), lm=rate(0.2)))
    assert not any("undone" in line for line in lines)


def test_what_was_never_trained_is_on_the_page() -> None:
    results = {"not_as_trained": ["text: size 4x4", "text: form csv"]}
    run: Any = SimpleNamespace(records=empty_records(), results=results, **NAMED)
    lines = warnings(run, head(rate(0.99), rate(0.9)))
    assert lines == ["Not as in training: text: size 4x4; text: form csv."]


def row(modality: str, accuracy: float, **more: Any) -> dict[str, Any]:
    baselines = {"chance": 0.25, "blind_accuracy": 0.25, "bag_accuracy": 0.43}
    return {"model": "gpt2v", "modality": modality, "accuracy": accuracy, **baselines, **more}


def test_baselines_and_gap_are_those_of_the_rates_that_are_shown() -> None:
    """Other instructions are in the same results."""
    counts = row("text", 0.5, instruction="count", blind_accuracy=0.6, bag_accuracy=1.0)
    rows = [counts, row("text", 0.99), row("image", 0.9)]
    results = {"gap": 0.3, "gap_ci95": [0.2, 0.4]}
    run: Any = SimpleNamespace(rows=rows, probe=[], results=results, **NAMED)
    shown = headline(run)
    assert shown.baselines == {"chance": 0.25, "blind": 0.25, "bag": 0.43}
    assert shown.gap == Rate(pytest.approx(0.09))
    run.results = {"gap": 0.09, "gap_ci95": [0.05, 0.12]}
    assert headline(run).gap == Rate(0.09, (0.05, 0.12))


RUNGS = [{"name": name, "accuracy": 0.9, "ci95": [0.88, 0.92]} for name in ("text", "x", "picture")]


def test_what_the_steps_of_a_ladder_show() -> None:
    assert _meaning(RUNGS, BASELINES).startswith("The step at which accuracy falls")
    assert "Only one rung" in _meaning(RUNGS[:1], BASELINES)
    assert "The picture was not measured" in _meaning(RUNGS[:2], BASELINES)
    assert "The text was not measured" in _meaning(RUNGS[1:], BASELINES)
    failed = [{**RUNGS[0], "accuracy": 0.2, "ci95": [0.1, 0.3]}, *RUNGS[1:]]
    assert "do not show where reading gets hard" in _meaning(failed, BASELINES)


def test_where_it_is_lost_is_left_out_if_text_is_not_read() -> None:
    rates = {"accuracy": 0.9, "palette_accuracy": 0.95, "palette_ci95": [0.94, 0.96]}
    probe = [{"cell": "all", **rates}]

    def run(text: float) -> Any:
        rows = [row("text", text, ci95=[text - 0.01, text + 0.01]), row("image", 0.3)]
        return SimpleNamespace(
            **NAMED, rows=rows, probe=probe, results={}, records=empty_records(), probe_records=None
        )

    assert Lost().content(run(0.183)) is None
    shown = Lost().content(run(0.99))
    assert shown is not None
    assert shown["lost"]["points"] is None
    beside = {**NAMED, "measures": {"beside": FAMILY}}
    sited = [{**probe[0], "site": "pre-projector", "layer": None}]
    shown = Lost().content(SimpleNamespace(**{**vars(run(0.99)), **beside, "probe": sited}))
    assert shown is not None
    rows = shown["lost"]["points"].values.rows
    assert [tuple(row) for row in rows][1] == (
        "ridge \N{MINUS SIGN} pictures",
        "5.0",
        "3.0 to 10.0",
    )
    assert shown["family"].startswith("2 decoders at the projector's input name 5.0 to 6.0")


def test_a_gpt2_alone_is_warned_of_too() -> None:
    run: Any = SimpleNamespace(
        kinds={"eval"}, rows=[], records=empty_records(), results={}, **NAMED
    )
    alone = Headline(None, None, rate(0.183), None, None, None, BASELINES)
    assert sentence(alone, run) == "Cells named correctly: 18.3% from text."
    assert [line[:50] for line in warnings(run, alone)] == [
        "From text, the model is below the blind baseline (25.0%)"[:50]
    ]
    both = replace(head(rate(0.99), rate(0.9)), lm=rate(0.183))
    assert warnings(run, both) == []  # it is not what is measured


def test_grids_of_the_training_are_not_called_new() -> None:
    rows = [row("text", 0.99, split="train"), row("image", 0.9, split="train")]
    run: Any = SimpleNamespace(records=empty_records(), results={"results": rows}, **NAMED)
    (line,) = warnings(run, head(rate(0.99), rate(0.9)))
    assert "train split, which are not held out" in line
    for held_out in rows:
        held_out["split"] = "test"
    assert warnings(run, head(rate(0.99), rate(0.9))) == []
