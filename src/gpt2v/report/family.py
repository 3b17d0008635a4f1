"""What a family of decoders says of where accuracy on pictures is lost, and no more."""

from collections.abc import Sequence

from gpt2v.probing.beside import agreed
from gpt2v.report.checked import Row
from gpt2v.report.words import points


def family_words(rows: Sequence[Row]) -> str:
    """Two clauses about decoders at the projector's input: what is lost after it, and before.

    A decoder errs, too. So a loss is told only if the intervals of all decoders are on one side of
    0, and a model ahead of them all does not show that nothing is lost.

    Args:
        rows: at least one, see `probing.beside.at_site`.
    """
    many = len(rows) > 1
    who = f"{len(rows)} decoders" if many else "one decoder"
    who += " at the projector's input"
    s = "" if many else "s"
    low, high, sign = agreed([row["difference"] for row in rows], [row["ci95"] for row in rows])
    if sign > 0:
        more = f"{_range(low, high)} points more than the model says"
        after = f"{who} name{s} {more}: lost in the projector or the language model"
    elif sign < 0:
        ahead = f"the model is {_range(-high, -low)} points ahead of {who}"
        after = f"no loss after the projector's input shows: {ahead}"
    else:
        between = f"{who} differ{s} from the model by {_range(low, high)} points"
        after = f"no loss after the projector's input can be told: {between}"
    low, high, sign = agreed(
        [row["below_text"] for row in rows], [row["below_text_ci95"] for row in rows]
    )
    if sign > 0:
        they, their = ("they miss", "their") if many else ("it misses", "its")
        missed = f"{_range(low, high)} points of what is answered from text"
        return (
            f"{after}; {they} {missed}, because of the picture, the encoder or {their} own errors"
        )
    return f"{after}; no loss before can be told"


def _range(low: float, high: float) -> str:
    ends = dict.fromkeys((points(low), points(high)))
    return " to ".join(ends)
