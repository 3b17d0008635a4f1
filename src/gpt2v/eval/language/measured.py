"""What a measurement of language has found, before it is written."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Found:
    """Results and records.

    Attributes:
        rows: of results.json.
        records: a row for each document, pair or question.
        data_hash: equal ones mean that the same was measured.
        facts: further keys of results.json.
    """

    rows: list[dict[str, Any]]
    records: pa.Table
    data_hash: str
    facts: dict[str, Any] = field(default_factory=dict)
