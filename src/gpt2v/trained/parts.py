"""The parts that a training starts from, compared with its own tiles."""

from gpt2v.data.tiles.bank import TileBank
from gpt2v.messages import say
from gpt2v.trained.compare import overlap
from gpt2v.trained.record import TrainedOn


def say_differences(key: str, model: str, record: TrainedOn | None, bank: TileBank) -> None:
    """Say in one line how the objects of a part's training differ from those of this training.

    Args:
        key: of the part in the configuration.
        model: as the user named it.
        record: what it was trained on; None: unknown, as for hub ids.
    """
    if record is None or record.class_names is None:
        return
    found = []
    others = [name for name in bank.class_names if name not in record.class_names]
    if others:
        n = len(bank.class_names)
        found.append(f"{len(others)} of these {n} classes, the first of them '{others[0]}'")
    if record.tile_size not in (None, bank.size):
        found.append(f"tiles of {bank.size} pixels, but of {record.tile_size}")
    if record.source not in (None, bank.name):
        found.append(f"{bank.name} tiles, but {record.source}")
    lines = [f"was not trained on {'; '.join(found)}"] if found else []
    for split in ("val", "test"):
        n, total, _ = overlap(bank, split, record.pictures)
        if n:
            lines.append(
                f"was trained on {n} of the {total} {split} pictures, so these are not new"
            )
    if lines:
        say(f"{key}: {model}: {', and '.join(lines)}")
