"""What a section of the report is, and how its template is filled."""

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jinja2
from markupsafe import Markup, escape

from gpt2v.report import plots
from gpt2v.report.read import Run
from gpt2v.report.verdict import points

ANY = "*"  # among a section's kinds: every run has it


class Section(ABC):
    """A part of the page about one run, registered in `SECTIONS` under the name that is its anchor.

    A section of a user's own returns its HTML from `body`. The built-in ones return values from
    `content`, which fill the template of their name in `sections/`.

    Attributes:
        nav: title in the list of sections.
        order: sections of smaller numbers come first; `again`, the last, has 100.
        kinds: it is shown for runs with results of one of these kinds (`kind` of a results.json);
            a demo has those of its sub-runs too.
    """

    nav: ClassVar[str]
    order: ClassVar[int] = 80
    kinds: ClassVar[tuple[str, ...]]
    name: str = ""  # under which it is registered

    def content(self, run: Run) -> Mapping[str, Any] | None:
        """What the section's template shows; none: nothing to show."""
        raise NotImplementedError

    def body(self, run: Run) -> str | None:
        """The section's HTML, as `markupsafe.Markup`; other text is escaped. None: left out."""
        content = self.content(run)
        if content is None:
            return None
        return fill(f"sections/{self.name}.html.j2", content)

    def shows(self, run: Run) -> bool:
        """Whether it is meant for a run with these results."""
        return ANY in self.kinds or bool(run.kinds & set(self.kinds))

    def html(self, run: Run) -> Markup | None:
        """The HTML of a run's section, escaped where it is plain text; none: left out."""
        body = self.body(run) if self.shows(run) else None
        return None if body is None else escape(body)


def fill(template: str, content: Mapping[str, Any]) -> Markup:
    """A template of this folder with its values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(pct=plots.percent, points=points, duration=plots.duration)
    return Markup(environment.get_template(template).render(**content))
