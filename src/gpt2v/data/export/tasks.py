"""What the tasks of all evaluation harnesses share: a row of a parquet file for each question.

A harness reads `data/SPLIT-00000-of-00012.parquet` below the folder of a part, and a YAML file for
each task: the questions of one instruction in one modality.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpt2v.data.export.base import Format, Gathered, Written
from gpt2v.data.export.lm_eval_examples import content_of
from gpt2v.data.export.plan import Part, Shard
from gpt2v.data.export.tables import IMAGE, Columns, listed, parquet, picture, value
from gpt2v.data.render.examples import Example, Question
from gpt2v.data.text_pieces import begins_another
from gpt2v.errors import UserError

PLACEHOLDER = "<image>"  # of a picture in a prompt; a harness replaces it by the model's own token
PROMPT = {"text": "prompt", "image": "prompt_mm", "text+image": "prompt_both"}  # columns


class TaskFormat(Format):
    """The base of the formats for evaluation harnesses, which write the same rows.

    Attributes:
        harness: its name.
    """

    harness: str

    def check(self, part: Part) -> None:
        if part.mode == "chained":
            raise UserError(
                f"grid.mode: {self.harness} asks each question on its own; mode must be independent"
            )

    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        rows = [row for item in items for row in _rows(part, item)]
        asked: dict[str, dict[str, Any]] = {}  # what `finish` needs to know of each instruction
        for row in rows:
            known = asked.setdefault(row["instruction"], {"listed": True, "longest": 0})
            known["listed"] &= bool(row["choices"])
            known["longest"] = max(known["longest"], len(row["answer"].encode()))
        line = json.dumps({"asked": asked, "grids": [content_of(item) for item in items]})
        return Written({file_of(part, shard): parquet(columns(part), rows)}, [line])


@dataclass(frozen=True)
class Asked:
    """What is known of the questions of one instruction about the grids of one part."""

    part: Part
    instruction: str
    listed: bool  # whether the answers of every question can be listed
    longest: int  # length of the longest answer in bytes

    @property
    def name(self) -> str:
        """The end of the names of its tasks."""
        return "_".join(dict.fromkeys(filter(None, (plain(self.part.name), self.instruction))))


def asked_of(gathered: Gathered, which: int) -> tuple[list[Asked], set[int]]:
    """The instructions of a part in order, and `content_of` the grids that it asks about."""
    combined: dict[str, dict[str, Any]] = {}
    grids: set[int] = set()
    for line in gathered.lines(which):
        content = json.loads(line)
        grids.update(content["grids"])
        for name, one in content["asked"].items():
            known = combined.setdefault(name, one)
            combined[name] = {
                "listed": known["listed"] and one["listed"],
                "longest": max(known["longest"], one["longest"]),
            }
    part = gathered.plan.parts[which]
    return [Asked(part, name, **combined[name]) for name in gathered.tallies[which]], grids


def prefix_of(gathered: Gathered, modality: str = "") -> str:
    """What the names of the tasks begin with: the name of the group of a modality's tasks."""
    return "_".join(filter(None, ("gpt2v", plain(gathered.plan.title), plain(modality))))


def file_of(part: Part, shard: Shard) -> str:
    """Name of the file of a shard below the export's folder."""
    return f"{part.folder}data/{shard.file(part.split)}.parquet"


def columns(part: Part) -> Columns:
    """The columns of a row; `images` with a picture for each cell, else `image`."""
    shown = dict.fromkeys(("text", "image", *part.modalities))
    return {
        **{PROMPT[modality]: value("string") for modality in shown},
        "choices": listed(value("string")),
        "label": value("int64"),
        "answer": value("string"),
        **({"images": listed(IMAGE)} if part.several else {"image": IMAGE}),
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
        row = row_in_words(item, q, name)
        yield {
            **row,
            "prompt_mm": marks + item.prompt + q.question,
            "prompt_both": marks + row["prompt"],
            **({"images": pictures} if part.several else {"image": pictures[0]}),
        }


def row_in_words(item: Example, q: Question, name: str) -> dict[str, Any]:
    """The columns of a row that need no pictures.

    Where a choice begins another one, the line break after an answer belongs to them.

    Args:
        name: of the grid.
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


def plain(name: str) -> str:
    """A name that needs no quotes on a command line."""
    return re.sub(r"[^\w.-]", "_", name)
