"""The base class of all sections of the report, and the function that fills a template."""

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jinja2
from markupsafe import Markup, escape

from gpt2v.errors import UserError
from gpt2v.report.read import Run
from gpt2v.report.words import duration, percent, points

ANY = "*"  # in a section's kinds: it is shown for every run


class Section(ABC):
    """A section of the page about one run. Its name in `SECTIONS` is also its anchor.

    A user's own section overrides `body`, which returns HTML. The built-in sections override
    `content`, which returns the values for the template with the section's name in `sections/`. The
    heading of a section is an h2, and those within it are h3 and h4; on a page of several runs each
    is lowered by one.

    Attributes:
        nav: title in the list of sections.
        order: sections are sorted by this number; `again`, the last one, has 100.
        kinds: the section is shown for runs whose results have one of these kinds (`kind` in
            results.json). A demo also has the kinds of its sub-runs.
        whole: of a suite, the section is shown once, about all parts, not in each of them.
    """

    nav: ClassVar[str]
    order: ClassVar[int] = 80
    kinds: ClassVar[tuple[str, ...]]
    whole: ClassVar[bool] = False
    name: str = ""  # its name in `SECTIONS`

    def __init_subclass__(cls) -> None:
        if isinstance(getattr(cls, "kinds", ()), str):
            raise UserError(f"{cls.__name__}.kinds: must be a tuple of kinds, not a string")

    def content(self, run: Run) -> Mapping[str, Any] | None:
        """The values for the section's template; None leaves the section out."""
        raise NotImplementedError

    def body(self, run: Run) -> str | None:
        """The HTML as `markupsafe.Markup` (a plain string is escaped); None for no section."""
        content = self.content(run)
        if content is None:
            return None
        made_by = run.results.get("command")
        return fill(f"sections/{self.name}.html.j2", {"command": made_by, **content})

    def shows(self, run: Run) -> bool:
        """Whether the section is for a run of this kind."""
        return ANY in self.kinds or bool(run.kinds & set(self.kinds))

    def html(self, run: Run) -> Markup | None:
        """The HTML of the section for a run, or None if it is left out."""
        body = self.body(run) if self.shows(run) else None
        return None if body is None else escape(body)


def fill(template: str, content: Mapping[str, Any]) -> Markup:
    """Fill a template of this folder; raises an error if a value is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(pct=percent, points=points, duration=duration)
    return Markup(environment.get_template(template).render(**content))
