"""Write the report: the sections of each run, in `page.html.j2`."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gpt2v.registry import SECTIONS
from gpt2v.report.read import Run, load_run
from gpt2v.report.section import Section, fill
from gpt2v.report.verdict import headline, sentence, title, warnings
from gpt2v.runs import write_text

Folder = str | os.PathLike[str]


def write_report(folders: Folder | Sequence[Folder], out: Folder | None = None) -> Path:
    """Write `index.html` for one run or several; returns its path.

    The page needs no other file and no network. It appears whole or not at all.

    Args:
        out: folder for the page; none: `report/` of the run, or `runs/report` of several.

    Raises:
        UserError: a file that is needed is missing or broken.
    """
    paths = [Path(folders)] if isinstance(folders, str | os.PathLike) else list(map(Path, folders))
    page = render([load_run(path) for path in paths])
    if out is None:
        out = paths[0] / "report" if len(paths) == 1 else Path("runs") / "report"
    path = Path(out) / "index.html"
    write_text(path, page)
    return path


def render(runs: Sequence[Run]) -> str:
    """The page about some runs; equal runs give equal text."""
    several = len(runs) > 1
    shown = [_shown(run, f"r{i + 1}-" if several else "") for i, run in enumerate(runs)]
    what = f"{len(runs)} runs" if several else shown[0]["results"]["kind"]
    if not several and (tiles := runs[0].results.get("tiles")):
        what = f"{what}, {tiles}"
    return fill("page.html.j2", {"title": what, "runs": shown})


def sections() -> list[Section]:
    """Every registered section, in the order of the page."""
    made = []
    for name, entry in SECTIONS.items():
        section: Section = entry.load()()
        section.name = name
        made.append(section)
    return sorted(made, key=lambda section: section.order)


def _shown(run: Run, anchor: str) -> dict[str, Any]:
    """What the page shows of a run, whose ids begin with `anchor`."""
    head = headline(run)
    made = [(section, section.html(run)) for section in sections()]
    return {
        "folder": run.folder.name,
        "anchor": anchor,
        "results": run.results,
        "title": title(run),
        "head": head,
        "verdict": sentence(head, run),
        "warnings": warnings(run, head),
        "sections": [
            {"name": section.name, "nav": section.nav, "html": _anchored(html, anchor)}
            for section, html in made
            if html is not None
        ],
    }


def _anchored(html: Markup, anchor: str) -> Markup:
    """The same HTML with ids that are those of one run alone."""
    if not anchor:
        return html
    return Markup(re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{anchor}", str(html)))
