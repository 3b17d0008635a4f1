"""Exports that tests share: small configurations of every kind, and what a folder holds."""

from pathlib import Path

from gpt2v.config.measuring import ExportConfig
from gpt2v.data.grids.instructions import NAMES

TILES = {"source": "sprites", "per_class": 20, "size": 8}
GRIDS = {
    "composite": {},
    "multi": {"rows": 2, "cols": 2, "picture": {"layout": "multi"}},
    "ragged": {"rows": [1, 3], "cols": [1, 4], "palette": [2, 5], "form": "csv"},
    "mixed": {
        "rows": [2, 3],
        "instructions": dict.fromkeys(NAMES, 1.0),
        "questions": 6,
        "augment": {"paraphrase": True, "index_bases": [0, 1]},
    },
    "chained": {"rows": 2, "mode": "chained", "picture": {"gap": 2, "border": 1}},
}


def config_of(name: str, n: int = 11, **more) -> ExportConfig:
    data = {"tiles": TILES, "grid": GRIDS[name], "n_images": n, "shard_size": 4, **more}
    return ExportConfig.model_validate(data)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
