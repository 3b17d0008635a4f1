"""What a family of decoders says of where accuracy on pictures is lost, and no more."""

from collections.abc import Sequence

from gpt2v.probing.beside import agreed, of_decoders
from gpt2v.report.checked import Row
from gpt2v.report.words import points


def at_site(rows: Sequence[Row], site: str | None, layer: int | None) -> list[Row]:
    """The rows of single decoders at a site.

    Args:
        rows: of `beside` in results.json.
    """
    return [row for row in of_decoders(rows) if (row["site"], row["layer"]) == (site, layer)]


def family_words(rows: Sequence[Row]) -> str:
    """Two clauses about the decoders of one site: the loss in reading, and that in the encoder.

    Args:
        rows: at least one, see `at_site`.
    """
    many = len(rows) > 1
    who = f"{len(rows)} decoders of the encoder" if many else "one decoder of the encoder"
    s = "" if many else "s"
    low, high, sign = agreed([row["difference"] for row in rows], [row["ci95"] for row in rows])
    if sign > 0:
        more = f"{_range(low, high)} points more than is said"
        reading = f"{who} name{s} {more}: that is lost in reading"
    elif sign < 0:
        ahead = f"{_range(-high, -low)} points ahead of {'every one' if many else 'it'}"
        reading = f"none is lost in reading, as far as {who} tell{s}: the model is {ahead}"
    else:
        between = f"{_range(low, high)} points"
        reading = f"no loss in reading can be told: {who} differ{s} from the model by {between}"
    low, high, sign = agreed(
        [row["below_text"] for row in rows], [row["below_text_ci95"] for row in rows]
    )
    if sign > 0:
        they = "they miss" if many else "it misses"
        return f"{reading}; {they} {_range(low, high)} points of what is read from text"
    return f"{reading}; no loss in the encoder can be told"


def _range(low: float, high: float) -> str:
    ends = dict.fromkeys((points(low), points(high)))
    return " to ".join(ends)
