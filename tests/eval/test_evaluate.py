"""Evaluation: records, rows and baselines, each compared with a count by hand."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import helpers
from gpt2v.cli.main import main
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.config.load import load
from gpt2v.config.measuring import EvalConfig
from gpt2v.curriculum.validation import validate
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import TextView
from gpt2v.data.stream import Stream
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import evaluate, evaluate_model, evaluation_data
from gpt2v.eval.gap import gap_of
from gpt2v.eval.metrics import columns_read
from gpt2v.eval.series import Part, ScoredModel, Series
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer, score, score_all
from gpt2v.registry import METRICS

GRID = HeldOutGridConfig(rows=1, cols=2)
LARGE = HeldOutGridConfig(rows=16, cols=16, questions=1)
CONFIG = EvalConfig.model_validate(
    {"tiles": helpers.TINY_TILES, "grid": GRID, "n_images": 70, "examples": 3}
)


def brute_force_bag(classes):
    best = [max((c == v).sum() for v in c.reshape(-1)) / c.size for c in classes]
    return float(np.mean(best))


def test_records_rows_and_examples_of_a_run(lm, loaded, bank, table, tmp_path):
    alone = PackedScorer(Reader(lm, table.image_id), Renderer(bank, table))
    models = [
        ScoredModel("gpt2v", loaded.scorer(bank), ["text", "image"]),
        ScoredModel("lm", alone, ["text"]),
    ]
    results = evaluate(models, [Part(evaluation_data(CONFIG, bank))], CONFIG, tmp_path)
    records = pq.read_table(tmp_path / "records.parquet").to_pandas()
    assert len(records) == 3 * 70 * 2
    samples = draw_samples(GRID, bank, 1, "test", np.arange(70))
    for row in results["results"]:
        mine = records[(records.model == row["model"]) & (records.modality == row["modality"])]
        assert row["accuracy"] == pytest.approx(mine.exact.mean())
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1]
        assert (row["n_images"], row["n_questions"]) == (70, 140)
        assert row["chance"] == row["blind_accuracy"] == 0.25
        assert row["bag_accuracy"] == pytest.approx(brute_force_bag(samples.classes))
        assert sorted(set(mine["sample"])) == list(range(70))
        truth = [bank.class_names[samples.classes[r.sample_, r.row, r.col]]
                 for r in mine.rename(columns={"sample": "sample_"}).itertuples()]  # fmt: skip
        assert mine.truth.tolist() == truth
    assert json.loads((tmp_path / "results.json").read_text())["results"] == results["results"]
    assert sorted(p.name for p in (tmp_path / "examples").iterdir()) == ["0.png", "1.png", "2.png"]
    assert load(EvalConfig, tmp_path / "config.yaml", {}) == CONFIG
    rows = [r for r in results["results"] if r["model"] == "gpt2v"]
    assert results["gap"] == rows[0]["accuracy"] - rows[1]["accuracy"]
    assert results["gap_ci95"][0] <= results["gap"] <= results["gap_ci95"][1]
    # The same text and the same weights: GPT-2v without a picture is its GPT-2.
    rows = {(r["model"], r["modality"]): r["accuracy"] for r in results["results"]}
    assert rows["gpt2v", "text"] == rows["lm", "text"]


def test_batching_does_not_change_the_records(lm, bank, table):
    data, render = evaluation_data(CONFIG, bank), Renderer(bank, table)
    reader = Reader(lm, table.image_id)
    together = score_all(PackedScorer(reader, render), data, "text", "x")
    one = render(data.samples(np.array([63])), TextView(), "independent", True)
    alone = score(reader, one, render)
    at = [i for i, sample in enumerate(together["sample"]) if sample == 63]
    for key, column in alone.items():
        mine = [together[key][i] for i in at]
        if key == "logprobs":
            np.testing.assert_allclose(mine, column, atol=1e-5)
        else:
            assert mine == column, key


def test_too_little_memory_is_one_line(lm, bank, table, monkeypatch):
    """Of a card, in the model."""

    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore")

    scorer = PackedScorer(Reader(lm, table.image_id), Renderer(bank, table))
    monkeypatch.setattr(Reader, "hidden", too_large)
    says = (
        r"^eval: lm, text: 70 grids at once: out of memory \(CUDA out of memory. Tried to allocate "
        r"9 GiB.\); use smaller grids, pictures or models$"
    )
    with pytest.raises(UserError, match=says):
        score_all(scorer, evaluation_data(CONFIG, bank), "text", "eval: lm, text")


def test_a_saved_gpt2_is_measured_on_text_and_has_learnt(lm_run, tmp_path):
    config = CONFIG.model_copy(update={"modalities": ["text"]})
    (row,) = evaluate_model(str(lm_run), config, tmp_path)["results"]
    assert row["model"] == "lm"
    assert not (tmp_path / "examples").exists()
    assert row["accuracy"] > 0.4
    with pytest.raises(UserError, match=r"without vision tower; use --modalities text"):
        evaluate_model(str(lm_run), CONFIG, tmp_path)


def test_a_gpt2_of_another_tool_is_measured(tmp_path, bank, table):
    """Its vocabulary has no `<image>` and `<pad>`, and rows of unequal length are padded."""
    size = table.tokenizer.get_vocab_size() - 2
    tokenizer = json.loads(table.tokenizer.to_str())
    tokenizer["added_tokens"] = [
        t for t in tokenizer["added_tokens"] if t["content"] == "<|endoftext|>"
    ]
    torch.manual_seed(0)
    lm = GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_layer=1, n_head=2, n_embd=16, n_positions=256)
    )
    lm.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = CONFIG.model_copy(update={"modalities": ["text"]})
    (row,) = evaluate_model(str(tmp_path / "hf"), config, tmp_path)["results"]
    assert 0 <= row["accuracy"] < 0.9
    (tmp_path / "hf" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"^model: .*/hf: cannot be loaded: .*config\.json' is"):
        evaluate_model(str(tmp_path / "hf"), config, tmp_path)


@pytest.mark.parametrize("modalities", [["text", "image"], ["text+image"]])
def test_a_saved_gpt2v_is_measured_in_every_modality(mm_run, tmp_path, modalities):
    config = CONFIG.model_copy(update={"modalities": modalities})
    rows = evaluate_model(str(mm_run), config, tmp_path)["results"]
    assert [row["modality"] for row in rows] == modalities


def test_chained_questions_are_measured_after_the_earlier_ones(mm_run, tmp_path):
    """The first question is the same in both modes, the others are not."""
    found, bags = {}, []
    for mode in ("independent", "chained"):
        config = CONFIG.model_copy(update={"mode": mode, "modalities": ["text"]})
        results = evaluate_model(str(mm_run), config, tmp_path / mode)
        assert [row["questions"] for row in results["results"]] == [mode]
        found[mode] = pq.read_table(tmp_path / mode / "records.parquet")
        assert set(found[mode]["mode"].to_pylist()) == {mode}
        bags.append(results["results"][0]["bag_accuracy"])
        unseen = "questions chained" in str(results["not_as_trained"])
        assert unseen == (mode == "chained")  # it was trained on independent ones
    assert bags[0] < bags[1]  # earlier answers leave fewer objects
    alone, chained = (np.array(table["logprobs"].to_pylist()) for table in found.values())
    np.testing.assert_allclose(alone[::2], chained[::2], atol=1e-5)
    assert np.abs(alone[1::2] - chained[1::2]).max() > 1e-3


def test_baselines_that_are_not_known_are_null(mm_run, tmp_path):
    grid = {"rows": 1, "cols": 2, "instructions": {"count": 1}, "questions": 2}
    asked = {"tiles": helpers.TINY_TILES, "grid": grid, "n_images": 5, "mode": "chained"}
    config = EvalConfig.model_validate(asked)
    evaluate_model(str(mm_run), config, tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert [(row["blind_accuracy"], row["bag_accuracy"]) for row in rows] == [(None, None)] * 2
    assert main(["report", str(tmp_path / "run")]) == 0


def test_metrics_read_no_other_columns_than_they_say(mm_run, tmp_path):
    """A user's metric gets all of them."""
    config = CONFIG.model_copy(update={"modalities": ["text"]})
    evaluate_model(str(mm_run), config, tmp_path)
    records = pq.read_table(tmp_path / "records.parquet")
    built_in = [name for name, entry in METRICS.items() if entry.sha256 is None]
    for name in built_in:
        few = records.select(columns_read([name]))
        assert METRICS[name].load()(few) == METRICS[name].load()(records)
    assert columns_read([*built_in, "mine"]) is None


