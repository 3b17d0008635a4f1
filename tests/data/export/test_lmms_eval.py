"""The tasks for lmms-eval: what they show and ask, how they score, read as lmms-eval reads them.

It cannot be installed beside torch with its dependencies, so most tests use a reader of their own.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

from gpt2v.config.grids import DocumentGridConfig, GridConfig
from gpt2v.config.measuring import ExportConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.export import plan, run
from gpt2v.data.export.run import export
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.examples import examples_of
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError

TILES = TilesConfig(per_class=20, size=16)
ASKED = {"lookup": 2.0, "count": 1.0, "locate": 1.0}
NAME = "gpt2v_1-2x2"


@pytest.fixture(autouse=True)
def all_modalities(monkeypatch):
    """Exports ask in all modalities, as those of suites do."""

    def planned(config):
        made = plan.plan_of(config)
        shown = ("text", "image", "text+image")
        return replace(made, parts=tuple(replace(part, modalities=shown) for part in made.parts))

    monkeypatch.setattr(run, "plan_of", planned)


def exported(to: Path, form: str = "lmms-eval", **grid):
    spec = GridConfig(rows=[1, 2], cols=2, instructions=ASKED, questions=4, **grid)
    export(ExportConfig(tiles=TILES, grid=spec, n_images=8, shard_size=5), to, form)
    bank = load_bank(TILES)
    return examples_of(draw_samples(spec, bank, 1, "test", np.arange(8)), spec, bank)


def opened(folder: Path, name: str) -> tuple[dict[str, Any], Any]:
    """A task, with the functions that it names, and the rows of its test split."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader: yaml.Loader, node: yaml.Node) -> Any:
        module, attribute = loader.construct_scalar(node).split(".")
        spec = importlib.util.spec_from_file_location(module, folder / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, attribute)

    Loader.add_constructor("!function", function)
    task = yaml.load((folder / f"{name}.yaml").read_text(), Loader)
    options = task["dataset_kwargs"]
    files = {
        split: [str(folder / file) for file in own]
        for split, own in options.pop("data_files").items()
    }
    rows = datasets.load_dataset(
        task["dataset_path"], data_files=files, cache_dir=str(folder / "cache"), **options
    )
    return task, rows[task["test_split"]]


def words_of(task: dict[str, Any], row: dict[str, Any]) -> str:
    """What a task asks about a row."""
    text = task["doc_to_text"]
    return text(row) if callable(text) else row[text]


@pytest.mark.parametrize("layout", ["composite", "multi"])
@pytest.mark.parametrize("modality", ["text", "image", "text+image"])
def test_tasks_show_and_ask_what_ours_do(tmp_path, layout, modality):
    items = exported(tmp_path / "x", picture={"layout": layout})
    group = f"{NAME}_{modality.replace('+', '_')}"
    tasks = yaml.safe_load((tmp_path / "x" / f"{group}.yaml").read_text())["task"]
    assert tasks == [f"{group}_{name}" for name in ASKED]
    for name in ASKED:
        task, rows = opened(tmp_path / "x", f"{group}_{name}")
        assert task["output_type"] == "generate_until"
        ours = [(item, q) for item in items for q in item.asked if q.instruction == name]
        assert len(rows) == len(ours) > 0
        for row, (item, q) in zip(rows, ours, strict=True):
            marks = ""  # lmms-eval puts the mark of the one picture before the words
            if layout == "multi" and modality != "text":
                marks = "".join("<image>" * len(line) + "\n" for line in item.classes)
            table = "" if modality == "image" else item.table
            assert words_of(task, row) == marks + table + item.prompt + q.question
            assert row[task["doc_to_target"]] == q.answer
            shown = [np.asarray(image) for image in task["doc_to_visual"](row)]
            expected = [] if modality == "text" else item.pictures
            assert len(shown) == len(expected)
            assert all(np.array_equal(*pair) for pair in zip(shown, expected, strict=True))
            most = task["generation_kwargs"]["max_new_tokens"]
            assert most > len(f" {q.answer}\n".encode()) - 1


def test_an_answer_is_the_first_line_and_scores_are_clustered_by_grid(tmp_path):
    exported(tmp_path / "x")
    task, rows = opened(tmp_path / "x", f"{NAME}_image_lookup")
    row = rows[0]

    def scored(said: str) -> float:
        result = task["process_results"](row, [said])["exact_match"]
        assert result["image_id"] == row[task["cluster_key"]]
        return result["score"]

    assert scored(f" {row['answer']}\nWhat object is") == 1.0
    assert scored(row["answer"]) == 1.0
    assert scored(f"a {row['answer']}") == 0.0
    assert scored(f"x\n{row['answer']}") == 0.0
    assert scored("") == 0.0
    (metric,) = task["metric_list"]
    results = [task["process_results"](row, [row["answer"]])["exact_match"], {"score": 0.0}]
    assert metric["aggregation"](results) == 0.5


def test_lm_eval_has_tasks_in_both_modalities(tmp_path):
    items = exported(tmp_path / "x", "lm-eval")
    text = (tmp_path / "x" / f"{NAME}_text_image_lookup.yaml").read_text()
    task = yaml.safe_load(text.replace("!function gpt2v_rows.image", "image"))
    assert task["custom_dataset"] == "image"
    assert task["doc_to_image"] == ["image"]
    first = items[0]
    table = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "x" / "data" / "*.parquet"),
        cache_dir=str(tmp_path / "cache"),
    )["train"]
    shown = table[0][task["doc_to_text"]]
    assert shown == "<image>\n" + first.table + first.prompt + first.asked[0].question


def test_what_lmms_eval_cannot_read_is_refused(tmp_path):
    config = ExportConfig(tiles=TILES, grid=GridConfig(rows=1, cols=2), n_images=2)
    with pytest.raises(UserError, match="cannot read a folder with '\\['"):
        export(config, tmp_path / "a[b]", "lmms-eval")
    chained = DocumentGridConfig(rows=1, cols=2, mode="chained")
    config = ExportConfig(tiles=TILES, grid=chained, n_images=2)
    with pytest.raises(UserError, match=r"grid\.mode: lmms-eval asks each question on its own"):
        export(config, tmp_path / "x", "lmms-eval")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    not importlib.util.find_spec("lmms_eval"),
    reason="lmms-eval is not installed: pip install --no-deps lmms-eval loguru tenacity",
)
def test_lmms_eval_itself_gives_a_reader_who_knows_every_answer_100_percent(tmp_path, monkeypatch):
    from lmms_eval import evaluator
    from lmms_eval.api.model import lmms
    from lmms_eval.tasks import TaskManager

    monkeypatch.setattr(evaluator, "_enable_reentrant_filelocks", lambda: None)
    items = exported(tmp_path / "x")
    answers = {
        (item.prompt + q.question, np.asarray(item.image).tobytes()): q.answer
        for item in items
        for q in item.asked
    }

    class Oracle(lmms):
        def generate_until(self, requests):
            said = []
            for words, _, visual, number, task, split in (request.args for request in requests):
                (image,) = visual(self.task_dict[task][split][number])
                said.append(f" {answers[words, np.asarray(image).tobytes()]}\n")
            return said

        def loglikelihood(self, requests):
            raise NotImplementedError

        generate_until_multi_round = loglikelihood

    results = evaluator.simple_evaluate(
        Oracle(),
        tasks=[f"{NAME}_image"],
        task_manager=TaskManager(include_path=str(tmp_path / "x"), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    scores = [own["exact_match,none"] for own in results.values() if "exact_match,none" in own]
    assert scores == [1.0] * len(ASKED)
