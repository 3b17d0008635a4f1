"""Helpers of tests: documents in plain Python, tiny configurations, folders of image files.

Shapes: P pictures, N patches of a picture, D width of a hidden state,
S side of a picture in pixels.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
)

from gpt2v import extensions
from gpt2v.cli.main import main
from gpt2v.config.base import Config
from gpt2v.config.grids import SampleSpec
from gpt2v.config.loop import TrainConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.data.corpus.cleaning import CleaningReport
from gpt2v.data.corpus.tokens import TokenFile, TokenWriter, open_tokens
from gpt2v.data.grids import instructions
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.text import document_pieces
from gpt2v.data.render.views import View
from gpt2v.data.stream import slice_of_batch
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.bank import SPLITS, SplitTiles, TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.model.files import save_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.registry import REGISTRIES
from gpt2v.storage.folders import whole_directory
from gpt2v.train import checkpoints
from gpt2v.train.task import Task

REPO = Path(__file__).parents[1]
SHARED = REPO.parent / "shared" / "data"  # real data, if it exists
GPT2_FILES = SHARED / "gpt2-tokenizer"

M = TypeVar("M", bound=nn.Module)

LONG_NAMES = (
    "airplane",
    "sea-otter",
    "bird",
    "X-ray tetra",
    "grizzly",
    "dog",
    "zebra2",
    "horse",
    "Ñandú",
    "truck",
)
TINY_TILES = {"source": "sprites", "per_class": 20, "size": 16}
QUICK_PROBE = {  # of grids with few cells: enough pictures for every class
    "n_train": 120,
    "n_val": 40,
    "n_test": 40,
    "sites": ["vision.0"],
    "decoders": ["ridge"],
    "measures": [],
}
TINY_VISION = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TINY_TOWER = {"name": "clip", **TINY_VISION}
TOWER = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TOWER_WORDS = {**TOWER, "vocab_size": 99}
TOWER_MEAN, TOWER_STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
TINY_LM: dict[str, Any] = {
    "tiles": TINY_TILES,
    "model": {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 256},
    "data": {"batch_size": 16, "stages": [{"steps": 100, "mix": [{"rows": 1, "cols": 2}]}]},
    "train": {
        "groups": [{"name": "lm", "pattern": "", "lr": 0.03, "optimizer": "muon"}],
        "warmup": 5,
        "eval_grids": 60,
    },
}
TINY_MM: dict[str, Any] = {
    "tiles": TINY_TILES,
    "vision": TINY_VISION,
    "data": {
        "batch_size": 4,
        "stages": [{"steps": 3, "mix": [{"rows": 1, "cols": 2, "modality": "image"}]}],
    },
    "train": {
        "groups": [
            {"name": "vision_tower", "pattern": "^vision_tower", "lr": 0.001},
            {"name": "projector", "pattern": "^projector", "lr": 0.001},
            {"name": "language_model", "pattern": "^language_model", "lr": 0.001},
        ],
        "warmup": 0,
        "eval_grids": 10,
    },
}
TINY_ENCODER: dict[str, Any] = {
    "tiles": TINY_TILES,
    "vision": TINY_VISION,
    "text": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "projection_dim": 16,
    "batch_size": 4,
    "steps": 2,
    "scenes": {"layouts": [{"lattice": 2}]},
    "train": {
        "groups": [{"name": "clip", "pattern": "", "lr": 0.01, "optimizer": "muon"}],
        "eval_grids": 5,
    },
}


def configs_in(annotation: object) -> list[type[Config]]:
    """The configurations in the annotation of a field, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [config for part in get_args(annotation) for config in configs_in(part)]


def lm_config() -> LMConfig:
    return LMConfig.model_validate(TINY_LM)


def mm_config(lm: Path, **changes: Any) -> MMConfig:
    return MMConfig.model_validate({**TINY_MM, "lm": str(lm), **changes})


def save_checkpoint(run: Path, step: int, model: PreTrainedModel, tokenizer: Tokenizer) -> Path:
    """Write a checkpoint of weights and tokenizer only; returns its path."""
    return checkpoints.write(run, step, lambda folder: save_pretrained(folder, model, tokenizer))


