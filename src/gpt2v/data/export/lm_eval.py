"""A task directory of lm-evaluation-harness: `lm_eval --include_path DIR --tasks NAME`.

Each instruction is two tasks: one in words (`multiple_choice` if its answers can be listed, else
`generate_until`) and one with pictures (`generate_until` for `hf-multimodal`). Both read the same
rows, one for each question. Both have the same solved examples for `--num_fewshot`, see
`lm_eval_examples`. The tasks find the rows relative to their own files, so they run from any
working directory.
"""

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from gpt2v.config.yaml12 import dump_yaml
from gpt2v.data.export.base import Files, Format, Gathered, Written
from gpt2v.data.export.card import card
from gpt2v.data.export.lm_eval_examples import MOST, Solved, content_of, solved, split_of
from gpt2v.data.export.plan import Part, Shard
from gpt2v.data.export.tables import IMAGE, Columns, listed, parquet, picture, value
from gpt2v.data.render.examples import Example, Question
from gpt2v.data.text_pieces import begins_another
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.registry import FORMATS
from gpt2v.storage.names import resolved

PLACEHOLDER = "<image>"  # lm_eval replaces it by the model's own token
PICTURED = ("prompt_mm", "image", "images")  # columns that show a grid as pictures
_NOT_SEARCHED = {"__pycache__", ".ipynb_checkpoints"}  # lm_eval finds no tasks below them
_HELPER = "gpt2v_rows"  # the Python file that loads the rows of the tasks


@FORMATS.register("lm-eval")
class LmEvalFormat(Format):
    """`data/SPLIT-00000-of-00012.parquet`, and a YAML file for each task and group of tasks."""

    def check(self, part: Part) -> None:
        if part.mode == "chained":
            raise UserError(
                "grid.mode: lm-eval asks each question on its own; mode must be independent"
            )

    def check_path(self, to: Path) -> None:
        for name in _NOT_SEARCHED & set(resolved(to).parts):
            raise UserError(
                f"{to}: lm_eval does not look into folders named {name}; choose a path without it"
            )

    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        rows = [row for item in items for row in _rows(part, item)]
        grids = [content_of(item) for item in items]
        asked: dict[str, dict[str, Any]] = {}  # what `finish` needs to know of each instruction
        for row in rows:
            known = asked.setdefault(row["instruction"], {"listed": True, "longest": 0})
            known["listed"] &= bool(row["choices"])
            known["longest"] = max(known["longest"], len(row["answer"].encode()))
        name = f"{part.folder}data/{shard.file(part.split)}.parquet"
        line = json.dumps({"asked": asked, "grids": grids})
        return Written({name: parquet(_columns(part.several), rows)}, [line])

    def finish(self, gathered: Gathered) -> Files:
        prefix = f"gpt2v_{_plain(gathered.plan.title)}"
        groups: dict[str, list[dict[str, Any]]] = {}
        fewest = MOST
        for which, part in enumerate(gathered.plan.parts):
            asked, shown = _pooled(gathered.lines(which))
            examples = solved(part, gathered.bank, gathered.tallies[which], shown)
            yield _examples_file(part, examples)
            fewest = min(fewest, *map(len, examples.values()))
            for modality in part.modalities:
                tasks = [
                    _task(f"{prefix}_{modality}", part, modality, name, **asked[name])
                    for name in gathered.tallies[which]
                ]
                groups.setdefault(modality, []).extend(tasks)
        for modality, tasks in groups.items():
            for task in tasks:
                yield f"{task['task']}.yaml", [_yaml(task)]
            group = f"{prefix}_{modality}"
            yield f"{group}.yaml", [_yaml(_group(group, tasks))]
        helper = resources.files("gpt2v.data.export") / "lm_eval_rows.py"
        yield f"{_HELPER}.py", [helper.read_bytes()]
        names = " or ".join(f"`{prefix}_{modality}`" for modality in groups)
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
        _row(item, question, f"{part.folder}{split}/{item.index:06d}")
        for found in examples.values()
        for item, question in found
    ]
    columns = _columns(part.several)
    words = {name: columns[name] for name in columns if name not in PICTURED}
    return f"{part.folder}fewshot/{split}-00000-of-00001.parquet", [parquet(words, rows)]


