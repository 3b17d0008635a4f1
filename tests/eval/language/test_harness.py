"""Tasks of lm-evaluation-harness: results and records are those of the harness called by hand."""

import importlib.util
import json
import logging

import pytest
import torch
import yaml

from gpt2v.cli.main import main
from gpt2v.config.language import HarnessConfig
from gpt2v.eval.language import harness
from gpt2v.results import read_records, read_results
from helpers import refusal

needs_lm_eval = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("lm_eval", "accelerate"))),
    reason="lm_eval is not installed: pip install 'gpt2v[eval]'",
)
CHOICES = ["bird", "frog", "horse"]
QUESTIONS = [
    {"question": f"What object is in row {row}? A:", "answer": row % 3} for row in range(6)
]
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "fewshot_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": CHOICES,
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    "metadata": {"version": 3},
}
ROLLING = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "bits_per_byte"}],
    "metadata": {"version": 1},
}


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A folder with two tasks; the harness's own 14,000 files, which take seconds, are not read."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    for name, task in (("own_rows", TASK), ("own_text", ROLLING)):
        files = {"data_files": {"test": str(rows)}}
        content = {"task": name, **task, "dataset_kwargs": files}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    if importlib.util.find_spec("lm_eval"):
        from lm_eval.tasks import TaskManager

        plain = TaskManager.__init__

        def light(self, *args, **options):
            plain(self, *args, **{**options, "include_defaults": False})

        monkeypatch.setattr(TaskManager, "__init__", light)
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    yield folder
    logging.getLogger("lm_eval").setLevel(logging.NOTSET)


def by_hand(model, folder, names, **options):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=1)
    manager = TaskManager(include_path=str(folder))
    return simple_evaluate(lm, tasks=names, task_manager=manager, **options)


@needs_lm_eval
@pytest.mark.parametrize("num_fewshot", [None, 1])
def test_values_are_those_of_the_harness(model, small, tasks, tmp_path, capsys, num_fewshot):
    out = tmp_path / "out"
    argv = ["eval", str(small), "--lm-eval", "own_rows,own_text", "--include-path", str(tasks)]
    argv += [] if num_fewshot is None else ["--num-fewshot", str(num_fewshot)]
    assert main([*argv, "--out", str(out)]) == 0
    expected = by_hand(model, tasks, ["own_rows", "own_text"], num_fewshot=num_fewshot)
    results = read_results(out)
    assert results["kind"] == "language"
    rows = {(row["task"], row["metric"]): row for row in results["results"]}
    assert set(rows) == {
        ("own_rows", "acc"), ("own_rows", "acc_norm"), ("own_text", "bits_per_byte"),
    }  # fmt: skip
    for (task, metric), row in rows.items():
        assert row["value"] == pytest.approx(expected["results"][task][f"{metric},none"], rel=1e-5)
        assert (row["n_questions"], row["filter"]) == (6, "none")
        assert row["n_shot"] == expected["n-shot"][task]
    stderr = expected["results"]["own_rows"]["acc_stderr,none"]
    assert rows["own_rows", "acc"]["stderr"] == pytest.approx(stderr)
    assert rows["own_rows", "acc"]["version"] == 3
    assert f"{rows['own_text', 'bits_per_byte']['value']:.4f}" in capsys.readouterr().out

    records = read_records(out).to_pylist()
    asked = [record for record in records if record["task"] == "own_rows"]
    logged = {sample["doc_id"]: sample for sample in expected["samples"]["own_rows"]}
    assert [record["doc_id"] for record in asked] == list(range(6))
    for record in asked:
        assert record["acc"] == logged[record["doc_id"]]["acc"]
        assert record["target"] == str(QUESTIONS[record["doc_id"]]["answer"])
        said = [float(pair[0]) for pair in json.loads(record["response"])]
        hand = [pair[0] for pair in logged[record["doc_id"]]["filtered_resps"]]
        assert said == pytest.approx(hand, rel=1e-4)
    assert sum(record["acc"] for record in asked) / 6 == rows["own_rows", "acc"]["value"]


@needs_lm_eval
def test_a_question_is_scored_as_by_plain_transformers(model, tasks):
    found = harness.measure_tasks(
        model, HarnessConfig(lm_eval=["own_rows"], include_path=str(tasks), limit=2)
    )
    assert [row["n_questions"] for row in found.rows] == [2, 2]
    for record, question in zip(found.records.to_pylist(), QUESTIONS, strict=False):
        scores = [score for score, _ in json.loads(record["response"])]
        for choice, score in zip(CHOICES, scores, strict=True):
            before = model.loaded.tokenizer.encode(question["question"]).ids
            after = model.loaded.tokenizer.encode(f" {choice}").ids
            with torch.no_grad():
                logits = model.model(torch.tensor([[*before, *after]])).logits[0]
            logp = logits[len(before) - 1 : -1].log_softmax(-1)
            assert float(score) == pytest.approx(
                float(logp[torch.arange(len(after)), after].sum()), rel=1e-4
            )


@needs_lm_eval
@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_the_language_model_of_a_gpt2v_and_any_other_model(lm_run, mm_run, tasks, prefix, tmp_path):
    run, out = lm_run if prefix else mm_run, tmp_path / "out"
    argv = ["eval", f"{prefix}{run}", "--lm-eval", "own_rows", "--include-path", str(tasks)]
    assert main([*argv, "--limit", "3", "--out", str(out)]) == 0
    results = read_results(out)
    assert {row["n_questions"] for row in results["results"]} == {3}
    assert results["checkpoint"]["model"] == f"{prefix}{run}"


@needs_lm_eval
@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("own_row", "--lm-eval: no such task: 'own_row'; do you mean own_rows?"),
        ("xyz", "--lm-eval: no such task: 'xyz'; `lm_eval ls tasks` lists them"),
        ("own_rows,own_rows", "--lm-eval: must name each once"),
    ],
)
def test_a_task_that_is_not_there_is_one_line(small, tasks, tmp_path, capsys, names, says):
    argv = ("eval", small, "--lm-eval", names, "--include-path", tasks)
    assert says in refusal(capsys, *argv, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_lm_eval
def test_data_that_cannot_be_read_are_one_line(small, tasks, tmp_path, capsys):
    content = {"task": "far", **TASK, "dataset_path": "nobody/no-such-data"}
    (tasks / "far.yaml").write_text(yaml.safe_dump(content))
    argv = ("eval", small, "--lm-eval", "far", "--include-path", tasks, "--out", tmp_path / "out")
    assert "--lm-eval: far: cannot be loaded: " in refusal(capsys, *argv)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_is_one_line(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    argv = ("eval", small, "--lm-eval", "hellaswag", "--out", tmp_path / "out")
    assert refusal(capsys, *argv) == "gpt2v: --lm-eval: needs lm-eval: pip install 'gpt2v[eval]'"


def test_a_missing_folder_of_tasks_is_one_line(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(harness, "find_spec", lambda name: True)
    argv = ("eval", small, "--lm-eval", "x", "--include-path", tmp_path / "no")
    line = refusal(capsys, *argv, "--out", tmp_path / "out")
    assert line == f"gpt2v: --include-path: {tmp_path / 'no'}: no such folder"
