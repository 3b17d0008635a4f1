"""Plain files: each sample as two Markdown documents, in words and with PNG pictures.

`metadata.jsonl` follows the image-folder convention of Hugging Face `datasets`, so the folder loads
as a data set too.
"""

import json

from gpt2v.data.export.base import Files, Format, Gathered, Written
from gpt2v.data.export.card import card, front_matter
from gpt2v.data.export.content import Item
from gpt2v.data.export.plan import Part, Shard


def markdown_document(item: Item, stem: str, several: bool) -> str:
    """The image-only document, whose pictures lie beside it under the same name."""
    marks = [f"![example]({name})" for name in picture_names(item, stem, several)]
    return item.document(item.pictured(marks, " "))


def picture_names(item: Item, stem: str, several: bool) -> list[str]:
    """`stem.png`, or with a picture for each cell `stem-0.png` and so on, in raster order."""
    if not several:
        return [f"{stem}.png"]
    return [f"{stem}-{k}.png" for k in range(len(item.pictures))]


class FolderFormat(Format):
    """`SPLIT/text/SHARD/000000.md`, and `SPLIT/image/SHARD/000000.md` with its pictures."""

    name = "folder"

    def shard(self, part: Part, shard: Shard, items: list[Item]) -> Written:
        files, lines = {}, []
        root = f"{part.folder}{part.split}/"
        for item in items:
            stem = f"{item.index:06d}"
            text, image = f"text/{shard.number:05d}/{stem}.md", f"image/{shard.number:05d}/"
            names = picture_names(item, stem, part.several)
            files[root + text] = item.text.encode()
            files[f"{root}{image}{stem}.md"] = markdown_document(item, stem, part.several).encode()
            for name, content in zip(names, item.pictures, strict=True):
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
                "questions": [
                    {
                        "instruction": q.instruction,
                        "question": q.question,
                        "answer": q.answer,
                        "row": q.row,
                        "col": q.col,
                    }
                    for q in item.questions
                ],
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
