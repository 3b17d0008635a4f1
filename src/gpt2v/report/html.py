"""Write the report: fill `template.html.j2` with the run's figures, charts and sample grids."""

from pathlib import Path

import jinja2

from gpt2v.report import plots, sections
from gpt2v.report.read import Run, load_run
from gpt2v.report.verdict import headline, points, sentence, warnings
from gpt2v.runs import write_text


def write_report(run_dir: Path, out_dir: Path | None = None) -> Path:
    """Write `index.html` for the run in `run_dir`, by default into its `report/`; return its path.

    The page needs no other file and no network. It appears whole or not at all. Raises `UserError`
    naming the file where one that is needed is missing or broken.
    """
    page = render(load_run(Path(run_dir)))
    folder = Path(out_dir) if out_dir is not None else Path(run_dir) / "report"
    path = folder / "index.html"
    write_text(path, page)
    return path


def render(run: Run) -> str:
    """The page of a run; equal runs give equal text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(pct=plots.percent, points=points, duration=plots.duration)
    head = headline(run)
    return environment.get_template("template.html.j2").render(
        results=run.results,
        rows=run.rows,
        head=head,
        verdict=sentence(head),
        warnings=warnings(run, head),
        overview=sections.overview(head),
        lost=sections.lost(run, head),
        samples=sections.samples(run),
        maps=sections.cell_maps(run),
        objects=sections.objects(run),
        ladder=sections.ladder(run, head),
        curves=sections.curves(run),
        seconds=sections.seconds(run.results),
        facts=sections.facts(run.results),
    )
