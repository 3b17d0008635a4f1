"""Prompts for models of other projects: the words around a grid and one question about it.

Another prompt is a class registered in `PROMPTS`. It needs no torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from gpt2v.data.grids.instructions import ALL, number_of
from gpt2v.data.render.examples import Example, Question
from gpt2v.registry import PROMPTS

_AROUND = " \t\n\"'`*_.,:;!?()[]"  # what may stand around an answer in free words


class Prompt(ABC):
    """The words that ask one question. The pictures, if some are shown, come before them.

    Attributes:
        chat: whether they are put into the model's chat template, as the user's turn.
        lead: what stands between them and the answer; in a chat the template decides it.
        ends: what ends an answer: the line, the model's turn, or either.
    """

    chat: ClassVar[bool]
    lead: ClassVar[str] = ""
    ends: ClassVar[Literal["line", "turn", "line or turn"]] = "turn"

    @abstractmethod
    def words(
        self, example: Example, question: Question, earlier: Sequence[Question], table: bool
    ) -> str:
        """The words.

        Args:
            earlier: the questions that were asked before, with their answers.
            table: whether the grid is shown in words.
        """

    def is_right(self, said: str, truth: str) -> bool:
        """Whether what a model says is the right answer: small letters and signs do not matter."""
        return said.strip(_AROUND).casefold() == truth.strip(_AROUND).casefold()


class _Brief(Prompt):
    """Shared by the prompts that tell what an answer looks like."""

    def words(
        self, example: Example, question: Question, earlier: Sequence[Question], table: bool
    ) -> str:
        base = int(example.samples.base[0])
        expected = ALL[number_of(question.instruction)].expected
        asked = question.question.removesuffix(" A:")
        before = "".join(f"{q.question} {q.answer}\n" for q in earlier)
        return (
            f"{example.table if table else ''}{example.prompt}"
            f"Rows and columns are numbered from {base}.\n"
            f"{before}{asked}\nAnswer with {expected}, and nothing else."
        )


@PROMPTS.register("brief")
class Brief(_Brief):
    """The grid's sentence, the question, and what the answer is; in the model's chat template."""

    chat = True


@PROMPTS.register("brief-plain")
class BriefPlain(_Brief):
    """The words of `brief` and a line break, for models without a chat template."""

    chat = False
    ends = "line or turn"

    def words(
        self, example: Example, question: Question, earlier: Sequence[Question], table: bool
    ) -> str:
        return super().words(example, question, earlier, table) + "\n"


@PROMPTS.register("document")
class Document(Prompt):
    """The document of our own models up to `A:`, for models that were trained on it."""

    chat, lead, ends = False, " ", "line"

    def words(
        self, example: Example, question: Question, earlier: Sequence[Question], table: bool
    ) -> str:
        before = "".join(f"{q.question} {q.answer}\n" for q in earlier)
        return (example.table if table else "") + example.prompt + before + question.question

    def is_right(self, said: str, truth: str) -> bool:
        """Whether it is the right answer, to the letter."""
        return said == truth
