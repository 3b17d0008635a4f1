"""`gpt2v encoder train`: contrastive CLIP pre-training on captioned scenes, or distillation."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from gpt2v import runs
from gpt2v.config.base import hash_of
from gpt2v.config.effect import settled
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.models import TextTowerConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import Ints
from gpt2v.data.scenes import NOTHING, Scenes, draw_scenes, object_caption
from gpt2v.data.stream import slice_of_batch
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts, load_tokenizer
from gpt2v.encoder_train.captions import check_captions
from gpt2v.encoder_train.zero_shot import scoring_grid, zero_shot_accuracy
from gpt2v.errors import within
from gpt2v.hardware.device import hardware_facts, place, to_device
from gpt2v.model import clip as clips
from gpt2v.model.distillation import (
    Teacher,
    distillation_loss,
    load_teacher,
    take_text_tower,
    teacher_shape,
)
from gpt2v.model.families import window_of
from gpt2v.model.files import load_weights, save_pretrained
from gpt2v.model.flops import vision_flops
from gpt2v.model.found import find_checkpoint
from gpt2v.model.identity import identity
from gpt2v.train.checkpoints import best_step
from gpt2v.train.distributed import from_rank_0, rank, world_size
from gpt2v.train.loop import fit
from gpt2v.train.metrics import check_loggers
from gpt2v.train.stages import stages_of, trained
from gpt2v.train.task import Task
from gpt2v.trained.parts import say_differences
from gpt2v.trained.record import record_of

_WHITENED = 2**20  # pixels that a tower's first layer is computed from, at most


@dataclass(frozen=True)
class PreparedEncoder:
    """The untrained encoder and its tokenizer, and the encoder that it learns from, if any."""

    clip: clips.Clip
    tokenizer: Tokenizer
    teacher: Teacher | None


def train_encoder(config: EncoderConfig, run: Path, bank: TileBank | None = None) -> dict[str, Any]:
    """Train an encoder, write the run directory, and return the content of its results.json.

    Other processes than rank 0 return an empty dict.

    Args:
        bank: the tiles, if they are loaded already.

    Raises:
        UserError: tiles, captions or teacher do not fit the model, or training fails.
        Stopped: a signal asked to stop.
    """
    started = time.monotonic()
    config = settled_encoder(config)
    bank = bank or load_bank(config.tiles)
    geometry = _geometry(config)
    ready = prepare_encoder(config, bank)
    clip, tokenizer, teacher = ready.clip, ready.tokenizer, ready.teacher
    record = record_of(bank, [], shows_pictures=True)
    if teacher:
        record = record.after(teacher.trained_on)

    def save(folder: Path) -> None:
        save_pretrained(folder, clip, tokenizer)
        record.write(folder)

    task = _EncoderTask(config, bank, geometry, ready)
    hashed = scenes_hash(config, bank)
    from_rank_0(lambda: runs.write_config(run, config))
    training = Task(
        model=clip,
        batch=task.batch,
        loss=task.loss,
        evaluate=task.evaluate,
        describe=lambda step: "scenes",
        save=save,
        load=lambda folder: load_weights(folder, clip),
        merit=lambda scores: scores["cell_accuracy"],
        flops=task.flops,
        compiled=(clip.vision_model,),
        data_hash=hashed,
        hashed="tiles or the teacher" if teacher else "tiles",
        depends_on_parts=True,  # each slice is a contrastive batch of its own
        unused=True,  # e.g. in scenes without objects, or if a term has weight 0
    )
    fit(training, config.train, config.steps, run, "encoder")
    if rank() != 0:
        return {}
    accuracy = zero_shot_accuracy(clip, tokenizer, bank, geometry, "test", 300)
    return runs.write_results(
        run,
        "encoder",
        started,
        hardware=hardware_facts(),
        seed=config.train.seed,
        steps=config.steps,
        best_step=best_step(run),
        data_hash=hashed,
        class_names=bank.class_names,
        teacher=teacher and teacher.identity,
        supervised_start=min(config.supervised_start, config.steps),
        small_start=config.small_start,
        results=[{"zero_shot_accuracy": accuracy, "n_images": 300, "split": "test"}],
    )


def settled_encoder(config: EncoderConfig) -> EncoderConfig:
    """The configuration with what `teacher` decides: all that captions are embedded with.

    Raises:
        UserError: `teacher` is no encoder, or the configuration has other values.
    """
    if config.teacher is None:
        return config
    shape = teacher_shape(config.teacher)
    n_tokens = load_tokenizer(shape.path, "teacher").get_vocab_size()
    words = {"source": config.teacher, "vocab_size": n_tokens}
    text = {name: getattr(shape.text, name) for name in TextTowerConfig.model_fields}
    source = f"teacher: {config.teacher}"
    parts = {
        "tokenizer": settled(config.tokenizer, words, "tokenizer", source),
        "text": settled(config.text, text, "text", source),
    }
    whole = settled(config, {"projection_dim": shape.projection_dim}, "", source)
    return whole.model_copy(update=parts)


def prepare_encoder(config: EncoderConfig, bank: TileBank) -> PreparedEncoder:
    """The untrained encoder, with which everything was checked.

    Args:
        config: as `settled_encoder` returns it.

    Raises:
        UserError: tiles, captions, batches, parameter groups or the teacher do not fit the model.
    """
    check_loggers(config.train)
    # raises UserError if tiles do not fit the pictures
    scoring_grid(bank, _geometry(config))
    with within("batch_size: "):
        slice_of_batch(config.batch_size, 0, 0, world_size() * config.train.accumulate)
    teacher = load_teacher(config)
    if teacher is None:
        tokenizer = build_tokenizer(config.tokenizer, grid_texts(bank))
    else:
        tokenizer = teacher.tokenizer
        if rank() == 0:
            say_differences("teacher", teacher.name, teacher.trained_on, bank)
    check_captions(config, bank, tokenizer)
    torch.manual_seed(config.train.seed)
    clip = place(clips.new_clip(config, tokenizer))
    if teacher:
        take_text_tower(clip, teacher)
    if hasattr(clip.vision_model, "begin_pretraining"):
        tiles = bank.take(_some_of_all_classes(bank))
        clip.vision_model.begin_pretraining(clips.normalise(tiles, clip.device))
    trained(clip, stages_of(config.steps, config.train))
    return PreparedEncoder(clip, tokenizer, teacher)


def _some_of_all_classes(bank: TileBank) -> Ints:
    """Ids of a thousand training tiles, fewer if they are large; `tiles` sorts them by class."""
    every = bank.tiles("train")
    n = min(len(every), max(100, _WHITENED // bank.size**2))
    return every[np.arange(n) * len(every) // n]


def _geometry(config: EncoderConfig) -> PictureGeometry:
    shape = config.vision.options
    return PictureGeometry(shape.image_size, shape.patch_size)


def scenes_hash(config: EncoderConfig, bank: TileBank) -> str:
    """Short hash of the training data: equal hashes mean equal scenes, and an equal teacher."""
    learned = []
    if config.teacher is not None:
        path = find_checkpoint(config.teacher, "teacher", whole=False)
        learned = [identity(config.teacher, path)["weights"]]
    small = [config.small_start, config.small_side] if config.small_start else []
    return hash_of(bank.content_hash("train"), config.scenes, config.data_seed, *learned, *small)


class _EncoderTask:
    """Batches, loss and validation of the training."""

    def __init__(
        self,
        config: EncoderConfig,
        bank: TileBank,
        geometry: PictureGeometry,
        ready: PreparedEncoder,
    ) -> None:
        self.config, self.bank, self.geometry = config, bank, geometry
        self.tokenizer, self.clip = ready.tokenizer, ready.clip
        self.teacher = ready.teacher if config.teacher_weight else None
        self.device = next(self.clip.parameters()).device
        is_named = config.region_weight or config.patch_weight
        self.objects = [object_caption(name) for name in bank.class_names] if is_named else []

    def batch(self, step: int, part: int, parts: int) -> Scenes:
        """A slice of the step's scenes; each slice is a separate contrastive batch."""
        c, geometry = self.config, self.geometry
        index = slice_of_batch(c.batch_size, step, part, parts)
        if step < c.small_start:
            geometry = replace(geometry, image_size=c.small_side)
        return draw_scenes(c.scenes, self.bank, geometry, c.data_seed, "train", step, index)

    def flops(self, scenes: Scenes) -> float:
        """Operations of a step on these scenes."""
        return vision_flops(self.clip.vision_model, len(scenes.captions), scenes.side)

    def _window(self, scenes: Scenes) -> int | None:
        """The tower's window in scenes of another size than its own; None: its own."""
        window, own = window_of(self.clip.vision_model.config), self.geometry.image_size
        return window * scenes.side // own if window and scenes.side != own else None

    def loss(self, scenes: Scenes) -> torch.Tensor:
        """Weighted sum of the global loss, the two local losses and the distillation.

        The supervised start is without the global loss, and its local ones are those of a linear
        classifier. Scenes without objects are without the local ones. Captions are embedded only
        for terms with a weight.
        """
        c = self.config
        supervised = int(scenes.index[0]) // c.batch_size < c.supervised_start
        captions = [] if supervised or not c.global_weight else scenes.captions
        objects, of_captions = self._embedded(captions)
        pixels = clips.normalise(scenes.pixels, self.device)
        pictures, patches = clips.embed_patches(self.clip, pixels, self._window(scenes))
        total = 0 * patches.sum()  # so that there is a gradient, if there is nothing to learn
        if captions:
            number = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
            numbers = np.array([number[caption] for caption in captions])
            same = to_device((numbers[:, None] == numbers).astype(np.float32), self.device)
            total = c.global_weight * clips.global_loss(self.clip, pictures, of_captions, same)
        if self.objects and (scenes.patch_objects != NOTHING).any():
            of_region, of_patch = clips.local_losses(
                self.clip,
                patches,
                objects,
                scenes.patch_objects,
                scenes.classes,
                c.label_smoothing,
                normalise=not supervised,
            )
            total = total + c.region_weight * of_region + c.patch_weight * of_patch
        if self.teacher:
            there = self.teacher.patches(scenes.pixels, pixels)
            total = total + c.teacher_weight * distillation_loss(patches, there)
        return total

    def _embedded(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit embeddings of the objects' captions and of these, each (n, projection_dim)."""
        texts = [*self.objects, *captions]
        if not texts:
            return (none := torch.empty(0, device=self.device)), none
        ids = clips.caption_ids(texts, self.tokenizer, self.device)
        embeddings = clips.embed_captions(self.clip, ids)
        return embeddings[: len(self.objects)], embeddings[len(self.objects) :]

    def evaluate(self) -> dict[str, float]:
        """Zero-shot accuracy on validation grids."""
        accuracy = zero_shot_accuracy(
            self.clip,
            self.tokenizer,
            self.bank,
            self.geometry,
            "val",
            self.config.train.eval_grids,
        )
        return {"cell_accuracy": accuracy}
