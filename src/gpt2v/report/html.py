"""Write the report: the sections of each run, in `page.html.j2`."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gpt2v.config.choice import choose
from gpt2v.errors import UserError, within
from gpt2v.messages import say
from gpt2v.registry import SECTIONS
from gpt2v.report.read import Run, by_part, load_run
from gpt2v.report.section import Section, fill
from gpt2v.report.verdict import headline, sentence, title, warnings
from gpt2v.storage.files import write_text
from gpt2v.storage.ownership import owned

Folder = str | os.PathLike[str]
_OURS = b"<title>gpt2v report: "  # in the head of every page


def write_report(
    folders: Folder | Sequence[Folder], out: Folder | None = None, sections: Any = None
) -> Path:
    """Write `index.html` for one or more runs; returns its path.

    The page needs no other file and no network. Readers see the whole page or none of it.

    Args:
        folders: one run directory, or several.
        out: folder of the page; None: `report/` in the only run, or `runs/report` for several.
        sections: names of sections, or mappings of a name and options; None: all.

    Raises:
        UserError: a file that is needed is missing or damaged, no such section, there is a page
            that gpt2v did not write, or another process works there.
    """
    paths = [Path(folders)] if isinstance(folders, str | os.PathLike) else list(map(Path, folders))
    chosen = sections_of(sections)
    runs = [load_run(path) for path in paths]
    page = render(runs, chosen)
    if out is None:
        out = paths[0] / "report" if len(paths) == 1 else Path("runs") / "report"
    path = Path(out) / "index.html"
    with owned(path.parent):
        if path.exists() and not _is_ours(path):
            raise UserError(f"{path}: was not written by gpt2v; choose another --out")
        write_text(path, page)
    for run in runs:
        if run.missing:
            say(f"{run.folder}: the report lacks what is not there: {', '.join(run.missing)}")
    return path


def _is_ours(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            return _OURS in file.read(10_000)
    except OSError:
        return False


def render(runs: Sequence[Run], sections: Sequence[Section]) -> str:
    """The HTML of the page. Equal runs give equal text.

    Args:
        runs: of a suite, each part is shown like a run, after what is about all its parts.
    """
    each = [(run, by_part(run)) for run in runs]
    parts = [part for _, own in each for part in own]
    several = len(parts) > 1
    shown = [_shown(run, sections, f"r{i + 1}-" if several else "") for i, run in enumerate(parts)]
    suites = [run for run, own in each if len(own) > 1]
    wholes = [_whole(run, sections, f"s{i + 1}-") for i, run in enumerate(suites)]
    n = len({run.folder for run in runs})
    what = f"{n} runs" if n > 1 else shown[0]["results"]["kind"]
    if suites:
        what = f"{what}, in parts"
    if not several and (tiles := runs[0].results.get("tiles")):
        what = f"{what}, {tiles}"
    some = [whole for whole in wholes if whole["sections"]]
    return fill("page.html.j2", {"title": what, "runs": shown, "suites": some})


def sections_of(choices: Any = None) -> list[Section]:
    """The chosen sections, or all, in the order of the page.

    Raises:
        UserError: no such section, or an option is wrong.
    """
    if choices is not None and not isinstance(choices, list):
        choices = [choices]
    with within("--sections: "):
        chosen = [choose(SECTIONS, name) for name in (SECTIONS if choices is None else choices)]
    ordered = []
    for choice in chosen:
        section: Section = choice.load()()
        section.name = str(choice)
        ordered.append(section)
    return sorted(ordered, key=lambda section: section.order)


def _shown(run: Run, sections: Sequence[Section], anchor: str) -> dict[str, Any]:
    """The values of one run for the page's template; all its ids begin with `anchor`."""
    head = headline(run)
    own = [section for section in sections if not (run.part and section.whole)]
    return {
        "name": f"{run.folder.name}: {run.part}" if run.part else run.folder.name,
        "anchor": anchor,
        "results": run.results,
        "title": title(run),
        "model_name": run.model_name,
        "head": head,
        "verdict": sentence(head, run),
        "warnings": warnings(run, head),
        "sections": _sections(run, own, anchor),
    }


def _whole(run: Run, sections: Sequence[Section], anchor: str) -> dict[str, Any]:
    """What is about all parts of a suite, for the page's template."""
    own = [section for section in sections if section.whole]
    return {"name": run.folder.name, "anchor": anchor, "sections": _sections(run, own, anchor)}


def _sections(run: Run, sections: Sequence[Section], anchor: str) -> list[dict[str, Any]]:
    """The sections that are not left out."""
    shown = [(section, section.html(run)) for section in sections]
    return [
        {"name": section.name, "nav": section.nav, "html": _beside_others(html, anchor)}
        for section, html in shown
        if html is not None
    ]


def _beside_others(html: Markup, anchor: str) -> Markup:
    """The HTML of a section for a page of several runs, whose ids begin with `anchor`.

    No other run has the same ids, and each heading is one level lower, below that of the run.
    """
    if not anchor:
        return html
    anchored = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{anchor}", str(html))
    lower = re.sub(r"(</?h)([1-5])\b", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", anchored)
    return Markup(lower)
