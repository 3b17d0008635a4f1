"""Few-shot prompts of the exported lm-eval tasks, built by the harness itself.

No context holds the grid of its question before the question, or its answer, and every example is
right.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from exports import GRIDS, TILES, config_of, tree
from gpt2v.cli.main import main
from gpt2v.config.measuring import ExportConfig
from gpt2v.data.export.lm_eval_examples import MOST
from gpt2v.data.export.run import export
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.examples import Example, examples_of
from gpt2v.data.tiles.load import load_bank

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm_eval is not installed: pip install 'gpt2v[eval]'",
)

SMALL = {"rows": [1, 2], "cols": 2, "palette": 3}
ALL_ASKED = {**GRIDS["mixed"], "rows": 3}
CASES = {
    "lookup": config_of("composite"),
    "all instructions": config_of("mixed", 60, grid=ALL_ASKED),
    "small grids": config_of("composite", 40, grid=SMALL),
    "a picture for each cell": config_of("multi"),
    "raster": config_of("composite", grid={"augment": {"order": "raster"}}),
    "csv": config_of("ragged", 30),
    "noise": config_of("composite", grid={"rows": 2, "form": "patch-tiled", "noise": 0.4}),
    "train": config_of("composite", split="train"),
    "val": config_of("composite", split="val"),
}


def asked(tasks: Path, k: int) -> dict[str, list[dict]]:
    """What the harness asks a model, by task, with k examples before each question."""
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Silent(LM):
        MULTIMODAL = True

        def loglikelihood(self, requests):
            return [(-1.0, False) for _ in requests]

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

        def generate_until(self, requests):
            return ["" for _ in requests]

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = simple_evaluate(
        Silent(),
        tasks=manager.all_groups,
        task_manager=manager,
        num_fewshot=k,
        bootstrap_iters=0,
    )
    assert {n for n in results["n-shot"].values() if n != " "} == {k}
    return results["samples"]


def context(sample: dict) -> str:
    """The words before the answer of a logged sample."""
    arguments = sample["arguments"]
    first = arguments["gen_args_0"]["arg_0"] if isinstance(arguments, dict) else arguments[0][0]
    return first


def drawn(config: ExportConfig, split: str, n: int) -> list[Example]:
    bank = load_bank(config.tiles)
    samples = draw_samples(config.grid, bank, config.seed, split, np.arange(n))
    return examples_of(samples, config.grid, bank)


@pytest.mark.parametrize("case", CASES)
def test_no_context_gives_its_answer_away(tmp_path, case):
    config = CASES[case]
    export(config, tmp_path / "x", "lm-eval")
    other = "val" if config.split == "train" else "train"
    own = drawn(config, config.split, config.n_images)
    solved = {  # words of a question -> answer and sample
        item.table + item.prompt + q.question: (q.answer, item)
        for item in drawn(config, other, 700)
        for q in item.asked
    }
    shown = {item.classes for item in own}
    rows = {}  # each question, in words and with pictures
    for item in own:
        marks = item.pictured(["<image>"] * len(item.pictures))
        for q in item.asked:
            for before in (item.table, marks):
                rows[before + item.prompt + q.question] = item.table
    without = asked(tmp_path / "x", 0)
    assert {context(s) for samples in without.values() for s in samples} == set(rows)
    for k in (1, 2, 5):
        n_checked = 0
        for task, samples in asked(tmp_path / "x", k).items():
            zero_shot = {s["doc_id"]: context(s) for s in without[task]}
            assert len(samples) == len(without[task])
            for sample in samples:
                last = zero_shot[sample["doc_id"]]
                whole = context(sample)
                assert whole.endswith("\n\n" + last)
                examples = whole.removesuffix("\n\n" + last).split("\n\n")
                assert len(set(examples)) == k
                seen = set()
                for example in examples:
                    question, _, answer = example.rpartition(" A: ")
                    right, item = solved[f"{question} A:"]
                    assert answer == right
                    assert item.classes not in shown
                    assert item.table != rows[last]
                    seen.add(item.classes)
                assert len(seen) == k  # each example is about a grid of its own
                n_checked += 1
        assert n_checked == sum(len(samples) for samples in without.values()) > 0


def test_questions_without_examples_are_what_they_were(tmp_path):
    """The rows of the questions, and the first words of the tasks, know of no examples."""
    import pyarrow.parquet as pq

    config = CASES["lookup"]
    export(config, tmp_path / "x", "lm-eval")
    (item, *_) = drawn(config, "test", 1)
    table = pq.read_table(tmp_path / "x" / "data" / "test-00000-of-00003.parquet")
    assert table.column_names == [
        *("prompt", "prompt_mm", "choices", "label", "answer"),
        *("image", "image_id", "row", "col", "instruction"),
    ]
    (sample, *_) = asked(tmp_path / "x", 0)["gpt2v_3x3_text_lookup"]
    assert context(sample) == item.table + item.prompt + item.asked[0].question


def test_as_many_examples_as_are_exported_and_no_more(tmp_path):
    export(CASES["lookup"], tmp_path / "x", "lm-eval")
    for samples in asked(tmp_path / "x", MOST).values():
        assert all(context(sample).count(" A:") == MOST + 1 for sample in samples)
    with pytest.raises(AssertionError, match=f"exceeds the {MOST} that are available"):
        asked(tmp_path / "x", MOST + 1)
    card = (tmp_path / "x" / "README.md").read_text()
    assert f"K at most {MOST}" in card
    assert "Give the folder of one export" in card  # lm_eval skips a second task of one name


def test_examples_of_questions_in_raster_order_are_not_all_about_one_cell(tmp_path):
    import pyarrow.parquet as pq

    export(CASES["raster"], tmp_path / "x", "lm-eval")
    (file,) = (tmp_path / "x" / "fewshot").iterdir()
    rows = pq.read_table(file, columns=["row", "col"]).to_pylist()
    assert len({(row["row"], row["col"]) for row in rows}) == 9


def test_examples_are_the_same_again_and_after_a_move(tmp_path):
    config = CASES["all instructions"]
    export(config, tmp_path / "x", "lm-eval")
    export(config, tmp_path / "y", "lm-eval")
    assert tree(tmp_path / "x") == tree(tmp_path / "y")
    before = asked(tmp_path / "x", 2)
    (tmp_path / "x").rename(tmp_path / "moved")
    after = asked(tmp_path / "moved", 2)
    assert {t: [context(s) for s in samples] for t, samples in before.items()} == {
        t: [context(s) for s in samples] for t, samples in after.items()
    }


def test_grids_with_too_few_contents_have_fewer_examples_and_it_is_said(tmp_path, capsys):
    grid = {"rows": 1, "cols": 1, "palette": 1}
    config = config_of("composite", 60, grid=grid)
    export(config, tmp_path / "x", "lm-eval")  # there are ten such grids; all are asked about
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (
        "gpt2v: lm-eval: fewshot: fewer than 32 examples, for lack of grids that are not asked "
        "about: lookup 0; --num_fewshot takes no more"
    )
    assert "K at most 0" in (tmp_path / "x" / "README.md").read_text()
    assert asked(tmp_path / "x", 0)
    with pytest.raises(AssertionError, match="exceeds the 0 that are available"):
        asked(tmp_path / "x", 1)


def test_parts_of_a_suite_have_examples_of_their_own(tmp_path):
    argv = ["data", "export", "multi-image-v1", "--tiles.per_class", "100", "--tiles.size", "8"]
    assert main([*argv, "--to", str(tmp_path / "x"), "--format", "lm-eval"]) == 0
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    import pyarrow.parquet as pq

    for part in manifest["parts"]:
        folder = tmp_path / "x" / part["name"]
        examples = pq.read_table(folder / "fewshot").to_pylist()
        assert {row["instruction"] for row in examples} == set(part["instructions"])
        own = {
            row["prompt"].split("The grid")[0]
            for row in pq.read_table(folder / "data", columns=["prompt"]).to_pylist()
        }
        assert not own & {row["prompt"].split("The grid")[0] for row in examples}


@pytest.mark.parametrize("name", NAMES)
def test_the_place_of_a_choice_says_nothing(tmp_path, name):
    """A model that always takes the first, or the last, choice is no better than a blind one.

    So neither the order of the choices, nor a tie between their scores, gives the answer away.
    """
    import pyarrow.parquet as pq

    grid = {"rows": 3, "cols": 3, "instructions": {name: 1.0}}
    config = ExportConfig.model_validate({"tiles": TILES, "grid": grid, "n_images": 600})
    export(config, tmp_path / "x", "lm-eval")
    rows = pq.read_table(tmp_path / "x" / "data", columns=["choices", "label"]).to_pylist()
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    blind = manifest["parts"][0]["instructions"][name]["blind"]
    lasts = [len(row["choices"]) - 1 for row in rows]
    if -1 in lasts:
        pytest.skip("its answers cannot be listed")
    labels = np.array([row["label"] for row in rows])
    for place in (np.zeros(len(rows)), np.array(lasts)):
        assert np.mean(labels == place) < blind + 4 * np.sqrt(blind * (1 - blind) / len(rows))
    assert not [c for row in rows for c in row["choices"] if c != c.strip()]


def test_an_export_that_the_harness_has_read_can_be_replaced(tmp_path):
    """Python writes a compiled copy of its helper beside it."""
    export(CASES["lookup"], tmp_path / "x", "lm-eval")
    asked(tmp_path / "x", 0)
    compiled = tmp_path / "x" / "__pycache__"
    compiled.mkdir(exist_ok=True)
    (compiled / "gpt2v_rows.cpython-311.pyc").write_bytes(b"compiled")
    export(CASES["val"], tmp_path / "x", "lm-eval", overwrite=True)
    assert not compiled.exists()
    shutil.rmtree(tmp_path / "x")
