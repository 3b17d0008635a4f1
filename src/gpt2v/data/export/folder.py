"""Plain files: each sample as two Markdown documents, one in words and one with PNG pictures.

`metadata.jsonl` follows the image-folder convention of Hugging Face `datasets`, so the folder loads
as a data set too.
"""

import json
from pathlib import Path

from gpt2v.data.export.base import Files, Format, Gathered, Written
from gpt2v.data.export.card import card, front_matter
from gpt2v.data.export.plan import Part, Shard
from gpt2v.data.export.tables import check_datasets_path
from gpt2v.data.render.examples import Example
from gpt2v.registry import FORMATS


def markdown_document(item: Example, names: list[str]) -> str:
    """The document with pictures, whose files `names` are in the same folder."""
    return item.document(item.pictured([f"![example]({name})" for name in names], " "))


@FORMATS.register("folder")
class FolderFormat(Format):
    """`SPLIT/text/SHARD/000000.md`, and `SPLIT/image/SHARD/000000.md` with its pictures."""

    def check_path(self, to: Path) -> None:
        check_datasets_path(to)

    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        files, lines = {}, []
        root = f"{part.folder}{part.split}/"
        for item in items:
            stem = f"{item.index:06d}"
            text, image = f"text/{shard.number:05d}/{stem}.md", f"image/{shard.number:05d}/"
            names = part.picture_names(stem, len(item.pictures))
            files[root + text] = item.text.encode()
            files[f"{root}{image}{stem}.md"] = markdown_document(item, names).encode()
            for name, content in zip(names, item.pngs, strict=True):
                files[root + image + name] = content
            paths = [image + name for name in names]
            row = {
                **({"file_names": paths} if part.several else {"file_name": paths[0]}),
                "index": item.index,
                "text_document": text,
                "image_document": f"{image}{stem}.md",
                "classes": item.classes,
                "palette": item.palette,
                "table": item.table,
                "prompt": item.prompt,
                "questions": [q.row_of_table for q in item.asked],
            }
            lines.append(json.dumps(row, ensure_ascii=False))
        return Written(files, lines)

    def finish(self, gathered: Gathered) -> Files:
        for which, part in enumerate(gathered.plan.parts):
            lines = (f"{line}\n".encode() for line in gathered.lines(which))
            yield f"{part.folder}{part.split}/metadata.jsonl", lines
        use = (
            "Each sample is two Markdown documents, `text/` in words and `image/` with its "
            "pictures; `datasets.load_dataset` reads the pictures with `metadata.jsonl`."
        )
        here = "{folder}{split}/"
        front = front_matter(gathered, f"{here}metadata.jsonl", f"{here}image/**/*.png")
        yield "README.md", [(front + card(gathered, use)).encode()]
