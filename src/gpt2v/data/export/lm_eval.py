"""A task directory of lm-evaluation-harness: `lm_eval --include_path DIR --tasks NAME`.

Each instruction is two tasks: one in words (`multiple_choice` if its answers can be listed, else
`generate_until`) and one with pictures (`generate_until` for `hf-multimodal`). Both read the same
rows, one for each question. The tasks find the rows relative to their own files, so they run from
any working directory.
"""

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

from gpt2v.config.yaml12 import dump_yaml
from gpt2v.data.export.base import Files, Format, Gathered, Written
from gpt2v.data.export.card import card
from gpt2v.data.export.plan import Part, Shard
from gpt2v.data.export.tables import IMAGE, Columns, listed, parquet, picture, value
from gpt2v.data.render.examples import Example
from gpt2v.errors import UserError
from gpt2v.registry import FORMATS

PLACEHOLDER = "<image>"  # lm_eval replaces it by the model's own token
_HELPER = "gpt2v_rows"  # the Python file that loads the rows of the tasks


@FORMATS.register("lm-eval")
class LmEvalFormat(Format):
    """`data/SPLIT-00000-of-00012.parquet`, and a YAML file for each task and group of tasks."""

    def check(self, part: Part) -> None:
        if part.mode == "chained":
            raise UserError(
                "grid.mode: lm-eval asks each question on its own; mode must be independent"
            )

    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        rows = [row for item in items for row in _rows(part, item)]
        asked: dict[str, dict[str, Any]] = {}  # what `finish` needs to know of each instruction
        for row in rows:
            known = asked.setdefault(row["instruction"], {"listed": True, "longest": 0})
            known["listed"] &= bool(row["choices"])
            known["longest"] = max(known["longest"], len(row["answer"].encode()))
        name = f"{part.folder}data/{shard.file(part.split)}.parquet"
        return Written({name: parquet(_columns(part.several), rows)}, [json.dumps(asked)])

    def finish(self, gathered: Gathered) -> Files:
        prefix = f"gpt2v_{_plain(gathered.plan.title)}"
        groups: dict[str, list[dict[str, Any]]] = {}
        for which, part in enumerate(gathered.plan.parts):
            asked = _pooled(gathered.lines(which))
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
            "`--model hf`, those with pictures with `--model hf-multimodal`."
        )
        yield "README.md", [card(gathered, use).encode()]


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
            "prompt": item.table + item.prompt + q.question,
            "prompt_mm": marks + item.prompt + q.question,
            "choices": q.choices,
            "label": q.choices.index(q.answer) if q.choices else -1,
            "answer": q.answer,
            **({"images": pictures} if part.several else {"image": pictures[0]}),
            "image_id": name,
            "row": q.row,
            "col": q.col,
            "instruction": q.instruction,
        }


def _pooled(lines: Iterator[str]) -> dict[str, dict[str, Any]]:
    """The lines of all shards combined, by instruction."""
    combined: dict[str, dict[str, Any]] = {}
    for line in lines:
        for name, one in json.loads(line).items():
            known = combined.setdefault(name, one)
            combined[name] = {
                "listed": known["listed"] and one["listed"],
                "longest": max(known["longest"], one["longest"]),
            }
    return combined


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
        "dataset_kwargs": {"data": f"{part.folder}data", "asked": instruction},
        "test_split": part.split,
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
    return {**task, "metadata": {"version": 1}}


def _group(name: str, tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """The configuration of a group of tasks."""
    metrics = {metric["metric"] for task in tasks for metric in task["metric_list"]}
    return {
        "group": name,
        "task": [task["task"] for task in tasks],
        "aggregate_metric_list": [
            {"metric": metric, "weight_by_size": True} for metric in sorted(metrics)
        ],
        "metadata": {"version": 1},
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
