"""Records as a table with one row per question, as in `records.parquet`."""

import pyarrow as pa

from gpt2v.model.scoring import Records


def record_table(records: Records, **constants: str) -> pa.Table:
    """The records of one measurement as a table.

    Args:
        constants: further columns with the same value in every row; they come first.
    """
    n = len(records["exact"])
    repeated = {name: [value] * n for name, value in constants.items()}
    strings = {name: pa.array(records[name], pa.string()) for name in ("truth", "prediction")}
    lists = {
        "tiles": pa.array(records["tiles"], pa.list_(pa.int64())),
        "choices": pa.array(records["choices"], pa.list_(pa.string())),
        "logprobs": pa.array(records["logprobs"], pa.list_(pa.float64())),
    }
    return pa.table({**repeated, **records, **strings, **lists})
