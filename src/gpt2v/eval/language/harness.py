"""`gpt2v eval MODEL --lm-eval TASKS`: tasks of lm-evaluation-harness, with results in our form.

The harness asks our own loaded weights, through its class for models of Hugging Face.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from math import isfinite
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gpt2v.config.base import hash_of
from gpt2v.config.language import HarnessConfig
from gpt2v.errors import UserError, first_line
from gpt2v.eval.language.measured import Found
from gpt2v.paths import expanded

if TYPE_CHECKING:
    from gpt2v.eval.language.models import LanguageModel

Row = dict[str, Any]

_NEEDS = ("lm_eval", "accelerate")
_NO_METRICS = ("alias", "name", "sample_len", "sample_count")  # keys beside the metrics of a task


def check_harness(config: HarnessConfig) -> None:
    """Raise UserError if the harness is not installed, or there is no folder of task files."""
    if config.include_path is not None and not expanded(config.include_path).is_dir():
        raise UserError(f"include_path: {config.include_path}: no such folder")
    if not all(map(find_spec, _NEEDS)):
        raise UserError("lm_eval: needs lm-eval: pip install 'gpt2v[eval]'")


def measure_tasks(model: "LanguageModel", config: HarnessConfig) -> Found:
    """Have the harness ask the tasks.

    Raises:
        UserError: the harness is not installed, there is no such task, or its data cannot be read.
    """
    check_harness(config)
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = _tasks(config)
    lm = HFLM(
        pretrained=model.model,
        tokenizer=model.tokenizer,
        batch_size=config.batch_size,
        max_length=model.n_positions,
    )
    with _without_git():
        measured = lm_eval.simple_evaluate(
            model=lm,
            tasks=config.lm_eval,
            num_fewshot=config.num_fewshot,
            limit=config.limit,
            task_manager=manager,
        )
    rows = list(_rows(measured))
    if not rows:
        raise UserError(f"lm_eval: {', '.join(config.lm_eval)}: has no metric that is a number")
    return Found(
        rows,
        _records(measured["samples"]),
        hash_of({name: _asked(own) for name, own in measured["samples"].items()}),
        {"lm_eval": lm_eval.__version__},
    )


@contextmanager
def _without_git() -> Iterator[None]:
    """The harness does not ask git for a commit, which says `fatal: ...` where there is none."""
    from lm_eval import evaluator

    plain = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = plain


def _tasks(config: HarnessConfig) -> Any:
    """The harness's manager of tasks, with the user's own; says in one line what cannot be loaded.

    Raises:
        UserError: there is no such task.
    """
    from lm_eval.tasks import TaskManager

    class Tasks(TaskManager):  # type: ignore[misc]
        def load(self, task_list: Any) -> Any:
            try:
                return super().load(task_list)
            except Exception as error:  # of its files, of the hub, of the network: no common type
                names = ", ".join(config.lm_eval)
                raise UserError(
                    f"lm_eval: {names}: cannot be loaded: {first_line(error)}"
                ) from None

    own = config.include_path
    manager = Tasks(include_path=None if own is None else str(expanded(own)))
    for name in config.lm_eval:
        if name not in manager.all_tasks:
            raise UserError(f"lm_eval: no such task: '{name}'{_near(name, manager.all_tasks)}")
    return manager


def _near(name: str, names: list[str]) -> str:
    """Names that look like this one, for the end of a message; empty: there are none."""
    found = get_close_matches(name, names, n=3)
    return f"; do you mean {' or '.join(found)}?" if found else "; `lm_eval ls tasks` lists them"


def _rows(measured: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each metric of each task, and of each group that has some of its own."""
    for name, values in measured["results"].items():
        n_questions = measured["n-samples"].get(name, {}).get("effective")
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if key in _NO_METRICS or metric.endswith("_stderr") or not _is_number(value):
                continue
            stderr = values.get(f"{metric}_stderr,{filtered}")
            yield {
                "task": name,
                "metric": metric,
                "value": float(value),
                "stderr": float(stderr) if _is_number(stderr) and isfinite(stderr) else None,
                "n_questions": n_questions,
                "n_shot": measured["n-shot"].get(name),
                "version": measured["versions"].get(name),
                "filter": filtered,
            }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _records(samples: Mapping[str, list[Row]]) -> pa.Table:
    """A row for each question and filter, with a column for each metric of any task.

    What is no number is JSON.
    """
    rows = [
        {
            "task": task,
            "doc_id": sample["doc_id"],
            "filter": sample["filter"],
            "target": _text(sample["target"]),
            "response": _text(sample["filtered_resps"]),
            **{metric: sample[metric] for metric in sample["metrics"]},
        }
        for task, own in samples.items()
        for sample in sorted(own, key=lambda one: (one["filter"], one["doc_id"]))
    ]
    columns = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        if key == "doc_id":
            columns[key] = pa.array(values, pa.int64())
            continue
        numbers = all(value is None or isinstance(value, int | float) for value in values)
        plain = float if numbers else _text
        columns[key] = pa.array(
            [None if value is None else plain(value) for value in values],
            pa.float64() if numbers else pa.string(),
        )
    return pa.table(columns)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _asked(samples: list[Row]) -> list[str]:
    """Hashes of the questions of a task, of their prompts and of their right answers."""
    keys = ("doc_hash", "prompt_hash", "target_hash")
    return [str(sample.get(key)) for sample in samples for key in keys]
