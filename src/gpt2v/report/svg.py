"""Turn a matplotlib figure into inline SVG that uses the colours of the page.

A chart is drawn in stand-in colours, which are then replaced by CSS variables such as `var(--ink)`.
So one drawing works on the light and on the dark page. Text stays text. The bytes depend only on
the data.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

WIDTH = 4.7  # inches; 338 points, about the width of a phone, so that text is not shrunk there
NAMES = ("ink", "muted", "rule", "text", "image", "lm", "probe", "bad", "surface")
STAND_IN = {name: f"#0102{index + 3:02x}" for index, name in enumerate(NAMES)}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gpt2v",
    "text.parse_math": False,  # a class may be called "$x"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": STAND_IN["ink"],
    "axes.edgecolor": STAND_IN["rule"],
    "axes.labelcolor": STAND_IN["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": STAND_IN["rule"],
    "ytick.color": STAND_IN["rule"],
    "xtick.labelcolor": STAND_IN["muted"],
    "ytick.labelcolor": STAND_IN["muted"],
    "grid.color": STAND_IN["rule"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the report's style within the block."""
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change the report
        mpl.rcParams.update(STYLE)
        yield


def to_svg(figure: Figure, name: str, label: str, enlarged: float = 1.5) -> Markup:
    """The figure as an <svg> element in the page's colours; its ids begin with `name`.

    A screen reader takes it for one picture and reads `label` instead of its letters. Where there
    is room, it is shown up to `enlarged` times as large as it is drawn.
    """
    buffer = io.StringIO()
    no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():  # the browser's fonts have the letters that this font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    width, height = figure.get_size_inches()
    opening = (
        f'<svg role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {72 * width:g} {72 * height:g}" style="max-width:{enlarged * width:.2f}in">'
    )
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    for key, colour in STAND_IN.items():
        svg = re.sub(rf"((?:fill|stroke|color): ?){colour}", rf"\1var(--{key})", svg)
    return Markup(svg)