def test_grids_too_large_for_the_model_are_refused(lm, bank, table):
    data = evaluation_data(CONFIG.model_copy(update={"grid": LARGE}), bank)
    with pytest.raises(UserError, match=r"16x16 grid .* n_positions: 512"):
        data.check("text", Renderer(bank, table), Reader(lm, table.image_id).n_positions)


def test_validation_counts_every_grid_once(lm_run, bank, table):
    """60 grids in passes of 50 and 10: each question has the same weight."""
    from transformers import GPT2LMHeadModel

    from gpt2v.model.found import find_checkpoint

    lm = GPT2LMHeadModel.from_pretrained(find_checkpoint(str(lm_run), "lm")).eval()
    stream = Stream(helpers.lm_config().data, Renderer(bank, table))
    reader = Reader(lm, table.image_id)
    scores = validate(reader, stream, 60, 1)
    samples = stream.dataset(stream.spec(0), "val", 60).samples()
    whole = stream.render(samples, TextView(), "independent", with_choices=True)
    expected = np.mean(score(reader, whole, stream.render)["exact"])
    assert list(scores.values()) == [pytest.approx(expected, abs=1e-9)]


def test_the_gaps_interval_knows_which_pictures_and_tiles_parts_share(bank):
    """A part that shows the same contents again tells nothing new, whatever it asks."""

    def width(contents, tiles):
        series, tables = [], []
        model = ScoredModel("gpt2v", None, ["text", "image"])
        for number, (content, first) in enumerate(zip(contents, tiles, strict=True)):
            part = Part(GridDataset(GRID, bank, 1, "test", 100), str(number))
            right = {"text": [True] * 100, "image": np.array([True, False]).repeat(50)}
            for modality, exact in right.items():
                series.append(Series(model, part, modality))
                read = [[first + i] for i in range(100)]
                columns = {"exact": exact, "content": content + np.arange(100), "tiles": read}
                tables.append(pa.table(columns))
        found = gap_of(series, tables)
        assert found["gap"] == 0.5
        return found["gap_ci95"][1] - found["gap_ci95"][0]

    once = width([0], [0])
    assert width([0, 0], [0, 500]) == pytest.approx(once, rel=0.05)
    assert width([0, 100], [0, 0]) == pytest.approx(once, rel=0.05)
    assert width([0, 100], [0, 500]) == pytest.approx(once * 2**-0.5, rel=0.05)


def test_a_part_that_does_not_fit_is_refused_before_anything_is_measured(lm, bank, table, tmp_path):
    parts = [
        Part(GridDataset(grid, bank, 1, "test", 70, f"part {name}: "), name)
        for name, grid in (("small", GRID), ("large", LARGE))
    ]
    read = []

    class Counting(Reader):
        def hidden(self, batch, keep=None):
            read.append(batch)
            return super().hidden(batch, keep)

    scorer = PackedScorer(Counting(lm, table.image_id), Renderer(bank, table))
    with pytest.raises(UserError, match=r"part large: rows, cols: a 16x16 grid"):
        evaluate([ScoredModel("lm", scorer, ["text"])], parts, CONFIG, tmp_path)
    assert not read
