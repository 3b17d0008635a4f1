"""gpt2v: one task, two modalities. docs/python.md shows the front door, whose names are below.

Each name is imported when it is first used, so that `import gpt2v` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gpt2v.plot as plot
    from gpt2v.api.demo import run_demo
    from gpt2v.api.measuring import compare, evaluate, ladder, probe
    from gpt2v.api.tiles import load_bank
    from gpt2v.api.training import train_encoder, train_lm, train_mm
    from gpt2v.ask.model import load_model
    from gpt2v.config.grids import GridConfig
    from gpt2v.data.dataset import GridDataset
    from gpt2v.errors import UserError
    from gpt2v.results import read_records, read_results

__version__ = "0.1.0"
__all__ = [
    "GridConfig",
    "GridDataset",
    "UserError",
    "compare",
    "evaluate",
    "ladder",
    "load_bank",
    "load_model",
    "plot",
    "probe",
    "read_records",
    "read_results",
    "run_demo",
    "train_encoder",
    "train_lm",
    "train_mm",
]

_HOMES = {
    "GridConfig": "gpt2v.config.grids",
    "GridDataset": "gpt2v.data.dataset",
    "UserError": "gpt2v.errors",
    "compare": "gpt2v.api.measuring",
    "evaluate": "gpt2v.api.measuring",
    "ladder": "gpt2v.api.measuring",
    "load_bank": "gpt2v.api.tiles",
    "load_model": "gpt2v.ask.model",
    "probe": "gpt2v.api.measuring",
    "read_records": "gpt2v.results",
    "read_results": "gpt2v.results",
    "run_demo": "gpt2v.api.demo",
    "train_encoder": "gpt2v.api.training",
    "train_lm": "gpt2v.api.training",
    "train_mm": "gpt2v.api.training",
}


def __getattr__(name: str) -> Any:
    if name == "plot":
        return importlib.import_module("gpt2v.plot")
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt2v' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