def _columns(several: bool) -> Columns:
    """The columns of a row; `images` with a picture for each cell, else `image`."""
    return {
        "prompt": value("string"),
        "prompt_mm": value("string"),
        "choices": listed(value("string")),
        "label": value("int64"),
        "answer": value("string"),
        **({"images": listed(IMAGE)} if several else {"image": IMAGE}),
        "image_id": value("string"),
        "row": value("int64"),
        "col": value("int64"),
        "instruction": value("string"),
    }


def _rows(part: Part, item: Example) -> Iterator[dict[str, Any]]:
    """A row for each question, which shows the grid but no other question."""
    name = f"{part.folder}{part.split}/{item.index:06d}"
    names = part.picture_names(name, len(item.pictures))
    pictures = [picture(*both) for both in zip(item.pngs, names, strict=True)]
    marks = item.pictured([PLACEHOLDER] * len(pictures))
    for q in item.asked:
        yield {
            **_row(item, q, name),
            "prompt_mm": marks + item.prompt + q.question,
            **({"images": pictures} if part.several else {"image": pictures[0]}),
        }


def _row(item: Example, q: Question, name: str) -> dict[str, Any]:
    """The columns of a row that need no pictures.

    Where a choice begins another one, the line break after an answer belongs to them.
    """
    unclear = begins_another(q.choices)
    return {
        "prompt": item.table + item.prompt + q.question,
        "choices": [f"{choice}\n" for choice in q.choices] if unclear else q.choices,
        "label": q.choices.index(q.answer) if q.choices else -1,
        "answer": q.answer,
        "image_id": name,
        "row": q.row,
        "col": q.col,
        "instruction": q.instruction,
    }


def _pooled(lines: Iterator[str]) -> tuple[dict[str, dict[str, Any]], set[int]]:
    """The lines of all shards combined: what is known by instruction, and the asked grids."""
    combined: dict[str, dict[str, Any]] = {}
    grids: set[int] = set()
    for line in lines:
        content = json.loads(line)
        grids.update(content["grids"])
        for name, one in content["asked"].items():
            known = combined.setdefault(name, one)
            combined[name] = {
                "listed": known["listed"] and one["listed"],
                "longest": max(known["longest"], one["longest"]),
            }
    return combined, grids


def _task(
    prefix: str, part: Part, modality: str, instruction: str, listed: bool, longest: int
) -> dict[str, Any]:
    """The configuration of one task.

    Args:
        listed: whether the answers of every question can be listed.
        longest: length of the longest answer in bytes.
    """
    names = dict.fromkeys(filter(None, (_plain(part.name), instruction)))
    task: dict[str, Any] = {
        "task": "_".join([prefix, *names]),
        "custom_dataset": modality,
        "dataset_kwargs": {
            "data": f"{part.folder}data",
            "examples": f"{part.folder}fewshot",
            "asked": instruction,
        },
        "test_split": part.split,
        "fewshot_split": split_of(part),
        "fewshot_config": {
            "sampler": "first_n",
            "doc_to_text": "prompt",
            "doc_to_target": "answer",
        },
        "target_delimiter": " ",  # a prompt ends with `A:`
    }
    if modality == "text" and listed:
        task |= {
            "output_type": "multiple_choice",
            "doc_to_text": "prompt",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "metric_list": [_metric("acc")],
        }
    else:
        task |= {
            "output_type": "generate_until",
            "doc_to_text": "prompt" if modality == "text" else "prompt_mm",
            "doc_to_target": "answer",
            # No token is shorter than a byte, so an answer and its end of line fit.
            "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": longest + 2},
            "filter_list": [
                {
                    "name": "none",  # the answer follows a space
                    "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}],
                }
            ],
            "metric_list": [_metric("exact_match")],
        }
    if modality == "image":
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


def _yaml(content: dict[str, Any]) -> bytes:
    """The YAML of a task or group; the loader of the rows is a function of the helper file."""
    text = dump_yaml(content)
    text = re.sub(r"^custom_dataset: ", f"custom_dataset: !function {_HELPER}.", text, flags=re.M)
    return text.encode()


def _plain(name: str) -> str:
    """A name that needs no quotes on a command line."""
    return re.sub(r"[^\w.-]", "_", name)
