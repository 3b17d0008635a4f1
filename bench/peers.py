"""Hugging Face's Trainer on the same model and data, used as its documentation recommends."""

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
    """Settings of a peer."""

    gelu: str
    attention: str
    supervised_only: bool = False  # whether logits are computed only at supervised positions
    compile: bool = False
    accumulate: int = 1
    bf16: bool = False


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Records the time at which each step begins, and the end of the training."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


class _SupervisedTrainer(Trainer):  # type: ignore[misc]
    """Asks for logits only at supervised positions (as a mask: transformers 5.24 or newer)."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor:
        labels = inputs.pop("labels")
        read = torch.zeros_like(labels, dtype=torch.bool)
        read[:, :-1] = labels[:, 1:] != IGNORE
        logits = model(**inputs, logits_to_keep=read).logits
        return torch.nn.functional.cross_entropy(logits, labels[:, 1:][read[:, :-1]])


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad on the right; an attention mask is added only if something is padded."""
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
    if "pixel_values" in rows[0]:
        batch["pixel_values"] = torch.stack([row["pixel_values"] for row in rows])
    return batch if mask.all() else {**batch, "attention_mask": mask}


def hf_seconds(
    peer: Peer, model: Any, examples: list[dict[str, Any]], rows: int, steps: int, warm: int
) -> list[float]:
    """Seconds of each step of the Trainer, without the first `warm`.

    A step takes `rows` examples in each of `peer.accumulate` micro-batches.
    """
    model.set_attn_implementation(peer.attention)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=peer.accumulate,
            max_steps=steps,
            adam_beta2=0.95,
            learning_rate=3e-4,
            max_grad_norm=1.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            torch_compile=peer.compile,
            bf16=peer.bf16,
            remove_unused_columns=False,
        )
        trainer_class = _SupervisedTrainer if peer.supervised_only else Trainer
        trainer = trainer_class(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=collate,
            callbacks=[clock],
        )
        trainer.train()
    return [b - a for a, b in pairwise(clock.times)][warm:]
