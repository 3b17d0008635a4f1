"""The headline figures of a run, the verdict in one sentence, and warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpt2v.probing.beside import at_site
from gpt2v.report.analysis import Rate, lookups
from gpt2v.report.checked import Row
from gpt2v.report.family import family_words
from gpt2v.report.read import Run
from gpt2v.report.standing import Standing, is_blind, reads, remark, standing
from gpt2v.report.words import difference_sentence, language_sentence, percent, points

SAME = 5e-4  # files that differ by less agree: the page does not show such a difference


@dataclass(frozen=True)
class Headline:
    """The figures at the top of the page; None for a figure that the run did not measure."""

    text: Rate | None
    image: Rate | None
    lm: Rate | None  # the GPT-2 before MM-Train, on text
    gap: Rate | None  # text minus pictures
    probe: Rate | None  # linear probe that chooses among the palette
    probe_ten_way: Rate | None  # linear probe that chooses among all classes
    baselines: dict[str, float] = field(default_factory=dict)
    family: Sequence[Row] = ()  # the decoders at the site of the probe, beside the model


def headline(run: Run) -> Headline:
    """The headline figures from the run's files."""
    results = run.results
    text = _model_rate(run, run.model, "text", "text_accuracy")
    image = _model_rate(run, run.model, "image", "image_accuracy")
    probe, ten_way = _probe_rates(run)
    keys = ((run.model, "text"), (run.model, "image"), ("lm", "text"))
    own = next(filter(None, (_row(run, *key) for key in keys)), run.rows[0] if run.rows else {})
    names = {"chance": "chance", "blind": "blind_accuracy", "bag": "bag_accuracy"}
    baselines = {name: results.get(key, own.get(key)) for name, key in names.items()}
    return Headline(
        text=text,
        image=image,
        lm=_model_rate(run, "lm", "text", "lm_text_accuracy"),
        gap=_gap(results, text, image),
        probe=probe,
        probe_ten_way=ten_way,
        baselines={name: float(value) for name, value in baselines.items() if value is not None},
        family=at_site(run.measures.get("beside", []), *_site(run)),
    )


def _model_rate(run: Run, model: str, modality: str, key: str) -> Rate | None:
    """The accuracy at the top level of results.json, with the interval of its row."""
    top, row = run.results.get(key), _row(run, model, modality)
    if row is not None:
        return Rate(row["accuracy"] if top is None else top, _interval(row, "ci95"))
    return None if top is None else Rate(top)


def _row(run: Run, model: str, modality: str) -> Row | None:
    """The first row with a model's look-ups in one modality."""
    usual = {"instruction": "lookup", "questions": "independent"}
    for row in run.rows:
        if "accuracy" not in row:  # of a comparison
            continue
        completed = {"model": "gpt2v", **usual, **row}
        if {**completed, **usual, "model": model, "modality": modality} == completed:
            return row
    return None


def _gap(results: Row, text: Rate | None, image: Rate | None) -> Rate | None:
    """Text minus pictures, of these two rates; results.json's gap may be over more questions."""
    gap = results.get("gap")
    if not (text and image):
        return None if gap is None else Rate(gap, _interval(results, "gap_ci95"))
    difference = text.value - image.value
    if gap is None or abs(gap - difference) >= SAME:
        return Rate(difference)
    return Rate(gap, _interval(results, "gap_ci95"))


def probe_row(run: Run) -> Row | None:
    """The probe's main row: all cells, no control, the first site."""
    for row in run.probe:
        if row["cell"] == "all" and row.get("control", "none") in ("none", None):
            return row
    return None


def _site(run: Run) -> tuple[str | None, int | None]:
    """The site and the layer of the probe's main row."""
    row = probe_row(run) or {}
    return row.get("site"), row.get("layer")


def _probe_rates(run: Run) -> tuple[Rate | None, Rate | None]:
    """The probe's (palette-restricted, ten-way) accuracy over all cells."""
    row = probe_row(run) or {}
    palette = row.get("palette_accuracy", run.results.get("probe_palette_accuracy"))
    ten_way = row.get("accuracy", run.results.get("probe_accuracy"))
    return (
        None if palette is None else Rate(palette, _interval(row, "palette_ci95")),
        None if ten_way is None else Rate(ten_way, _interval(row, "ci95")),
    )


def _interval(row: Row, key: str) -> tuple[float, float] | None:
    pair = row.get(key)
    return (float(pair[0]), float(pair[1])) if pair else None


TITLES = {
    "probe": "What a linear probe finds in the encoder",
    "ladder": "The ladder from words to pixels",
    "encoder": "Training of an encoder",
    "lm": "Training of a language model",
    "mm": "Training of a GPT-2v",
    "compare": "The same questions, answered by two",
    "language": "Language without grids",
    "text-compare": "The same text, read by two",
}


def title(run: Run) -> str:
    """The heading of a run."""
    if "eval" in run.kinds:
        shown = {row["modality"] for row in run.rows}
        both = "The same grids, as text and as pictures"
        words = {"text": "Grids as text", "image": "Grids as pictures"}
        name = words.get(min(shown), "Grids") if len(shown) == 1 else both
        return f"{name}: {run.part}" if run.part else name
    return TITLES.get(run.kind, f"Results: {run.kind}")


