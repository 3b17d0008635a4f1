"""`gpt2v eval`, `probe` and `ablate tokens` as functions."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2v.api.configs import Source, config_of
from gpt2v.api.folders import Out, run_folder, temporary
from gpt2v.config.base import Config
from gpt2v.config.language import LanguageConfig, language_kind
from gpt2v.config.load import read_mapping
from gpt2v.config.measuring import EvalConfig, LadderConfig, SuiteEvalConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.results import read_records, read_results
from gpt2v.run_layout import RECORDS

if TYPE_CHECKING:
    import pyarrow as pa

ModelPath = str | os.PathLike[str]  # also what `load_model` and the trainings return


@dataclass(frozen=True)
class Measurement:
    """What a measurement has found.

    Attributes:
        results: the content of results.json.
        records: one row per question, see `read_records`; None: a ladder or a comparison has none.
        run: the run directory; None: none was asked for, so nothing is left on disk.
    """

    results: dict[str, Any]
    records: "pa.Table | None"
    run: Path | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the results, e.g. one for each modality."""
        rows: list[dict[str, Any]] = self.results["results"]
        return rows


def evaluate(
    model: ModelPath,
    suite: Source = None,
    *,
    out: Out = None,
    overwrite: bool = False,
    **fields: Any,
) -> Measurement:
    """Measure a model on held-out grids, or on language without grids, as `gpt2v eval` does.

    Args:
        model: a run, a checkpoint or a hub id; or `hf:` and any Hugging Face model's.
        suite: a named suite, a YAML file or an `EvalConfig`; none: 1,000 grids as in training.
        out: the run directory; none: nothing is left on disk.
        overwrite: replace an existing run.
        fields: fields of the configuration, e.g. `n_images=100, modalities=["image"]`; with
            `corpus`, `pairs` or `lm_eval` that of language, e.g. `corpus="valid.txt"`.

    Raises:
        UserError: a value is wrong, the model cannot be measured so, or `out` must not be replaced.
    """
    name, config = os.fspath(model), _eval_config(suite, fields)
    if isinstance(config, LanguageConfig):
        from gpt2v.eval.language.measure import measure_language

        measure = partial(measure_language, name, config)
    else:
        from gpt2v.eval.evaluate import evaluate_model

        measure = partial(evaluate_model, name, config)
    return _measure("evaluate", measure, out, overwrite)


def probe(
    model: ModelPath | None = None,
    config: Source = None,
    *,
    out: Out = None,
    overwrite: bool = False,
    **fields: Any,
) -> Measurement:
    """Read the object of each cell from hidden states of a GPT-2v, as `gpt2v probe` does.

    Args:
        model: a run of a GPT-2v, or a checkpoint; none: the one that `config` names.
        config: a YAML file or a `ProbeConfig`; none: the defaults.
        out: the run directory; none: nothing is left on disk.
        overwrite: replace an existing run.
        fields: fields of the configuration, e.g. `n_train=1000`.

    Raises:
        UserError: a value is wrong, the model cannot be probed, or `out` must not be replaced.
    """
    whole = config_of(ProbeConfig, config, _with_model(model, fields))
    from gpt2v.probing.probe import probe_model

    return _measure("probe", lambda run: probe_model(whole, run), out, overwrite)


def ladder(
    model: ModelPath | None = None,
    config: Source = None,
    *,
    out: Out = None,
    overwrite: bool = False,
    **fields: Any,
) -> Measurement:
    """Measure the ladder from text to picture of a GPT-2v, as `gpt2v ablate tokens` does.

    Args:
        model: a run of a GPT-2v, or a checkpoint; none: the one that `config` names.
        config: a YAML file or a `LadderConfig`; none: the defaults.
        out: the run directory; none: nothing is left on disk.
        overwrite: replace an existing run.
        fields: fields of the configuration, e.g. `rungs=["R0", "R4"]`.

    Raises:
        UserError: a value is wrong, a rung cannot be shown, or `out` must not be replaced.
    """
    whole = config_of(LadderConfig, config, _with_model(model, fields))
    from gpt2v.ablate.ladder import climb_model

    return _measure("ladder", lambda run: climb_model(whole, run), out, overwrite)


def compare(
    first: ModelPath,
    *others: ModelPath,
    by: Sequence[str] | None = None,
    out: Out = None,
    overwrite: bool = False,
) -> Measurement:
    """Compare evaluations of the same samples with the first one, as `gpt2v eval compare` does.

    Args:
        first: the run of an evaluation, or a demo.
        others: likewise.
        by: breakdowns, some of `part`, `instruction`, `cell`, `class`; none: all.
        out: the run directory; none: nothing is left on disk.
        overwrite: replace an existing run.

    Raises:
        UserError: one is no finished evaluation, the samples are not the same, or `out` must not
            be replaced.
    """
    from gpt2v.eval.compare import BREAKDOWNS, compare_runs

    names, chosen = [os.fspath(run) for run in (first, *others)], BREAKDOWNS if by is None else by
    return _measure("compare", lambda run: compare_runs(names, chosen, run), out, overwrite)


def _eval_config(
    suite: Source, fields: Mapping[str, Any]
) -> EvalConfig | SuiteEvalConfig | LanguageConfig:
    from gpt2v.data.suites.load import is_suite

    if isinstance(suite, str) and is_suite(suite):
        return config_of(SuiteEvalConfig, None, {**fields, "suite": suite})
    if isinstance(suite, Config):
        kind = type(suite)
    else:
        keys = fields if suite is None else read_mapping(os.fspath(suite))
        kind = language_kind(keys) or (SuiteEvalConfig if "suite" in keys else EvalConfig)
    if issubclass(kind, SuiteEvalConfig | LanguageConfig):
        return config_of(kind, suite, fields)
    return config_of(EvalConfig, suite, fields)


def _with_model(model: ModelPath | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, "model": os.fspath(model)} if model is not None else dict(fields)


def _measure(call: str, measure: Callable[[Path], Any], out: Out, overwrite: bool) -> Measurement:
    place = temporary(out)
    with run_folder(call, out, place, overwrite) as run:
        measure(run)
        records = read_records(run) if (run / RECORDS).is_file() else None
        return Measurement(read_results(run), records, None if place else run)
