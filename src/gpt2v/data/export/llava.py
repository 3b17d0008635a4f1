"""LLaVA's conversations: one JSON list for each part, and its picture files next to it.

The format is that of LLaVA's `docs/Finetune_Custom_Data.md`. If a sample has several pictures,
`image` is a list, as LLaVA-NeXT expects. Paths of pictures are relative to the JSON file.
"""

import json
from collections.abc import Iterator

from gpt2v.data.export.base import Files, Format, Gathered, Written
from gpt2v.data.export.card import card
from gpt2v.data.export.plan import Part, Shard
from gpt2v.data.render.examples import Example, Question
from gpt2v.data.text_pieces import IMAGE
from gpt2v.registry import FORMATS


@FORMATS.register("llava")
class LlavaFormat(Format):
    """One conversation for each sample (chained questions) or each question (independent ones)."""

    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        files, lines = {}, []
        for item in items:
            stem = f"{shard.number:05d}/{item.index:06d}"
            names = part.picture_names(f"images/{stem}", len(item.pictures))
            for name, content in zip(names, item.pngs, strict=True):
                files[part.folder + name] = content
            asked = [[question] for question in item.asked]
            if part.mode == "chained":
                asked = [list(item.asked)]
            for slot, questions in enumerate(asked):
                entry = {
                    "id": f"{item.index:06d}" + (f"-{slot}" if len(asked) > 1 else ""),
                    "image": names if part.several else names[0],
                    "conversations": _turns(item, questions),
                }
                lines.append(json.dumps(entry, ensure_ascii=False))
        return Written(files, lines)

    def finish(self, gathered: Gathered) -> Files:
        for which, part in enumerate(gathered.plan.parts):
            yield f"{part.folder}{part.split}.json", _listed(gathered.lines(which))
        first = gathered.plan.parts[0]
        use = (
            "Conversations in LLaVA's format: `--data_path "
            f"{first.folder}{first.split}.json --image_folder {first.folder or '.'}`."
        )
        yield "README.md", [card(gathered, use).encode()]


def _turns(item: Example, questions: list[Question]) -> list[dict[str, str]]:
    """The turns of a conversation that asks these questions."""
    shown = item.pictured([IMAGE] * len(item.pictures)) + item.prompt
    turns = []
    for question in questions:
        turns.append({"from": "human", "value": shown + question.question})
        turns.append({"from": "gpt", "value": question.answer})
        shown = ""  # only the first turn shows the grid
    return turns


def _listed(lines: Iterator[str]) -> Iterator[bytes]:
    """The chunks of a JSON list whose entries are JSON lines."""
    before = "[\n"
    for line in lines:
        yield (before + line).encode()
        before = ",\n"
    yield b"\n]\n"
