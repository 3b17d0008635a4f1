"""A task directory of lm-evaluation-harness: `lm_eval --include_path DIR --tasks NAME`.

Each instruction is a task in each modality: in words (`multiple_choice` if its answers can be
listed, else `generate_until`), and with pictures or both (`generate_until` for `hf-multimodal`).
All read the same rows, one for each question, and have the same solved examples for
`--num_fewshot`, see `lm_eval_examples`. The tasks find the rows relative to their own files, so
they run from any working directory.
"""

from importlib import resources
from pathlib import Path
from typing import Any

from gpt2v.data.export.base import Files, Gathered
from gpt2v.data.export.card import card
from gpt2v.data.export.lm_eval_examples import MOST, Solved, solved, split_of
from gpt2v.data.export.plan import Part
from gpt2v.data.export.tables import parquet
from gpt2v.data.export.tasks import (
    PROMPT,
    Asked,
    TaskFormat,
    asked_of,
    columns,
    prefix_of,
    row_in_words,
)
from gpt2v.data.export.yaml_files import task_yaml
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.registry import FORMATS
from gpt2v.storage.names import resolved

PICTURED = ("prompt_mm", "prompt_both", "image", "images")  # columns that show pictures
_NOT_SEARCHED = {"__pycache__", ".ipynb_checkpoints"}  # lm_eval finds no tasks below them
_HELPER = "gpt2v_rows"  # the Python file that loads the rows of the tasks


@FORMATS.register("lm-eval")
class LmEvalFormat(TaskFormat):
    """`data/SPLIT-00000-of-00012.parquet`, and a YAML file for each task and group of tasks."""

    harness = "lm-eval"

    def check_path(self, to: Path) -> None:
        for name in _NOT_SEARCHED & set(resolved(to).parts):
            raise UserError(
                f"{to}: lm_eval does not look into folders named {name}; choose a path without it"
            )

    def finish(self, gathered: Gathered) -> Files:
        groups: dict[str, list[dict[str, Any]]] = {}
        fewest = MOST
        for which, part in enumerate(gathered.plan.parts):
            asked, shown = asked_of(gathered, which)
            examples = solved(part, gathered.bank, gathered.tallies[which], shown)
            yield _examples_file(part, examples)
            fewest = min(fewest, *map(len, examples.values()))
            for modality in part.modalities:
                group = prefix_of(gathered, modality)
                tasks = [_task(group, one, modality) for one in asked]
                groups.setdefault(group, []).extend(tasks)
        for group, tasks in groups.items():
            for task in tasks:
                yield f"{task['task']}.yaml", [task_yaml(task, _HELPER)]
            yield f"{group}.yaml", [task_yaml(_group(group, tasks), _HELPER)]
        helper = resources.files("gpt2v.data.export") / "lm_eval_rows.py"
        yield f"{_HELPER}.py", [helper.read_bytes()]
        names = " or ".join(f"`{group}`" for group in groups)
        use = (
            f"`lm_eval --include_path DIR --tasks` {names} runs it, the tasks in words with "
            "`--model hf`, those with pictures with `--model hf-multimodal`. Give the folder of "
            "one export: others can have tasks of the same names, of which lm_eval keeps one.\n\n"
            f"`--num_fewshot K` puts K solved examples before each question, K at most {fewest}, "
            "always the same ones. They come from another split (`fewshot/`), each from a grid of "
            "its own, and none from a grid that is asked about. They are in words, also before a "
            "question with a picture: lm_eval shows a model no pictures but those of the last "
            "question."
        )
        yield "README.md", [card(gathered, use).encode()]


def _examples_file(part: Part, examples: Solved) -> tuple[str, list[bytes]]:
    """The file of the examples for few-shot prompts; says which instructions have too few."""
    few = {name: len(found) for name, found in examples.items() if len(found) < MOST}
    if few:
        counts = ", ".join(f"{name} {n}" for name, n in few.items())
        say(
            f"lm-eval: {part.folder}fewshot: fewer than {MOST} examples, for lack of grids that "
            f"are not asked about: {counts}; --num_fewshot takes no more"
        )
    split = split_of(part)
    rows = [
        row_in_words(item, question, f"{part.folder}{split}/{item.index:06d}")
        for found in examples.values()
        for item, question in found
    ]
    every = columns(part)
    words = {name: every[name] for name in every if name not in PICTURED}
    return f"{part.folder}fewshot/{split}-00000-of-00001.parquet", [parquet(words, rows)]


def _task(group: str, asked: Asked, modality: str) -> dict[str, Any]:
    """The configuration of one task."""
    part = asked.part
    task: dict[str, Any] = {
        "task": f"{group}_{asked.name}",
        "custom_dataset": f"!function {'text' if modality == 'text' else 'image'}",
        "dataset_kwargs": {
            "data": f"{part.folder}data",
            "examples": f"{part.folder}fewshot",
            "asked": asked.instruction,
        },
        "test_split": part.split,
        "fewshot_split": split_of(part),
        "fewshot_config": {
            "sampler": "first_n",
            "doc_to_text": "prompt",
            "doc_to_target": "answer",
        },
        "target_delimiter": " ",  # a prompt ends with `A:`
        "doc_to_text": PROMPT[modality],
    }
    if modality == "text" and asked.listed:
        task |= {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "metric_list": [_metric("acc")],
        }
    else:
        task |= {
            "output_type": "generate_until",
            "doc_to_target": "answer",
            # No token is shorter than a byte, so an answer and its end of line fit.
            "generation_kwargs": {
                "until": ["\n"],
                "do_sample": False,
                "max_gen_toks": asked.longest + 2,
            },
            "filter_list": [
                {
                    "name": "none",  # the answer follows a space
                    "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}],
                }
            ],
            "metric_list": [_metric("exact_match")],
        }
    if modality != "text":
        task["doc_to_image"] = "images" if part.several else ["image"]
    return {**task, "metadata": {"version": 2}}


def _group(name: str, tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """The configuration of a group of tasks."""
    metrics = {metric["metric"] for task in tasks for metric in task["metric_list"]}
    return {
        "group": name,
        "task": [task["task"] for task in tasks],
        "aggregate_metric_list": [
            {"metric": metric, "weight_by_size": True} for metric in sorted(metrics)
        ],
        "metadata": {"version": 2},
    }


def _metric(name: str) -> dict[str, Any]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": True}
