"""Are the records of the packed pass those of plain transformers, one question at a time?

    python bench/one_at_a_time.py runs/demo/mm --n_questions 1000 --out one-at-a-time

For each instruction and modality, held-out grids are asked about. The packed pass reads a grid once
with all its questions and choices, in batches of 1, 7 and 64 grids. The reference gives a model of
transformers the grid and one question: once for each choice, whose tokens' log-probabilities are
added, and once to `generate` greedily. Compared are every log-probability, the likeliest choice and
the generated words. `times` is how much longer the reference takes than batches of 64.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

import gpt2v
from gpt2v.ask.model import Model
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.text_pieces import END_OF_TEXT, begins_another, special_id
from gpt2v.errors import UserError
from gpt2v.hardware.device import hardware
from gpt2v.messages import aligned
from gpt2v.model.scoring import Records, score_all
from gpt2v.runs import versions

BATCHES = (1, 7, 64)


@dataclass
class Compared:
    """Questions of one instruction in one modality."""

    modality: str
    instruction: str
    questions: int = 0
    predictions: int = 0  # that differ, in any batch size
    generated: int = 0  # that differ
    largest: float = 0.0  # difference of a log-probability
    packed_seconds: float = 0.0  # in batches of 64
    alone_seconds: float = 0.0


@torch.no_grad()
def alone(
    model: Model, embeds_TD: Tensor, choices: list[str], most: int
) -> tuple[list[float], str]:
    """Log-probability of each choice, and the greedy answer, after one sequence of embeddings."""
    lm, table = model.lm, model.table
    words = lm.get_input_embeddings()
    after = "\n" if begins_another(choices) else ""
    logprobs = []
    for choice in choices:
        tokens = table.tokens(f" {choice}") + (table.tokens(after) if after else [])
        ids = torch.tensor(tokens, device=lm.device)
        whole = torch.cat([embeds_TD, words(ids)])[None]
        logits = lm(inputs_embeds=whole).logits[0, len(embeds_TD) - 1 : -1]
        logprobs.append(float(logits.log_softmax(-1).gather(1, ids[:, None]).sum()))
    end = special_id(table.tokenizer, END_OF_TEXT)
    lm.generation_config = GenerationConfig()
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=min(most, lm.config.n_positions - len(embeds_TD)),
        eos_token_id=[end, *table.tokens("\n")],
        pad_token_id=end,
    )
    mask = torch.ones(1, len(embeds_TD), dtype=torch.long, device=lm.device)
    said = lm.generate(inputs_embeds=embeds_TD[None], attention_mask=mask, generation_config=config)
    tokens = said[0].tolist()
    line, newline, _ = table.tokenizer.decode(tokens, skip_special_tokens=False).partition("\n")
    return logprobs, line.lstrip() + ("" if newline or tokens[-1] == end else "…")


@torch.no_grad()
def sequences(model: Model, sample: Any, modality: str) -> Iterator[Tensor]:
    """The input embeddings (T, D) of each question about a sample, up to its answer."""
    inputs = model.batch(sample=sample, modality=modality)
    if model.gpt2v is not None and "pixel_values" in inputs:
        pictures = inputs["pixel_values"], inputs["image_tokens"]
        embeds = model.gpt2v.input_embeds(inputs["input_ids"], *pictures)
    else:
        embeds = model.lm.get_input_embeddings()(inputs["input_ids"])
    for row, length in zip(embeds, inputs["attention_mask"].sum(1).tolist(), strict=True):
        yield row[:length]


def compare(model: Model, modality: str, instruction: str, n_questions: int, seed: int) -> Compared:
    """Compare about so many questions of one instruction."""
    found = Compared(modality, instruction)
    content = {**model.spec.model_dump(), "instructions": {instruction: 1.0}, "questions": None}
    if instruction == "exists":  # not all objects are in every grid
        content["palette"] = 8
    spec = HeldOutGridConfig.model_validate(content)
    bank = model.filled.bank(model.filled.config.tiles)
    n_asked = len(gpt2v.GridDataset(spec, bank, seed, "test", n=1)[0].asked)
    data = gpt2v.GridDataset(spec, bank, seed, "test", n=-(-n_questions // n_asked))
    scorer = model.scorer(bank)
    records: dict[int, Records] = {}
    for size in BATCHES:
        started = time.perf_counter()
        portions = list(data.portions(size))
        records[size] = score_all(scorer, data, modality, portions=portions)
        found.packed_seconds = time.perf_counter() - started
    started, k = time.perf_counter(), 0
    for sample in data:
        for embeds in sequences(model, sample, modality):
            of = {size: {key: own[k] for key, own in records[size].items()} for size in BATCHES}
            one = of[BATCHES[0]]
            n_truth = len(model.table.tokens(f" {one['truth']}")) + len(model.table.tokens("\n"))
            logprobs, said = alone(model, embeds, one["choices"], 2 * n_truth + 4)
            best = one["choices"][int(np.argmax(logprobs))] if logprobs else None
            if best is None and said == one["truth"]:
                best = said
            found.predictions += any(own["prediction"] != best for own in of.values())
            found.generated += any(own["generated"] != said for own in of.values())
            for own in of.values():
                far = np.abs(np.array(own["logprobs"]) - logprobs)
                found.largest = max(found.largest, float(far.max(initial=0)))
            k += 1
    found.questions, found.alone_seconds = k, time.perf_counter() - started
    assert k == len(records[1]["exact"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="of `lm train` or `mm train`")
    parser.add_argument("--n_questions", type=int, default=1000, help="of each instruction")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", default="bench-one-at-a-time", help="folder")
    args = parser.parse_args()
    try:
        with hardware("cpu"):
            model = gpt2v.load_model(args.run)
            modalities = ["text"] if model.gpt2v is None else ["text", "image"]
            done = []
            for modality in modalities:
                for name in NAMES:
                    done.append(compare(model, modality, name, args.n_questions, args.seed))
                    print(done[-1], flush=True)
    except UserError as error:
        print(f"one_at_a_time: {error}", file=sys.stderr)
        return 2
    head = ["modality", "instruction", "questions", "other best", "other words", "largest", "times"]
    rows = [
        [
            *(one.modality, one.instruction, f"{one.questions:,}"),
            *(str(one.predictions), str(one.generated), f"{one.largest:.1e}"),
            f"{one.alone_seconds / one.packed_seconds:.0f}",
        ]
        for one in done
    ]
    print(*aligned([head, *rows], right=2), sep="\n")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    content = {"kind": "bench", "versions": versions(), "seed": args.seed}
    content |= {"batches": BATCHES, "results": [asdict(one) for one in done]}
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
