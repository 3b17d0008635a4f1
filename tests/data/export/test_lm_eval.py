"""lm-evaluation-harness runs the exported tasks, with the same questions and scores as ours."""

import gc
import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.config.measuring import ExportConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.export.run import export
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.examples import Example, examples_of
from gpt2v.data.tiles.load import load_bank
from gpt2v.model.files import save_pretrained
from gpt2v.model.found import find_checkpoint
from gpt2v.model.load import load_model
from gpt2v.model.scoring import score_all
from helpers import picture_folder

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("lm_eval", "accelerate")),
    reason="lm_eval is not installed: pip install 'gpt2v[eval]'",
)

TILES = TilesConfig(per_class=20, size=16)
ASKED = {"lookup": 2.0, "count": 1.0, "locate": 1.0, "compare": 1.0}


def exported(to: Path, **grid) -> tuple[Path, list[Example]]:
    spec = GridConfig(rows=[1, 2], cols=2, instructions=ASKED, questions=4, **grid)
    config = ExportConfig(tiles=TILES, grid=spec, n_images=8, shard_size=5)
    export(config, to, "lm-eval")
    bank = load_bank(TILES)
    return to, examples_of(draw_samples(spec, bank, 1, "test", np.arange(8)), spec, bank)


@pytest.fixture(autouse=True, scope="module")
def quick_gc():
    """The harness collects garbage after every batch; existing objects need not be checked."""
    gc.freeze()
    yield
    gc.unfreeze()


