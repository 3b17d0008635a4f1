"""Answers: the likeliest choice, and the probability of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpt2v.model.scoring import Records


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question.

    Attributes:
        question: its words.
        instruction: the type of question; None: a free one.
        text: the likeliest choice; without choices, what the model writes.
        logprobs: log-probability of each choice in nats, likeliest first; empty without choices.
        truth: the right answer; None: not known.
    """

    question: str
    instruction: str | None
    text: str
    logprobs: dict[str, float]
    truth: str | None = None

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each choice if the answer is one of them, likeliest first."""
        top = max(self.logprobs.values(), default=0.0)
        shares = {choice: math.exp(value - top) for choice, value in self.logprobs.items()}
        total = sum(shares.values())
        return {choice: share / total for choice, share in shares.items()}

    @property
    def right(self) -> bool | None:
        """Whether it is right; None: not known."""
        return None if self.truth is None else self.text == self.truth

    def __str__(self) -> str:
        return f"{self.question} {self.text}"


def answers_of(
    records: Records, questions: Sequence[str], written: Sequence[str], known: bool
) -> list[Answer]:
    """The answers in the records of one grid.

    Args:
        questions: their words.
        written: what the model writes, for questions without choices; else unused.
        known: whether the truth in the records is one.
    """
    answers = []
    for number, words in enumerate(questions):
        choices = records["choices"][number]
        pairs = sorted(zip(choices, records["logprobs"][number], strict=True), key=lambda p: -p[1])
        answers.append(
            Answer(
                question=words,
                instruction=records["instruction"][number],
                text=pairs[0][0] if pairs else written[number],
                logprobs=dict(pairs),
                truth=records["truth"][number] if known else None,
            )
        )
    return answers
