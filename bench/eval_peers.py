"""Other ways to answer the same questions with the same weights, each as fast as it is usually run.

A peer says how long it took, and of each question the likeliest choice (None: it gives no
probabilities) and whether the greedy answer is right.

Shapes: B sequences of a batch, T token positions, V words of the vocabulary.
"""

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.examples import Example, Question, examples_of
from gpt2v.model.files import quiet_transformers

Asked = tuple[Example, Question]


@dataclass(frozen=True)
class Answer:
    """What is said to one question."""

    best: str | None  # the likeliest choice
    exact: bool


@dataclass(frozen=True)
class Timed:
    """Seconds, in all and of parts, and the answers in the order of the questions."""

    seconds: dict[str, float]
    answers: list[Answer]


class Harness:
    """lm-evaluation-harness with the tasks that `data export --format lm-eval` writes.

    Attributes:
        PARTS: its methods that are timed too: with tokenizing, and without.
    """

    PARTS = ("loglikelihood", "_loglikelihood_tokens")

    def __init__(self, checkpoint: Path, tasks: Path, name: str, batch_size: int) -> None:
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager, get_task_dict

        with quiet():
            self.lm: Any = HFLM(
                pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=batch_size
            )
            manager = TaskManager(include_path=str(tasks), include_defaults=False)
            self.tasks = get_task_dict([name], manager)
        self.name = name

    def __call__(self, n: int) -> Timed:
        """The first `n` questions: from the rows of the task to its scores."""
        from lm_eval.evaluator import evaluate

        seconds: dict[str, float] = {}
        parts = [clocked(self.lm, name, seconds) for name in self.PARTS]
        with quiet(), parts[0], parts[1]:
            started = time.perf_counter()
            evaluate(self.lm, self.tasks, limit=n, bootstrap_iters=0, log_samples=False)
            seconds["all"] = time.perf_counter() - started
        return Timed(seconds, [])

    def answers(self, n: int) -> list[Answer]:
        """Its answers. This task does not say whether a greedy answer is right."""
        from lm_eval.evaluator import evaluate

        with quiet():
            found = evaluate(self.lm, self.tasks, limit=n, bootstrap_iters=0, log_samples=True)
        answers = []
        for sample in found["samples"][self.name]:
            scores = [response[0] for response in sample["filtered_resps"]]
            best = sample["doc"]["choices"][int(np.argmax(scores))].strip()
            answers.append(Answer(best, best == sample["doc"]["answer"]))
        return answers