def command_line(tasks: Path, elsewhere: Path, checkpoint: Path, names: str) -> dict:
    """Run the harness's own command in another folder; returns the logged samples by task."""
    from lm_eval.__main__ import cli_evaluate  # takes seconds

    elsewhere.mkdir()
    command = ["lm_eval", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={checkpoint}", "--include_path", str(tasks)]
    command += ["--tasks", names, "--batch_size", "2", "--output_path", "out", "--log_samples"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        patch.setattr(sys, "argv", command)
        cli_evaluate()
    by_task = {}
    for file in sorted((elsewhere / "out").rglob("samples_*.jsonl")):
        name = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        by_task[name] = [json.loads(line) for line in file.read_text().splitlines()]
    return by_task


def harness(tasks: Path, model: object, names: list[str], **options) -> dict:
    """Its results in Python, without its own 14,000 task files, which take seconds to list."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return simple_evaluate(model, tasks=names, task_manager=manager, bootstrap_iters=0, **options)


def rows(items: list[Example], instruction: str) -> list[tuple[Example, object]]:
    return [(item, q) for item in items for q in item.asked if q.instruction == instruction]


def test_words_are_asked_and_scored_as_ours_are(tmp_path, lm, tokenizer):
    tasks, items = exported(tmp_path / "tasks")
    checkpoint = tmp_path / "gpt2"
    save_pretrained(checkpoint, lm, tokenizer)
    samples = command_line(tasks, tmp_path / "run", checkpoint, "gpt2v_1-2x2_text")
    assert set(samples) == {f"gpt2v_1-2x2_text_{name}" for name in ASKED}
    for name in ASKED:
        logged, ours = samples[f"gpt2v_1-2x2_text_{name}"], rows(items, name)
        assert len(logged) == len(ours) > 0
        for sample, (item, question) in zip(logged, ours, strict=True):
            context = sample["arguments"]["gen_args_0"]["arg_0"]
            assert context == item.table + item.prompt + question.question
            if name == "locate":
                assert sample["target"] == question.answer
                said = sample["filtered_resps"][0]
                assert sample["exact_match"] == float(said == question.answer)
                continue
            continuations = [a["arg_1"] for a in sample["arguments"].values()]
            assert continuations == [f" {choice}" for choice in question.choices]
            assert question.choices[int(sample["target"])] == question.answer
            scores = [float(r[0]) for r in sample["filtered_resps"]]
            assert scores == pytest.approx(
                own_scores(lm, tokenizer, context, continuations), abs=1e-3
            )
            assert sample["acc"] == float(np.argmax(scores) == int(sample["target"]))


def own_scores(lm, tokenizer: Tokenizer, context: str, continuations: list[str]) -> list[float]:
    """Log-probability of each continuation, by plain transformers."""
    before = tokenizer.encode(context).ids
    scores = []
    for continuation in continuations:
        after = tokenizer.encode(continuation).ids
        with torch.no_grad():
            logits = lm(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        scores.append(float(logits.log_softmax(-1)[torch.arange(len(after)), after].sum()))
    return scores


def tiny_llava(lm, tokenizer: Tokenizer, path: Path) -> Path:
    """A random LLaVA with the tests' GPT-2 sizes, and its processor."""
    torch.manual_seed(0)
    image_id = tokenizer.token_to_id("<image>")
    vision = CLIPVisionConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=GPT2Config(**{**lm.config.to_dict(), "tie_word_embeddings": False}),
        image_token_index=image_id,
        vision_feature_layer=-2,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = {"height": 32, "width": 32}
    processor_class = getattr(
        transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor
    )
    images = processor_class(size=size, crop_size=size, do_center_crop=False)
    processor = LlavaProcessor(
        images, words, patch_size=16, vision_feature_select_strategy="default"
    )
    processor.num_additional_image_tokens = 1
    processor.save_pretrained(path)
    LlavaForConditionalGeneration(config).save_pretrained(path)
    return path


@pytest.mark.parametrize("layout", ["composite", "multi"])
def test_pictures_are_asked_as_ours_are(tmp_path, lm, tokenizer, layout):
    tasks, items = exported(tmp_path / "tasks", picture={"layout": layout})
    checkpoint = tiny_llava(lm, tokenizer, tmp_path / "llava")
    name = "gpt2v_1-2x2_image"
    options = {"model_args": f"pretrained={checkpoint}", "device": "cpu", "batch_size": 2}
    samples = harness(tasks, "hf-multimodal", [name], **options)["samples"]
    assert set(samples) == {f"{name}_{asked}" for asked in ASKED}
    for asked in ASKED:
        logged, ours = samples[f"{name}_{asked}"], rows(items, asked)
        assert len(logged) == len(ours) > 0
        for sample, (item, question) in zip(logged, ours, strict=True):
            mark = "<image>\n"
            if layout == "multi":
                mark = "".join("<image>" * len(row) + "\n" for row in item.classes)
            context = sample["arguments"][0][0]
            assert context == mark + item.prompt + question.question
            assert sample["target"] == question.answer
            said = sample["filtered_resps"][0]
            assert sample["exact_match"] == float(said == question.answer)


def test_a_model_that_knows_the_answers_scores_100_percent(tmp_path):
    from lm_eval.api.model import LM

    tasks, items = exported(tmp_path / "tasks", picture={"layout": "multi"})
    answers = {}
    for item in items:
        pictured = item.pictured(["<image>"] * len(item.pictures))
        for q in item.asked:
            answers[item.table + item.prompt + q.question] = f" {q.answer}"
            answers[pictured + item.prompt + q.question, item.pngs[0]] = f" {q.answer}"

    class Oracle(LM):
        MULTIMODAL = True

        def loglikelihood(self, requests):
            right = [answers[r.args[0]] == r.args[1] for r in requests]
            return [(0.0 if yes else -1.0, yes) for yes in right]

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

        def generate_until(self, requests):
            said = []
            for r in requests:
                if len(r.args) < 3:
                    said.append(answers[r.args[0]])
                    continue
                pixels = np.asarray(r.args[2]["visual"][0])
                matches = [
                    answer
                    for key, answer in answers.items()
                    if isinstance(key, tuple)
                    and key[0] == r.args[0]
                    and np.array_equal(decoded(key[1]), pixels)
                ]
                said.append(matches[0])
            return said

    groups = ["gpt2v_1-2x2_text", "gpt2v_1-2x2_image"]
    results = harness(tasks, Oracle(), groups, log_samples=False)["results"]
    for group in groups:
        scores = {k: v for k, v in results[group].items() if k in ("acc,none", "exact_match,none")}
        assert scores
        assert set(scores.values()) == {1.0}


ALIKE = ("car", "car park", "carp", "dog", "dogs", "hot dog")


@pytest.mark.parametrize("side", [1, 3, 6])
def test_a_reader_who_knows_every_answer_is_right_in_every_task(tmp_path, side):
    """It gives each token of the answer and its line break probability 1, whatever else a
    continuation begins with: `1` begins the answer `12`, and `car` the answer `car park`."""
    from lm_eval.api.model import LM

    tiles = TilesConfig(source="folder", path=str(picture_folder(tmp_path / "own", ALIKE, 8)))
    names = [name for name in NAMES if side > 1 or name not in ("neighbour", "compare")]
    answers = {}
    for name in names:  # a grid with each of them
        spec = GridConfig(
            rows=side, cols=side, palette=6 if name == "exists" else [2, 4],
            instructions={name: 1.0}, questions=2 if name in ("count", "exists") else 1,
        )  # fmt: skip
        config = ExportConfig(tiles=tiles, grid=spec, n_images=12, split="train")
        export(config, tmp_path / "tasks" / name, "lm-eval")
        bank = load_bank(tiles)
        for item in examples_of(draw_samples(spec, bank, 1, "train", np.arange(12)), spec, bank):
            for q in item.asked:
                answers[item.table + item.prompt + q.question] = f" {q.answer}\n"

    class Oracle(LM):
        def loglikelihood(self, requests):
            known = [answers[r.args[0]].startswith(r.args[1]) for r in requests]
            return [(0.0 if yes else -50.0, yes) for yes in known]

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

        def generate_until(self, requests):
            return [answers[r.args[0]].partition("\n")[0] for r in requests]

    for name in names:
        tasks = tmp_path / "tasks" / name
        (group,) = (file.stem for file in tasks.glob("*_text.yaml"))
        results = harness(tasks, Oracle(), [group], log_samples=False)["results"]
        (score,) = {v for k, v in results[group].items() if k in ("acc,none", "exact_match,none")}
        assert score == 1.0, name


def test_a_trained_model_gives_the_same_answers_in_both(tmp_path, lm_run, bank):
    """Of every instruction, to the last question."""
    tiles = TilesConfig.model_validate(helpers.TINY_TILES)
    spec = GridConfig(rows=2, cols=[1, 3], palette=4, instructions=dict.fromkeys(NAMES, 1.0))
    config = ExportConfig(tiles=tiles, grid=spec, n_images=60)
    export(config, tmp_path / "tasks", "lm-eval")
    loaded = load_model(str(lm_run))
    data = GridDataset(spec, load_bank(tiles), 1, "test", 60)
    records = score_all(loaded.scorer(data.bank), data, "text")
    ours = {}
    for k, name in enumerate(records["instruction"]):
        is_best = records["prediction"][k] == records["truth"][k]
        right = is_best if records["choices"][k] else records["exact"][k]
        ours.setdefault(name, []).append((records["question"][k], float(right)))
    checkpoint = find_checkpoint(str(lm_run), "lm")
    options = {"model_args": f"pretrained={checkpoint}", "device": "cpu", "batch_size": 16}
    (group,) = (file.stem for file in (tmp_path / "tasks").glob("*_text.yaml"))
    samples = harness(tmp_path / "tasks", "hf", [group], **options)["samples"]
    assert len(samples) == len(NAMES)
    for name in NAMES:
        logged = samples[f"{group}_{name}"]
        score = "acc" if "acc" in logged[0] else "exact_match"
        theirs = [(one["doc"]["prompt"], float(one[score])) for one in logged]
        assert len(theirs) == len(ours[name])
        for (prompt, right), (question, own) in zip(theirs, ours[name], strict=True):
            assert prompt.endswith(question)
            assert right == own, (name, question)
    rates = [right for answers in ours.values() for _, right in answers]
    assert 0 < np.mean(rates) < 1


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))