def sentence(head: Headline, run: Run) -> str:
    """The verdict: the gap between the modalities, and where accuracy is lost."""
    if "eval" in run.kinds and not (head.text or head.image or head.lm):  # other instructions
        parts = [
            f"{percent(r['accuracy'])} {r.get('instruction')}, {r['modality']}" for r in run.rows
        ]
        return f"Questions answered exactly: {'; '.join(parts)}."
    if "eval" not in run.kinds:
        return _of_rows(run)
    if not head.text or not head.image or not head.gap:
        lm = "text, before eyes" if head.text or head.image else "text"
        rates = [("text", head.text), ("pictures", head.image), (lm, head.lm)]
        parts = [f"{percent(rate.value)} from {name}" for name, rate in rates if rate]
        return f"Cells named correctly: {', '.join(parts) or 'not measured'}."
    accuracies = (
        f"{run.model_name} names {percent(head.text.value)} of the cells from text and "
        f"{percent(head.image.value)} from pictures of the same grids"
    )
    if unread := _unread_words(head.text, head.image, head.baselines):
        return f"{accuracies}; {unread}."
    return f"{accuracies}, {_gap_words(head.gap)}{_loss_words(head)}."


def _unread_words(text: Rate, image: Rate, baselines: Mapping[str, float]) -> str:
    """Why the gap says nothing about pictures: text itself is not read. Empty if it is read."""
    if reads(text, baselines):
        return ""
    blind = percent(baselines["blind"])
    if is_blind(text, baselines) and is_blind(image, baselines):
        return f"neither is clearly above the blind baseline ({blind}), so no gap can be measured"
    why = {
        Standing.UNCLEAR: "too few questions were asked to tell whether text is read",
        Standing.BELOW_BAG: "text is above blind, but below the bag baseline",
        Standing.AT_BAG: "text is not clearly above the bag baseline",
    }.get(standing(text, baselines), f"text is not clearly above the blind baseline ({blind})")
    return f"{why}, so the difference says nothing about pictures"


def _of_rows(run: Run) -> str:
    """The verdict of a run without an evaluation."""
    if "probe" in run.kinds and (row := probe_row(run)):
        found = f"A linear probe names {percent(row['accuracy'])} of the cells, of all classes"
        family = at_site(run.measures.get("beside", []), *_site(run))
        return f"{found}; {family_words(family)}." if family else f"{found}."
    if run.kind == "compare":
        return " ".join(difference_sentence(row) for row in run.rows if row["by"] == "all")
    if run.kind in ("language", "text-compare"):
        return language_sentence(run.rows)
    if run.ladder:
        ends = [run.ladder[0], run.ladder[-1]][: len(run.ladder)]
        rates = " and ".join(f"{percent(row['accuracy'])} on {row['rung']}" for row in ends)
        return f"Cells named correctly: {rates}."
    scores = [
        f"{percent(value)} {key.removesuffix('accuracy').strip('_ ').replace('_', '-')}"
        for row in run.rows[:1]
        for key, value in row.items()
        if key.endswith("accuracy") and isinstance(value, float)
    ]
    if scores:
        return f"Accuracy on held-out grids: {', '.join(scores)}."
    return f"Rows of results: {len(run.rows)}."


def _gap_words(gap: Rate) -> str:
    if gap.ci and gap.ci[0] <= 0 <= gap.ci[1]:
        return f"which is no measurable gap ({points(gap.value)} points)"
    if gap.value < 0:
        return f"so pictures are ahead by {points(-gap.value)} points"
    return f"a gap of {points(gap.value)} points"


def can_locate(head: Headline) -> bool:
    """Whether a probe can tell where accuracy on pictures is lost.

    Text has to be read: else the language model fails at the task, whatever it is shown.
    """
    if head.probe is None or head.image is None:
        return False
    if head.text is not None and not reads(head.text, head.baselines):
        return False
    known = (Standing.ABOVE_BAG, Standing.UNKNOWN)
    few = standing(head.image, head.baselines) is Standing.UNCLEAR
    return not few and standing(head.probe, head.baselines) in known


def _loss_words(head: Headline) -> str:
    """Where the accuracy on pictures is lost; text is read."""
    image, probe = head.image, head.probe
    if image is None or probe is None or image.value >= 1:
        return ""
    if not can_locate(head):
        if standing(image, head.baselines) is Standing.UNCLEAR:
            return "; too few questions were asked to tell where it is lost"
        return (
            f"; a linear probe of the encoder ({percent(probe.value)}) is not clearly above the "
            "bag baseline, so it cannot tell where it is lost"
        )
    return f"; {family_words(head.family)}" if head.family else ""


def warnings(run: Run, head: Headline) -> list[str]:
    """What a reader must know to judge the figures."""
    alone = head.lm if head.image is None else None  # a GPT-2
    named = (("text", head.text or alone), ("pictures", head.image))
    messages = [
        words for name, rate in named if rate and (words := remark(name, rate, head.baselines))
    ]
    if head.text and head.lm and reads(head.lm, head.baselines):
        kept = (Standing.ABOVE_BAG, Standing.UNKNOWN, Standing.UNCLEAR)
        if standing(head.text, head.baselines) not in kept:
            messages.append(
                f"The GPT-2 read text before it got eyes ({percent(head.lm.value)}): MM-Train has "
                "undone it."
            )
    if any(row.get("split") == "train" for row in run.results.get("results", ())):
        messages.append(
            "These are grids of the train split, which are not held out: the figures say nothing "
            "about new grids."
        )
    if unlike := run.results.get("not_as_trained"):
        messages.append(f"Not as in training: {'; '.join(map(str, unlike))}.")
    own = {(run.model, "text"): head.text, (run.model, "image"): head.image}
    rates = {**own, ("lm", "text"): head.lm}
    for (model, modality), rate in rates.items():
        table = lookups(run.records, model, modality)
        if rate and len(table["sample"]):
            counted = float(table["exact"].mean())
            if abs(counted - rate.value) >= SAME:
                messages.append(
                    f"results.json says {percent(rate.value)} for {model} on {modality}, "
                    f"the records say {percent(counted)}."
                )
    return messages
