"""Models, data and trainings of bench/gpu.py, all with random weights and our own sprites.

Shapes: B samples of a batch, T token positions.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from gpt2v.config.choice import Choice
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.loop import TrainConfig
from gpt2v.config.models import GPT2ModelConfig, TokenizerConfig, VisionConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.curriculum.fit import batch_loss
from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.render.batches import Renderer
from gpt2v.data.stream import Stream
from gpt2v.data.text_pieces import IMAGE, PieceTable, special_id
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts
from gpt2v.hardware.device import place
from gpt2v.lm_train.train import new_gpt2
from gpt2v.model.encoders import new_encoder
from gpt2v.model.files import load_weights, save_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.registry import VISION_TOWERS
from gpt2v.train import training
from gpt2v.train.loop import fit
from gpt2v.train.task import Task

TEXT = GridConfig()
PICTURES = GridConfig.model_validate({"modality": "image", "picture": {"resize": True}})
GROUPS = [{"name": "all", "pattern": "", "lr": 1e-3}]


@dataclass(frozen=True)
class Made:
    """A GPT-2v with everything that reads and trains it."""

    model: GPT2vModel
    reader: Reader
    stream: Stream
    tokenizer: Any

    def batch(self, spec: GridConfig, step: int = 0) -> Any:
        """A batch of training grids of this spec."""
        assert self.stream.render is not None
        index = np.arange(self.stream.config.batch_size) + step * self.stream.config.batch_size
        data = self.stream.dataset(spec, "train")
        return data.batch(index, spec.modality, self.stream.render, mode=spec.mode)


def gpt2v(
    lm: GPT2ModelConfig, vision: VisionConfig, spec: GridConfig, batch: int, seed: int = 0
) -> Made:
    """A GPT-2v on the chosen device; equal arguments give equal weights."""
    bank = load_bank(TilesConfig(per_class=20))
    tokenizer = build_tokenizer(TokenizerConfig(), grid_texts(bank))
    torch.manual_seed(seed)
    parts = new_encoder(Choice("clip", VISION_TOWERS, vision)), new_gpt2(lm, tokenizer)
    image_id = special_id(tokenizer, IMAGE)
    model = place(GPT2vModel.from_parts(*parts, vision_layer=-2, image_token_id=image_id))
    render = Renderer(bank, PieceTable(tokenizer), model.token_geometry)
    stages = [{"steps": 1, "mix": [spec.model_dump()]}]
    config = DataConfig.model_validate({"batch_size": batch, "stages": stages})
    return Made(model, Reader.of(model), Stream(config, render), tokenizer)


def small(tiny: bool, batch: int = 16) -> Made:
    """A GPT-2v of the demo's sizes, or smaller."""
    width = 32 if tiny else 128
    lm = GPT2ModelConfig(n_layer=2 if tiny else 4, n_embd=width, n_head=4, n_positions=512)
    vision = VisionConfig(hidden_size=width, num_hidden_layers=2 if tiny else 4)
    return gpt2v(lm, vision, PICTURES, batch)


def windows(vocab: int, rows: int, length: int, step: int = 0) -> TextBatch:
    """Random tokens (B, T + 1)."""
    draw = np.random.default_rng(step)
    return TextBatch(draw.integers(3, vocab, (rows, length + 1)))


def train(
    model: PreTrainedModel,
    reader: Reader,
    batch: Callable[[int, int, int], Any],
    steps: int,
    run: Path,
    tokenizer: Any = None,
    **options: Any,
) -> list[float]:
    """Train with gpt2v's loop; returns the loss of every step in the log of `run`."""

    def save(folder: Path) -> None:
        if tokenizer is not None:
            save_pretrained(folder, model, tokenizer)

    task: Task[Any] = Task(
        model=model,
        batch=batch,
        loss=lambda b: batch_loss(reader, b),
        evaluate=dict,
        describe=lambda step: "bench",
        save=save,
        load=lambda folder: load_weights(folder, model),
        merit=lambda scores: 0.0,
        prepare=reader.prepare,
        compiled=tuple(reader.lm.transformer.h),
    )
    given = {"groups": GROUPS, "log_every": 1, "tensorboard": False, "schedule": "constant"}
    fit(task, TrainConfig.model_validate({**given, **options}), steps, run, "bench")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def trained(*args: Any, **options: Any) -> list[float]:
    """As `train`, in a run that is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        return train(*args, run=Path(folder), **options)


def with_ends(ends: list[float], threads: bool, *args: Any, **options: Any) -> None:
    """As `trained`; appends the time at which each step ends.

    Args:
        threads: whether a thread draws the next batch.
    """
    step, alone = training.Training.step, training.computes_alone

    def timed(self: Any, *given: Any) -> float:
        loss = step(self, *given)  # has waited for the device
        ends.append(time.perf_counter())
        return loss

    training.Training.step = timed  # type: ignore[method-assign]
    training.computes_alone = lambda device: threads
    try:
        trained(*args, log_every=10**6, **options)
    finally:
        training.Training.step = step  # type: ignore[method-assign]
        training.computes_alone = alone
