"""`gpt2v eval MODEL` with `--corpus`, `--pairs` or `--lm-eval`: language without grids."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2v import runs
from gpt2v.config.language import CorpusEvalConfig, HarnessConfig, LanguageConfig, PairsEvalConfig
from gpt2v.eval.language.corpus import measure_corpus
from gpt2v.eval.language.harness import measure_tasks
from gpt2v.eval.language.measured import Found
from gpt2v.eval.language.minimal_pairs import measure_pairs
from gpt2v.eval.language.models import LanguageModel, open_language_model
from gpt2v.hardware.device import hardware_facts
from gpt2v.run_layout import RECORDS
from gpt2v.storage.files import write_parquet

_MEASURES: dict[type[LanguageConfig], Callable[[LanguageModel, Any], Found]] = {
    CorpusEvalConfig: measure_corpus,
    PairsEvalConfig: measure_pairs,
    HarnessConfig: measure_tasks,
}


def measure_language(model: str, config: LanguageConfig, run: Path) -> dict[str, Any]:
    """Measure the language of a model; returns the content of results.json.

    Args:
        model: a run, a checkpoint or a hub id (of a GPT-2v its language model is measured); or
            `hf:` and one of any other project.
        run: the run directory.

    Raises:
        UserError: the model cannot be loaded, or it cannot be measured as configured.
    """
    started = time.monotonic()
    opened = open_language_model(model)
    found = _MEASURES[type(config)](opened, config)
    runs.write_config(run, config)
    write_parquet(run / RECORDS, [found.records])
    return runs.write_results(
        run,
        "language",
        started,
        hardware=hardware_facts(),
        checkpoint=opened.identity,
        data_hash=found.data_hash,
        results=found.rows,
        **found.facts,
    )
