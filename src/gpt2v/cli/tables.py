"""Tables and numbers on the terminal."""

from gpt2v.messages import aligned


def table(rows: list[list[str]], right: int) -> list[str]:
    return [f"  {line}" for line in aligned(rows, right)]


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"


def interval(ends: list[float]) -> str:
    low, high = ends
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def p_value(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def _language(results: Row) -> list[str]:
    """Measures of text, accuracies of pairs, or the metrics of tasks."""
    rows = results["results"]
    if "metric" in rows[0]:
        head = ["", "metric", "value", "standard error", "questions"]
        cells = [
            [
                " ".join(filter(None, [row["task"], row["filter"].removeprefix("none")])),
                row["metric"],
                f"{row['value']:.4f}",
                "" if row["stderr"] is None else f"{row['stderr']:.4f}",
                "" if row["n_questions"] is None else f"{row['n_questions']:,}",
            ]
            for row in rows
        ]
        return table([head, *cells], 2)
    if "accuracy" in rows[0]:
        head = ["", "accuracy", "95% interval", "chance", "pairs"]
        cells = [
            [
                row["phenomenon"] or row["family"] or "all",
                percent(row["accuracy"]),
                interval(row["ci95"]),
                percent(row["chance"]),
                f"{row['n_pairs']:,}",
            ]
            for row in rows
        ]
        return table([head, *cells], 1)
    (row,) = rows
    counts = (f"{row[f'n_{key}']:,} {key}" for key in ("documents", "tokens", "bytes"))
    names = {"loss": "loss (nats per token)", "perplexity": "perplexity"}
    names |= {"bits_per_byte": "bits per byte"}
    cells = [
        [
            name,
            f"{row[key]:.4f}",
            "" if row[f"{key}_ci95"] is None else "[{:.4f}, {:.4f}]".format(*row[f"{key}_ci95"]),
        ]
        for key, name in names.items()
    ]
    return table([[f"{row['corpus']}: {', '.join(counts)}", "", "95% interval"], *cells], 1)
