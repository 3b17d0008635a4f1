"""Tables and numbers on the terminal."""

from gpt2v.messages import aligned


def table(rows: list[list[str]], right: int) -> list[str]:
    """Indented lines with aligned columns, those from number `right` on at the right."""
    return [f"  {line}" for line in aligned(rows, right)]


def percent(rate: float) -> str:
    """`0.973` -> `97.3%`."""
    return f"{100 * rate:.1f}%"


def interval(ends: list[float]) -> str:
    """`[0.95, 0.97]` -> `[95.0, 97.0]`, in percent."""
    low, high = ends
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def p_value(value: float) -> str:
    """`0.03` -> `0.0300`; very small ones as a bound."""
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