def train_config(**changes: Any) -> TrainConfig:
    """A training configuration with one group for all parameters."""
    groups = [{"name": "all", "pattern": "", "lr": 0.01}]
    return TrainConfig.model_validate({"groups": groups, "warmup": 0, **changes})


@dataclass(frozen=True)
class ToyBatch:
    step: int
    x: torch.Tensor
    index: np.ndarray

    @property
    def n_supervised(self) -> int:
        return len(self.x)

    n_tokens = n_supervised


def toy_task(
    dropout: float = 0.0,
    evaluate: Callable[[], dict[str, float]] = lambda: {"accuracy": 0.5},
    spoil: int | None = None,
    size: int = 8,
    width: int = 16,
) -> Task[ToyBatch]:
    """A network that learns to sum four numbers; its loss is not finite at step `spoil`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))

    def batch(step: int, part: int, parts: int) -> ToyBatch:
        index = slice_of_batch(size, step, part, parts)
        rows = [torch.randn(4, generator=torch.Generator().manual_seed(int(i))) for i in index]
        return ToyBatch(step, torch.stack(rows), index)

    def loss(part: ToyBatch) -> torch.Tensor:
        value = (model(part.x)[:, 0] - part.x.sum(1)).square().sum()
        return value * (float("nan") if part.step == spoil else 1.0)

    return Task(
        model=model,
        batch=batch,
        loss=loss,
        evaluate=evaluate,
        describe=lambda step: f"data of step {step}",
        save=lambda folder: save_file(model.state_dict(), folder / "model.safetensors"),
        load=lambda folder: model.load_state_dict(load_file(folder / "model.safetensors")) and None,
        merit=lambda scores: scores.get("accuracy", 0.0),
        data_hash="toy",
    )


class Overflow(torch.autograd.Function):
    """The value as it is, with a gradient that is infinite."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * float("inf")


def louder(model: M, factor: float = 4.0) -> M:
    """The same model with larger matrices, so that its outputs depend clearly on its inputs."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(factor)
    return model


def tower_checkpoint(family: str, folder: Path, processor: bool = True) -> str:
    """Write a tiny checkpoint of a family, with the files of a hub download; returns its path."""
    torch.manual_seed(0)
    if family == "clip":
        ends = {"bos_token_id": 97, "eos_token_id": 98}
        model = CLIPModel(CLIPConfig(vision_config=TOWER, text_config=TOWER_WORDS | ends))
    elif family == "siglip":
        model = SiglipModel(SiglipConfig(vision_config=TOWER, text_config=TOWER_WORDS))
    else:
        model = Dinov2Model(Dinov2Config(**TOWER, mlp_ratio=2))
    louder(model).save_pretrained(folder)
    if processor:
        values = {"image_mean": TOWER_MEAN, "image_std": TOWER_STD}
        (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return str(folder)


def prefix(samples: Samples, i: int, names: tuple[str, ...], grid_lines: str) -> str:
    """Grid and prompt of one sample, written in plain Python."""
    rows, cols = samples.classes.shape[1:]
    palette = [names[c] for c in samples.palette[i]]
    listed = "[" + ", ".join(f"'{name}'" for name in palette) + "]"
    return (
        f"{grid_lines}The grid above is size {rows} by {cols}. "
        f"Each cell contains an object from {listed}.\n"
    )


def markdown(samples: Samples, i: int, names: tuple[str, ...]) -> str:
    """The table, written in plain Python."""
    return "".join(
        "|" + "".join(f" {names[c]} |" for c in row) + "\n" for row in samples.classes[i]
    )


def patch_tiled(samples: Samples, i: int, names: tuple[str, ...], patches: int) -> str:
    """The word of each patch's cell, in raster order, written in plain Python."""
    words = [
        f" {names[c]}"
        for row in samples.classes[i]
        for _ in range(patches)
        for c in row
        for _ in range(patches)
    ]
    return "".join(words) + "\n"


