"""The README of an export: a description, an example, baselines, and the command that made it."""

from gpt2v.config.pictures import DRAWN
from gpt2v.config.yaml12 import dump_yaml
from gpt2v.data.export.base import Gathered


def front_matter(gathered: Gathered, *paths: str) -> str:
    """The YAML block that tells Hugging Face `datasets` where the files are.

    Args:
        paths: patterns of the files of a part, with the fields {folder} and {split}.
    """
    configs = []
    for part in gathered.plan.parts:
        patterns = [path.format(folder=part.folder, split=part.split) for path in paths]
        files = {"split": part.split, "path": patterns if len(patterns) > 1 else patterns[0]}
        configs.append({"config_name": part.name or "default", "data_files": [files]})
    block = {
        "pretty_name": f"gpt2v {gathered.plan.title}",
        "license": "mit" if gathered.plan.tiles.source in DRAWN else "other",
        "language": ["en"],
        "task_categories": ["visual-question-answering", "question-answering"],
        "tags": ["synthetic", "grid", "modality-gap"],
        "configs": configs,
    }
    return f"---\n{dump_yaml(block)}---\n\n"


def card(gathered: Gathered, use: str) -> str:
    """The README without front matter.

    Args:
        use: how to read the files, in words.
    """
    plan, example = gathered.plan, gathered.examples[0]
    table = [
        "| part | split | grids | instruction | questions | chance | blind | bag |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for part, tally in zip(plan.parts, gathered.tallies, strict=True):
        for instruction, (n, rates) in tally.items():
            cells = [part.name or "-", part.split, part.n_images, instruction, n]
            shares = [f"{share:.1%}" for share in rates]
            table.append(f"| {' | '.join(str(cell) for cell in [*cells, *shares])} |")
    return "\n".join(
        [
            f"# gpt2v {plan.title}",
            "",
            plan.description,
            "",
            use,
            "",
            "A sample in words; in its image view a picture stands in the place of the lines that",
            "show the grid, and every other character is the same:",
            "",
            "```",
            example.text.rstrip("\n"),
            "```",
            "",
            "Accuracies on independent questions that need no model: *chance* is a uniform guess",
            "among the answers that may be, *blind* the best answer without the grid, *bag* the",
            "best answer from how often each object is in the grid, but not where.",
            "",
            *table,
            "",
            f"Data hash: `{gathered.data_hash}` (tiles and data specs). Made by (paths as seen",
            "from where it ran):",
            "",
            "```",
            gathered.command,
            "```",
            "",
            "The code that drew the samples is MIT-licensed; pictures of tiles that were read from",
            "elsewhere keep the licence of their source.",
            "",
        ]
    )