class SharedPrefix:
    """Plain transformers: a grid's keys and values are computed once, for all its questions."""

    def __init__(self, lm: Any, tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
        self.lm, self.words, self.batch_size = lm, tokenizer, batch_size

    @torch.no_grad()
    def __call__(self, data: GridDataset, n_grids: int) -> Timed:
        """The first grids: from samples, which it gets in words, to answers."""
        started = time.perf_counter()
        answers: list[Answer] = []
        for at in range(0, n_grids, self.batch_size):
            samples = data.samples(np.arange(at, min(at + self.batch_size, n_grids)))
            few = examples_of(samples, data.spec, data.bank, pictured=False)
            each = {len(example.asked) for example in few}
            assert len(each) == 1, "as many questions about each grid"
            (n,) = each
            asked = [(example, q) for example in few for q in example.asked]
            grids, grid_mask = self._padded([e.table + e.prompt for e in few])
            places = (grid_mask.cumsum(1) - 1).clamp(min=0)
            cache = self.lm(
                grids, attention_mask=grid_mask, position_ids=places, logits_to_keep=1
            ).past_key_values
            cache.batch_repeat_interleave(n)
            ids, mask = self._padded([f"{q.question} {q.answer}" for _, q in asked])
            whole = torch.cat([grid_mask.repeat_interleave(n, 0), mask], dim=1)
            places = (whole.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            logits = self.lm(
                ids,
                attention_mask=whole,
                position_ids=places,
                past_key_values=cache,
                logits_to_keep=2,
            ).logits
            answers += answers_of(logits, asked, self.words)
        return Timed({"all": time.perf_counter() - started}, answers)

    def _padded(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Tokens and mask, padded on the left."""
        ids = self.words(texts, add_special_tokens=False)["input_ids"]
        return left_padded(ids, self.words.pad_token_id)


class BatchedLlava:
    """A stock LLaVA on batches of questions, which computes only the logits that are read."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        self.model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model.eval()
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.words, self.batch_size = self.processor.tokenizer, batch_size

    def prepared(self, examples: Sequence[Example]) -> list[Tensor]:
        """The features of each picture, after the projector."""
        with torch.no_grad():
            return [self._features(few) for few in portions(examples, self.batch_size)]

    @torch.no_grad()
    def __call__(self, examples: Sequence[Example], features: list[Tensor] | None) -> Timed:
        """Answer all questions.

        Args:
            features: see `prepared`; None: each question's picture is read with it.
        """
        started = time.perf_counter()
        answers: list[Answer] = []
        for k, few in enumerate(portions(examples, self.batch_size)):
            asked = [(example, q) for example in few for q in example.asked]
            marks = self.processor.image_token * self.model.config.image_seq_length
            texts = [f"{marks}\n{e.prompt}{q.question} {q.answer}" for e, q in asked]
            ids, mask = left_padded(
                self.words(texts, add_special_tokens=False)["input_ids"], self.words.pad_token_id
            )
            inputs: dict[str, Tensor] = {"attention_mask": mask}
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
            if features is None:
                inputs["input_ids"] = ids
                inputs["pixel_values"] = self._pixels([e for e, _ in asked])
            else:
                n = torch.tensor([len(example.asked) for example in few])
                inputs["inputs_embeds"] = self._spliced(ids, features[k].repeat_interleave(n, 0))
            answers += answers_of(self.model(**inputs, logits_to_keep=2).logits, asked, self.words)
        return Timed({"all": time.perf_counter() - started}, answers)

    def _pixels(self, examples: Sequence[Example]) -> Tensor:
        images = [Image.fromarray(example.pictures[0]) for example in examples]
        pixels: Tensor = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        return pixels

    def _features(self, examples: Sequence[Example]) -> Tensor:
        """(n_pictures, n_patches, width)"""
        found = self.model.model.get_image_features(pixel_values=self._pixels(examples))
        found = getattr(found, "pooler_output", found)
        return torch.stack(list(found))

    def _spliced(self, ids: Tensor, features: Tensor) -> Tensor:
        words = self.model.get_input_embeddings()(ids)
        at = ids == self.model.config.image_token_id
        words[at] = features.flatten(0, 1).to(words.dtype)
        return words


class LmmsEval:
    """lmms-eval's `llava_hf`, which generates the answer to one question at a time."""

    def __init__(self, folder: Path, tasks: Path, name: str) -> None:
        self.folder, self.tasks, self.name = folder, tasks, name

    def __call__(self, n: int, tokens: int | None) -> Timed:
        """The first `n` questions; only its `generate_until` is timed.

        Args:
            tokens: number of tokens that it generates; None: as many as the task says.
        """
        with quiet():
            from lmms_eval import evaluator
            from lmms_eval.models.simple.llava_hf import LlavaHf
            from lmms_eval.tasks import TaskManager

            evaluator._enable_reentrant_filelocks = lambda: None  # it needs an older filelock
            lm = LlavaHf(
                pretrained=str(self.folder), device="cpu", dtype="float32", device_map="cpu"
            )
            seconds: dict[str, float] = {}
            with clocked(lm, "generate_until", seconds):
                found = evaluator.simple_evaluate(
                    lm,
                    tasks=[self.name],
                    task_manager=TaskManager(include_path=str(self.tasks), include_defaults=False),
                    limit=n,
                    batch_size=1,
                    bootstrap_iters=0,
                    gen_kwargs=None if tokens is None else f"max_new_tokens={tokens}",
                )
        samples = found["samples"][self.name]
        answers = [Answer(None, one["exact_match"]["score"] == 1.0) for one in samples]
        return Timed({"all": seconds["generate_until"]}, answers)


def answers_of(
    logits: Tensor, asked: Sequence[Asked], words: PreTrainedTokenizerFast
) -> list[Answer]:
    """From the logits (B, 2, V) before the right answer, which is one token, and after it."""
    newline = words("\n", add_special_tokens=False)["input_ids"]
    first, second = logits.log_softmax(-1).argmax(-1).T.tolist()
    listed = [[single(f" {name}", words) for name in q.choices] for _, q in asked]
    scores = logits[:, 0].log_softmax(-1)
    answers = []
    for i, (_, q) in enumerate(asked):
        best = q.choices[int(scores[i, listed[i]].argmax())]
        right = first[i] == single(f" {q.answer}", words) and [second[i]] == newline
        answers.append(Answer(best, right))
    return answers


def single(text: str, words: PreTrainedTokenizerFast, _known: dict[str, int] = {}) -> int:  # noqa: B006
    """The token of a choice."""
    if text not in _known:
        (_known[text],) = words(text, add_special_tokens=False)["input_ids"]
    return _known[text]


def portions(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    """Runs of at most `size`."""
    return (examples[at : at + size] for at in range(0, len(examples), size))


def left_padded(ids: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Tokens and mask (B, T)."""
    longest = max(map(len, ids))
    tokens = torch.tensor([[pad] * (longest - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    return tokens, mask


@contextlib.contextmanager
def clocked(thing: Any, name: str, seconds: dict[str, float]) -> Iterator[None]:
    """In this block, the time that a method takes is added up."""
    method = getattr(thing, name)

    def timed(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*args, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

    setattr(thing, name, timed)
    try:
        yield
    finally:
        setattr(thing, name, method)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """In this block, nothing is printed."""
    quiet_transformers()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
