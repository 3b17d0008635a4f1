"""Hugging Face's Trainer on the same model and data, as its documentation recommends it."""

import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

IGNORE = -100


@dataclass(frozen=True)
class Peer:
    """How the peer is set up."""

    gelu: str
    attention: str
    keep: bool = False  # compute logits only where some row of the batch is supervised
    compile: bool = False


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds from the beginning of one step to that of the next."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.marks.append(time.perf_counter())

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.marks.append(time.perf_counter())


class _KeepingTrainer(Trainer):  # type: ignore[misc]
    """Asks for the logits of those columns alone that are supervised in some row."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor:
        labels = inputs.pop("labels")
        columns = (labels[:, 1:] != IGNORE).any(0).nonzero()[:, 0]
        logits = model(**inputs, logits_to_keep=columns).logits
        target = labels[:, columns + 1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad on the right, with an attention mask where anything is padded."""
    longest = max(len(row["input_ids"]) for row in rows)
    shape = len(rows), longest
    ids, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE)
    mask = torch.zeros(shape, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        ids[i, :n] = torch.as_tensor(row["input_ids"])
        labels[i, :n] = torch.as_tensor(row["labels"])
        mask[i, :n] = 1
    batch = {"input_ids": ids, "labels": labels}
    return batch if mask.all() else {**batch, "attention_mask": mask}


def hf_seconds(
    peer: Peer, model: Any, examples: list[dict[str, Any]], rows: int, steps: int, warm: int
) -> list[float]:
    """Seconds of each step of the Trainer, without the first `warm`."""
    model.set_attn_implementation(peer.attention)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=rows,
            max_steps=steps,
            learning_rate=3e-4,
            max_grad_norm=1.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            torch_compile=peer.compile,
            remove_unused_columns=False,
        )
        kind = _KeepingTrainer if peer.keep else Trainer
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=collate,
            callbacks=[clock],
        )
        trainer.train()
    return [b - a for a, b in pairwise(clock.marks)][warm:]
