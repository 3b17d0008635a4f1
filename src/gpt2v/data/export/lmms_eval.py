"""A task directory of lmms-eval: `lmms_eval --include_path DIR --tasks NAME`.

The questions of each instruction are a task in each modality, all `generate_until`; what they show
and ask is that of the tasks for lm-evaluation-harness. The rows are found relative to the tasks'
own files, so they run from any working directory (lmms-eval 0.7).
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from gpt2v.data.export.base import Files, Gathered
from gpt2v.data.export.card import card
from gpt2v.data.export.plan import Shard
from gpt2v.data.export.tables import check_datasets_path
from gpt2v.data.export.tasks import PROMPT, Asked, TaskFormat, asked_of, file_of, prefix_of
from gpt2v.data.export.yaml_files import task_yaml
from gpt2v.registry import FORMATS

_HELPER = "gpt2v_scores"  # the Python file that shows pictures and scores answers


@FORMATS.register("lmms-eval")
class LmmsEvalFormat(TaskFormat):
    """The rows of `lm-eval`, and a YAML file for each task and group of tasks of lmms-eval."""

    harness = "lmms-eval"

    def check_path(self, to: Path) -> None:
        check_datasets_path(to)

    def finish(self, gathered: Gathered) -> Files:
        groups: dict[str, list[str]] = {}
        for which, part in enumerate(gathered.plan.parts):
            shards = [shard for shard in gathered.plan.shards if shard.part == which]
            for asked in asked_of(gathered, which)[0]:
                for modality in part.modalities:
                    group = prefix_of(gathered, modality)
                    name = f"{group}_{asked.name}"
                    groups.setdefault(group, []).append(name)
                    yield f"{name}.yaml", [task_yaml(_task(name, asked, modality, shards), _HELPER)]
        for group, names in groups.items():
            yield f"{group}.yaml", [task_yaml({"group": group, "task": names}, _HELPER)]
        helper = resources.files("gpt2v.data.export") / "lmms_eval_scores.py"
        yield f"{_HELPER}.py", [helper.read_bytes()]
        use = (
            f"`lmms_eval --include_path DIR --tasks` {' or '.join(f'`{name}`' for name in groups)} "
            "runs it, with any of its models that takes pictures (`--model llava_hf`, ...). An "
            "answer is the first line that the model writes. `exact_match_stderr_clustered` counts "
            "the questions about one grid as one cluster."
        )
        yield "README.md", [card(gathered, use).encode()]


def _task(name: str, asked: Asked, modality: str, shards: Sequence[Shard]) -> dict[str, Any]:
    """The configuration of one task."""
    part = asked.part
    is_one = modality != "text" and not part.several
    return {
        "task": name,
        "dataset_path": "parquet",
        "dataset_kwargs": {
            "data_files": {part.split: [file_of(part, shard) for shard in shards]},
            "filters": [[["instruction", "=", asked.instruction]]],
        },
        "test_split": part.split,
        "output_type": "generate_until",
        # A model's class puts the mark of a single picture in front of the words itself.
        "doc_to_text": f"!function words_of_{PROMPT[modality]}" if is_one else PROMPT[modality],
        "doc_to_visual": "!function no_pictures" if modality == "text" else "!function pictures",
        "doc_to_target": "answer",
        # No token is shorter than a byte, so an answer and its end of line fit.
        "generation_kwargs": {
            "until": ["\n"],
            "do_sample": False,
            "temperature": 0,
            "max_new_tokens": asked.longest + 2,
        },
        "process_results": "!function score",
        "cluster_key": "image_id",
        "metric_list": [
            {"metric": "exact_match", "aggregation": "!function mean", "higher_is_better": True}
        ],
        "metadata": [{"version": 1}],
    }