def question(samples: Samples, i: int, q: int) -> str:
    return f"What object is in row {samples.row[i, q]}, column {samples.col[i, q]}? A:"


def answer(samples: Samples, i: int, q: int, names: tuple[str, ...]) -> str:
    return f" {names[samples.classes[i, samples.row[i, q], samples.col[i, q]]]}\n"


def chat(samples: Samples, i: int, names: tuple[str, ...]) -> str:
    """All questions with their answers, chained."""
    return "".join(
        question(samples, i, q) + answer(samples, i, q, names) for q in range(samples.row.shape[1])
    )


def write_yaml(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def picture_folder(root: Path, names: tuple[str, ...] = ("ant", "bee", "cow"), n: int = 6) -> Path:
    """folder/class/picture.png with n different pictures of each class."""
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def all_tiles(bank: TileBank) -> np.ndarray:
    """Ids of the tiles of every split."""
    return np.concatenate([bank.tiles(split) for split in SPLITS])


def hashes_of(bank: TileBank) -> dict[str, str]:
    """The content hash of each split's tiles."""
    return {split: bank.content_hash(split) for split in SPLITS}


def by_pixels(bank: TileBank) -> TileBank:
    """The same tiles, whose hashes are made of their pixels."""
    splits = {name: dataclasses.replace(own, recipe=None) for name, own in bank.splits.items()}
    return dataclasses.replace(bank, splits=splits)


def repainted(bank: TileBank, paint: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> TileBank:
    """The same tiles with other pixels, which `paint` makes from a split's pixels and labels."""

    def other(own: SplitTiles) -> SplitTiles:
        return dataclasses.replace(
            own, draw=lambda: paint(np.asarray(own.pixels), own.labels), recipe=None
        )

    return dataclasses.replace(bank, splits={k: other(own) for k, own in bank.splits.items()})


def in_grey(pixels: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Tiles of the same shape, each in one grey level.

    Args:
        pixels: (n_tiles, size, size, 3).
        levels: (n_tiles,).
    """
    flat = levels.astype(np.uint8)[:, None, None, None]
    return np.broadcast_to(flat, pixels.shape).copy()


def check_tokens(
    table: PieceTable,
    bank: TileBank,
    names: tuple[str, ...],
    spec: SampleSpec,
    view: View,
    seed: int,
) -> None:
    """Check that the assembled tokens are the tokenizer's tokens of the joined pieces."""
    samples = draw_samples(spec, bank, seed, "train", np.arange(3))
    pieces = document_pieces(samples, view, names, table)
    ids, column = table.assemble(pieces)
    for i in range(3):
        text = table.text(pieces[i])
        expected = table.tokenizer.encode(text, add_special_tokens=False).ids
        assert ids[i][column[i] >= 0].tolist() == expected
        assert (ids[i][column[i] < 0] == table.pad_id).all()
        # Each token came from the piece whose text it spells.
        lengths = table.lengths(pieces[i])
        assert (
            column[i][column[i] >= 0].tolist() == np.repeat(range(len(lengths)), lengths).tolist()
        )


def check_disjoint(bank: TileBank) -> None:
    """Check that no source and no pixels of one split occur in another."""
    sources = [set(bank.splits[split].sources) for split in SPLITS]
    pixels = [{tile.tobytes() for tile in bank.take(bank.tiles(split))} for split in SPLITS]
    for sets in (sources, pixels):
        assert all(sets)
        assert sum(map(len, sets)) == len(set.union(*sets))


def wrong_tiles(config: TilesConfig, *says: object) -> str:
    """Load tiles that must be refused, in one line with all of these texts; returns the line."""
    with pytest.raises(UserError) as caught:
        load_bank(config)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for text in ("tiles.", *map(str, says)):
        assert text in message
    return message


@contextmanager
def forget_imports() -> Iterator[None]:
    """What is imported in this block is not registered after it."""
    before = [(registry, dict(registry)) for registry in REGISTRIES]
    imported = dict(extensions._imported)
    numbered = list(instructions.ALL), dict(instructions._NUMBERS)
    try:
        yield
    finally:
        for registry, entries in before:
            registry._entries = entries
        extensions._imported = imported
        instructions.ALL[:] = numbered[0]
        instructions._NUMBERS.clear()
        instructions._NUMBERS.update(numbered[1])


def is_progress(line: str) -> bool:
    """Whether a line on stderr is one of those that a slow machine prints every ten seconds."""
    return " s left" in line or line.endswith(" so far")


def refusal(capsys: Any, *argv: object) -> str:
    """Run a command that must fail with a user's mistake; returns its one line."""
    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    assert status == 2, captured
    lines = captured.err.splitlines()
    lines = [line for line in lines if not is_progress(line)]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("gpt2v: ")
    assert "Traceback" not in captured.out
    return lines[0]


def within(seconds: int, work: Callable[[], Any]) -> Any:
    """Run `work`, but raise a TimeoutError if it takes too long."""
    import signal

    def stop(*_: object) -> None:
        raise TimeoutError(f"not finished after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        return work()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answered(
    name: str, fields: dict[str, str], grid: list[list[str]], palette: list[str], base: int
) -> str:
    """The answer to a question about a grid of words, in plain Python."""

    def cell(prefix: str = "") -> str:
        row, col = int(fields[prefix + "row"]) - base, int(fields[prefix + "col"]) - base
        assert row >= 0
        assert col >= 0
        return grid[row][col]

    every = [word for row in grid for word in row]
    count = {word: every.count(word) for word in palette}
    if name == "lookup":
        return cell()
    if name == "count":
        return str(count[fields["object"]])
    if name == "exists":
        return "yes" if fields["object"] in every else "no"
    if name == "locate":
        cells = [
            f"row {r + base}, column {c + base}"
            for r, row in enumerate(grid)
            for c, word in enumerate(row)
            if word == fields["object"]
        ]
        return "; ".join(cells) or "none"
    if name == "row":
        return ", ".join(grid[int(fields["row"]) - base])
    if name == "column":
        return ", ".join(row[int(fields["col"]) - base] for row in grid)
    if name == "neighbour":
        down, right = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}[
            fields["direction"]
        ]
        row, col = int(fields["row"]) - base + down, int(fields["col"]) - base + right
        assert row >= 0
        assert col >= 0
        return grid[row][col]
    if name == "compare":
        assert (fields["row"], fields["col"]) != (fields["other_row"], fields["other_col"])
        return "yes" if cell() == cell("other_") else "no"
    if name == "majority":
        top = [word for word in palette if count[word] == max(count.values())]
        return top[0] if len(top) == 1 else "tie"
    if name == "matrix":
        pairs = [pair.split(" = ") for pair in fields["numbering"].split(", ")]
        assert [word for word, _ in pairs] == palette
        assert sorted(int(number) for _, number in pairs) == list(range(len(palette)))
        return "; ".join(" ".join(dict(pairs).get(word, "?") for word in row) for row in grid)
    assert name == "transcribe"
    return "; ".join(", ".join(row) for row in grid)


def write_tokens(
    folder: Path,
    documents: Iterable[str],
    tokenizer: Tokenizer,
    source: str,
    cleaning: CleaningReport | None = None,
) -> TokenFile:
    """Tokenize documents into a new folder; readers see the whole folder or none of it.

    Args:
        folder: must not exist, or must be empty.
        documents: read once; one batch of them is in memory at a time.
        tokenizer: byte-level BPE with our special tokens.
        source: where the documents come from, for meta.json.
        cleaning: counts of the cleaning of `documents`.

    Raises:
        UserError: there are no documents.
    """
    with whole_directory(folder) as temporary:
        writer = TokenWriter(temporary, tokenizer, source)
        for document in documents:
            writer.add(document)
        if not writer.n_documents:
            raise UserError(f"corpus: {source}: no document to tokenize")
        writer.close(cleaning)
    return open_tokens(folder, tokenizer)


def patch_features(model: GPT2vModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Patch embeddings before the projector: (P, 3, S, S) -> (P, N, D), without class token."""
    return model.vision_features(pixel_values)[:, : model.geometry.n_patches]
