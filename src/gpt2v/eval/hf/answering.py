"""What a Hugging Face model says after a prompt, and the log-probability of what it might say.

Both come from the model's own `generate`: greedy, or with given tokens in place of its choice. So
caches, positions, and prompts that are read in both directions are the model's own matter.

Shapes: J questions in a flat list, T token positions, V words of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from gpt2v.data.text_pieces import CUT, begins_another
from gpt2v.errors import UserError, first_line
from gpt2v.eval.hf.decoding import FREE, Forced, LineEnds, greedy
from gpt2v.eval.hf.load import HFModel
from gpt2v.hardware.memory import is_out_of_memory


@dataclass(frozen=True)
class Asked:
    """A prompt in words, as the model's tokenizer or processor reads it.

    Attributes:
        pictures: empty: the model sees none.
        sample: number of the sample, for messages.
        lead: what stands before an answer.
    """

    text: str
    pictures: Sequence[Image.Image] = ()
    sample: int = 0
    lead: str = ""


@dataclass(frozen=True)
class Answering:
    """A model that answers prompts.

    Attributes:
        batch_size: number of prompts that are read together.
        ends: what ends an answer: a line break, the model's turn, or either.
    """

    hf: HFModel
    batch_size: int
    ends: Literal["line", "turn", "line or turn"]
    _known: dict[tuple[str, str], list[int]] = field(default_factory=dict, repr=False)

    def answers(
        self, asked: Sequence[Asked], choices: Sequence[Sequence[str]], longest: Sequence[int]
    ) -> tuple[list[str], list[list[float]]]:
        """What the model says after each prompt, and the log-probability of each choice in nats.

        If a choice begins another one of the same question, the end of the answer belongs to each.

        Args:
            choices: of each prompt, without `lead`.
            longest: number of tokens after which what the model says is cut.

        Raises:
            UserError: a prompt is too long, the model cannot read it, or its logits are not
                finite; names the sample.
        """
        said: list[str] = []
        logprobs: list[list[float]] = [[] for _ in asked]
        later: list[tuple[int, int, list[int], bool]] = []  # prompt, choice, tokens, with end
        for start in range(0, len(asked), self.batch_size):
            here = range(start, min(start + self.batch_size, len(asked)))
            n = max(longest[i] for i in here)
            tokens, logits = self._generate([asked[i] for i in here], [[] for _ in here], n)
            first = torch.log_softmax(logits[0], -1)
            for row, i in enumerate(here):
                said.append(self._words(tokens[row][: longest[i]].tolist()))
                begins = begins_another(choices[i])
                for number, choice in enumerate(choices[i]):
                    ids = self.spelling(asked[i], choice)
                    known = len(ids) == 1 and not begins
                    logprobs[i].append(float(first[row, ids[0]]) if known else 0.0)
                    if not known:
                        later.append((i, number, ids, begins))
        for start in range(0, len(later), self.batch_size):
            batch = later[start : start + self.batch_size]
            forced = [[*ids, *([FREE] if begins else [])] for _, _, ids, begins in batch]
            _, logits = self._generate([asked[i] for i, *_ in batch], forced, 0)
            logp = [torch.log_softmax(step, -1) for step in logits]
            for row, (i, number, ids, begins) in enumerate(batch):
                total = sum(float(logp[step][row, token]) for step, token in enumerate(ids))
                if begins:
                    total += float(logp[len(ids)][row, self._end_tokens].logsumexp(0))
                logprobs[i][number] = total
        return said, logprobs

    def spelling(self, asked: Asked, answer: str) -> list[int]:
        """The tokens of an answer after a prompt; only the last lines of the prompt matter."""
        tail = "\n".join(asked.text.split("\n")[-2:])
        key = tail, f"{asked.lead}{answer}"
        if key not in self._known:
            encode = self.hf.tokenizer
            before = encode(tail, add_special_tokens=False).input_ids
            whole = encode(tail + key[1], add_special_tokens=False).input_ids
            joined = whole[: len(before)] != before  # they share a token: the answer by itself
            alone = encode(key[1], add_special_tokens=False).input_ids if joined else []
            self._known[key] = list(alone if joined else whole[len(before) :])
        return self._known[key]

    @cached_property
    def _end_tokens(self) -> list[int]:
        """The tokens that end an answer."""
        line = self.hf.tokenizer("\n", add_special_tokens=False).input_ids[-1:]
        ends = {"line": line, "turn": self.hf.ends, "line or turn": [*line, *self.hf.ends]}
        return list(ends[self.ends])

    def _words(self, tokens: list[int]) -> str:
        """What the tokens say up to the end of the answer; `…` at its end: it was cut."""
        stops = [n for n, token in enumerate(tokens) if token in self.hf.ends]
        text: str = self.hf.tokenizer.decode(
            tokens[: stops[0]] if stops else tokens, skip_special_tokens=True
        )
        line, broken = text, ""
        if self.ends != "turn":
            line, broken, _ = text.partition("\n")
        return line.strip() + ("" if stops or broken else CUT)

    def _generate(
        self, asked: Sequence[Asked], forced: Sequence[list[int]], n: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens (J, T), and logits (J, V) in fp32 of each forced step, and of the first.

        Args:
            forced: of each prompt the first tokens, `FREE`: the model's own choice.
            n: number of further tokens.
        """
        steps = max(map(len, forced)) + n
        inputs = self.inputs(asked)
        self._check_length(asked, inputs, steps)
        taken, criteria = Forced(forced), []
        if self.ends != "turn" and n:
            criteria.append(LineEnds(self.hf.tokenizer))
        try:
            with torch.no_grad():
                found: Any = self.hf.model.generate(
                    **inputs,
                    generation_config=greedy(self.hf, steps),
                    logits_processor=[taken],
                    stopping_criteria=criteria,
                    tokenizer=self.hf.tokenizer,  # for `stop_strings` of the model's own
                )
        except Exception as error:  # each model has its own
            if is_out_of_memory(error):
                raise
            if len(asked) > 1:
                for one, own in zip(asked, forced, strict=True):
                    self._generate([one], [own], n)
                raise UserError(
                    f"{self.hf.name}: samples {asked[0].sample} to {asked[-1].sample}: the model "
                    f"fails with several prompts at once; use --hf.batch_size 1: "
                    f"{first_line(error)}"
                ) from None
            raise UserError(
                f"{self.hf.name}: sample {asked[0].sample}: the model fails: {first_line(error)}"
            ) from None
        for step in taken.logits:
            wrong = step.isnan().any(-1) | (step == torch.inf).any(-1)
            if wrong.any():
                sample = asked[int(wrong.nonzero()[0])].sample
                raise UserError(f"{self.hf.name}: sample {sample}: its logits are not finite")
        tokens = found.sequences[:, -taken.n_steps :].cpu()
        if not taken.was_taken(tokens):
            raise UserError(
                f"{self.hf.name}: its generate takes no given tokens, so choices cannot be scored"
            )
        return tokens, taken.logits

    def inputs(self, asked: Sequence[Asked]) -> dict[str, Any]:
        """The model's input for prompts, padded on the left.

        Raises:
            UserError: the processor cannot read them.
        """
        hf, texts = self.hf, [one.text for one in asked]
        start = hf.tokenizer.bos_token
        options = {
            "padding": True,
            "return_tensors": "pt",
            "add_special_tokens": not (start and texts[0].startswith(start)),
        }
        try:
            if asked[0].pictures:
                assert hf.processor is not None
                found = hf.processor(
                    text=texts, images=[list(a.pictures) for a in asked], **options
                )
            else:
                if self._tells_types and start and options["add_special_tokens"]:
                    # Its tokenizer writes none where the processor writes it after the pictures.
                    texts, options["add_special_tokens"] = [start + one for one in texts], False
                found = hf.tokenizer(texts, return_token_type_ids=self._tells_types, **options)
        except Exception as error:  # each processor has its own
            raise UserError(
                f"{hf.name}: sample {asked[0].sample}: its processor fails: {first_line(error)}"
            ) from None
        found.pop("labels", None)
        inputs = dict(found.to(hf.model.device))
        for key, value in inputs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                inputs[key] = value.to(hf.model.dtype)
        return inputs

    @cached_property
    def _tells_types(self) -> bool:
        """Whether the model is told which tokens are its prompt, as processors do with pictures.

        PaliGemma reads its prompt in both directions if it is. A GPT-2 would take them for words.
        """
        takes = signature(self.hf.model.forward).parameters
        return self.hf.sees and "token_type_ids" in takes

    def _check_length(self, asked: Sequence[Asked], inputs: dict[str, Any], steps: int) -> None:
        """Raise UserError if a prompt and its answer have more tokens than the model reads."""
        if "attention_mask" not in inputs:
            return
        lengths = inputs["attention_mask"].sum(1)
        row = int(lengths.argmax())
        needed, most = int(lengths[row]) + steps, self.hf.n_positions
        if most is not None and needed > most:
            raise UserError(
                f"{self.hf.name}: sample {asked[row].sample} and its answer need {needed} "
                f"positions, but the model has {most}"
            )
