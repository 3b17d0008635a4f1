"""A scorer for any Hugging Face model: every question is a prompt of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from gpt2v.config.choice import Choice
from gpt2v.config.grids import Mode
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.examples import Example, Question, examples_of
from gpt2v.data.render.text import choice_pieces
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import CUT, EMPTY, Strings
from gpt2v.errors import UserError, first_line
from gpt2v.eval.hf.answering import Answering, Asked
from gpt2v.eval.hf.load import HFModel
from gpt2v.eval.hf.prompts import Prompt
from gpt2v.eval.hf.whole import is_whole, pattern
from gpt2v.eval.series import Part
from gpt2v.model.scoring import Records, likeliest_choices, longest_answer, records_of


@dataclass(frozen=True)
class _Questions:
    """Questions about some samples, in order."""

    samples: Samples
    asked: list[tuple[Example, Question]]
    choices: list[list[str]]  # of each question, those that are scored
    prompts: list[Asked]


@dataclass(frozen=True)
class HFScorer:
    """Scores a Hugging Face model, which reads each question about a grid by itself.

    Attributes:
        choice: of the prompt.
        batch_size: number of prompts that are read together.
    """

    hf: HFModel
    choice: Choice
    batch_size: int

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt."""
        made: Prompt = self.choice.load()()
        return made

    @cached_property
    def _answering(self) -> Answering:
        return Answering(self.hf, self.batch_size, self.prompt.ends)

    def check(self, data: GridDataset, layout: str, mode: Mode = "independent") -> None:
        data.first()

    def score(
        self, data: GridDataset, index: Ints, layout: str, mode: Mode = "independent"
    ) -> Records:
        questions = self._questions(data, index, layout, mode)
        said, logprobs = self._answers(questions)
        truths = [question.answer for _, question in questions.asked]
        exact = [self.prompt.is_right(*pair) for pair in zip(said, truths, strict=True)]
        answers: Records = {
            "truth": truths,
            "generated": said,
            "prediction": likeliest_choices(questions.choices, logprobs, truths, exact),
            "exact": exact,
            "choices": questions.choices,
            "logprobs": logprobs,
        }
        return records_of(questions.samples, data.bank.class_names, Strings(), answers)

    def try_out(self, parts: Sequence[Part], modalities: Sequence[str]) -> dict[str, Any]:
        """Ask about the first grid of each part.

        Returns:
            The prompt, for results: its name, and for each modality an example, and a hash of what
            the model read (without the pictures).

        Raises:
            UserError: the model cannot be asked, or it answers nothing in one of the modalities.
        """
        shown: dict[str, Any] = {}
        for modality in modalities:
            texts: list[str] = []
            said: list[str] = []
            for part in parts:
                if modality in part.modalities:
                    self.check(part.data, modality, part.mode)
                    first = self._questions(part.data, np.zeros(1, np.int64), modality, part.mode)
                    texts += [prompt.text for prompt in first.prompts]
                    said += self._answers(first)[0]
            if not texts:
                continue
            if not any(said):
                raise UserError(
                    f"{self.hf.name}: answers nothing to the first {len(said)} questions "
                    f"({modality}); choose another --hf.prompt"
                )
            if all("<think>" in words and words.endswith(CUT) for words in said):
                raise UserError(
                    f"{self.hf.name}: thinks before it answers ({modality}), and is cut: such a "
                    "model cannot be measured so"
                )
            digest = sha256("\0".join(texts).encode()).hexdigest()[:16]
            shown[modality] = {"example": texts[0], "hash": digest}
        return {"name": str(self.choice), **shown}

    def fills(self, data: GridDataset) -> bool:
        """Whether the processor scales a grid's picture, as it is, to the vision tower's size.

        Others make several pictures of it, or one of another size, or cut its edges off. That is
        tried with a picture of the same size as the first grid's, in the prompt of its question.

        Raises:
            UserError: the processor fails.
        """
        if self.hf.geometry is None:
            return False
        asked = self._questions(data, np.zeros(1, np.int64), "image", "independent").prompts[0]
        shown = pattern(asked.pictures[0].size)
        inputs = self._answering.inputs([replace(asked, pictures=[shown])])
        return is_whole(inputs.get("pixel_values"), shown, self.hf.geometry.image_size)

    def _questions(self, data: GridDataset, index: Ints, layout: str, mode: Mode) -> _Questions:
        """The samples with these numbers, and the prompts of all their questions."""
        samples, names, strings = data.samples(index), data.bank.class_names, Strings()
        examples = examples_of(samples, data.spec, data.bank, pictured=layout != "text")
        pieces = choice_pieces(samples, names, strings, scored=True)
        choices = [
            [strings.strings[piece].strip() for piece in pieces[b, q] if piece != EMPTY]
            for b, q in np.argwhere(samples.instruction != NOT_ASKED).tolist()
        ]
        prompts = []
        for example in examples:
            pictures = [Image.fromarray(pixels) for pixels in example.pictures]
            for number, question in enumerate(example.asked):
                earlier = example.asked[:number] if mode == "chained" else ()
                words = self.prompt.words(example, question, earlier, layout != "image")
                text = self._whole(example, words)
                prompts.append(Asked(text, pictures, example.index, self._lead))
        asked = [(example, question) for example in examples for question in example.asked]
        return _Questions(samples, asked, choices, prompts)

    def _answers(self, questions: _Questions) -> tuple[list[str], list[list[float]]]:
        """What the model says to each prompt, and the log-probability of each choice."""
        longest = [
            longest_answer(len(self._answering.spelling(prompt, question.answer)))
            for prompt, (_, question) in zip(questions.prompts, questions.asked, strict=True)
        ]
        return self._answering.answers(questions.prompts, questions.choices, longest)

    def _whole(self, example: Example, words: str) -> str:
        """The whole prompt: pictures, if there are some, then the words."""
        rows = example.by_row(example.pictures) if example.pictures else []
        if not self.prompt.chat:
            mark = self._mark if rows else ""
            return "".join(mark * len(row) + "\n" for row in rows) + words
        content: list[dict[str, str]] = []
        for before, row in pairwise([(), *rows]):
            if before:
                content.append({"type": "text", "text": "\n"})
            content += [{"type": "image"}] * len(row)
        content.append({"type": "text", "text": words})
        return self._chat(content, words)

    def _chat(self, content: list[dict[str, str]], words: str, answer: str | None = None) -> str:
        """A user's turn in the chat template, and the beginning of the model's, or an answer.

        Args:
            content: pictures and words, as templates of models that see pictures expect them.
            words: for the templates of others.
        """
        readers = [self.hf.processor, self.hf.tokenizer]
        reader = next((one for one in readers if getattr(one, "chat_template", None)), None)
        if reader is None:
            raise UserError(
                f"{self.hf.name}: has no chat template, which prompt {self.choice} needs; choose "
                "--hf.prompt brief-plain or document"
            )
        lists = [content, [{"type": "text", "text": answer}]]
        ways: list[list[Any]] = [lists] if self.hf.sees else []
        if all(part["type"] == "text" for part in content):
            ways.append([words, answer])
        for number, way in enumerate(ways):
            turns = [
                {"role": role, "content": said}
                for role, said in zip(("user", "assistant"), way, strict=True)
            ]
            try:
                whole: str = reader.apply_chat_template(
                    turns if answer is not None else turns[:1],
                    tokenize=False,
                    add_generation_prompt=answer is None,
                    enable_thinking=False,  # templates of models that do not think ignore it
                )
            except Exception as error:  # a template raises what it likes
                if number == len(ways) - 1:
                    raise UserError(
                        f"{self.hf.name}: its chat template fails: {first_line(error)}"
                    ) from None
            else:
                break
        return whole

    @cached_property
    def _lead(self) -> str:
        """What stands between a prompt and the answer: in a chat, as the template writes it."""
        if not self.prompt.chat:
            return self.prompt.lead
        content = [{"type": "text", "text": "?"}]
        before = self._chat(content, "?")
        try:
            whole = self._chat(content, "?", "X")
        except UserError:  # it may not like to be told answers
            return ""
        space = whole.removeprefix(before).partition("X")[0]
        return space if whole.startswith(before) and not space.strip() else ""

    @property
    def _mark(self) -> str:
        """What stands for a picture in a text without a chat template."""
        mark = getattr(self.hf.processor, "image_token", None)
        if mark is None:
            raise UserError(
                f"{self.hf.name}: its processor has no image_token, which prompt {self.choice} "
                "needs; choose --hf.prompt brief"
            )
        return str(mark)
