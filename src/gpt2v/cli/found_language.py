"""What a measurement of language has found, as a small table for the terminal."""

from typing import Any

from gpt2v.cli.tables import p_value, table

Row = dict[str, Any]


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
