"""Hugging Face parquet: `datasets.load_dataset(DIR)` gives one row for each sample."""

from pathlib import Path
from typing import Any

from gpt2v.data.export.base import Files, Format, Gathered, Written
from gpt2v.data.export.card import card, front_matter
from gpt2v.data.export.plan import Part, Shard
from gpt2v.data.export.tables import (
    IMAGE,
    Columns,
    check_datasets_path,
    listed,
    parquet,
    picture,
    value,
)
from gpt2v.data.render.examples import Example
from gpt2v.registry import FORMATS


def _columns(several: bool) -> Columns:
    """The columns of a row; `images` with a picture for each cell, else `image`."""
    question = {
        "instruction": value("string"),
        "question": value("string"),
        "answer": value("string"),
        "row": value("int64"),
        "col": value("int64"),
    }
    return {
        "index": value("int64"),
        "split": value("string"),
        **({"images": listed(IMAGE)} if several else {"image": IMAGE}),
        "table": value("string"),
        "prompt": value("string"),
        "questions": listed(question),
        "classes": listed(listed(value("string"))),
        "palette": listed(value("string")),
        "text": value("string"),
    }


@FORMATS.register("parquet")
class ParquetFormat(Format):
    """`data/SPLIT-00000-of-00012.parquet`; each part of a suite is a configuration of its own."""

    def check_path(self, to: Path) -> None:
        check_datasets_path(to)

    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        content = parquet(_columns(part.several), [_row(part, item) for item in items])
        return Written({f"{_folder(part)}{shard.file(part.split)}.parquet": content})

    def finish(self, gathered: Gathered) -> Files:
        names = [part.name for part in gathered.plan.parts if part.name]
        which = f', "{names[0]}"' if len(names) > 1 else ""
        use = (
            f"`datasets.load_dataset(DIR{which})` reads it. `text` is the whole text view: "
            "`table`, then `prompt`, then a line for each of `questions`."
        )
        path = "{folder}{split}-*.parquet" if names else "data/{split}-*.parquet"
        yield "README.md", [(front_matter(gathered, path) + card(gathered, use)).encode()]


def _folder(part: Part) -> str:
    return part.folder or "data/"


def _row(part: Part, item: Example) -> dict[str, Any]:
    names = part.picture_names(f"{part.split}-{item.index:06d}", len(item.pictures))
    pictures = [picture(*both) for both in zip(item.pngs, names, strict=True)]
    return {
        "index": item.index,
        "split": part.split,
        **({"images": pictures} if part.several else {"image": pictures[0]}),
        "table": item.table,
        "prompt": item.prompt,
        "questions": [q.row_of_table for q in item.asked],
        "classes": item.classes,
        "palette": item.palette,
        "text": item.text,
    }
