"""Records as a table: one row per question, as they stand in `records.parquet`."""

import pyarrow as pa

from gpt2v.model.scoring import Records


def record_table(records: Records, **constants: str) -> pa.Table:
    """The records of one measurement.

    Args:
        constants: further columns, of which every row has the same value.
    """
    n = len(records["exact"])
    named = {name: [value] * n for name, value in constants.items()}
    strings = {name: pa.array(records[name], pa.string()) for name in ("truth", "prediction")}
    lists = {
        "choices": pa.array(records["choices"], pa.list_(pa.string())),
        "logprobs": pa.array(records["logprobs"], pa.list_(pa.float64())),
    }
    return pa.table({**named, **records, **strings, **lists})
