"""What a measurement of language has found, as a small table for the terminal."""

from typing import Any

from gpt2v.cli.tables import interval, p_value, percent, table

Row = dict[str, Any]


def language(results: Row) -> list[str]:
    """Measures of text, accuracies of pairs, or the metrics of tasks."""
    rows = results["results"]
    if "metric" in rows[0]:
        return _metrics(rows)
    if "accuracy" in rows[0]:
        return _accuracies(rows)
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


def _metrics(rows: list[Row]) -> list[str]:
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


def _accuracies(rows: list[Row]) -> list[str]:
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


def texts(results: Row) -> list[str]:
    """Differences in bits per byte of the same documents."""
    head = ["other", "first", "other", "other - first", "95% interval", "p", "p (Holm)"]
    rows = [
        [
            row["other"],
            f"{row['first_bits_per_byte']:.4f}",
            f"{row['other_bits_per_byte']:.4f}",
            f"{row['difference']:+.4f}",
            "[{:+.4f}, {:+.4f}]".format(*row["ci95"]),
            p_value(row["p"]),
            p_value(row["p_holm"]),
        ]
        for row in results["results"]
    ]
    n = results["results"][0]["n_documents"]
    first = f"bits per byte of {n:,} documents; first: {results['compared'][0]}"
    return [first, *table([head, *rows], 1)]
