"""MM-Train with a frozen vision tower, compared with Hugging Face's Trainer on a stock LLaVA.

    python bench/mm.py --tokenizer gpt2

The data are a fixed set of pictures (3x3 grids of sprites) with nine questions about each, which
are repeated in every epoch. The cases are:

vit-b32: a tower of ViT-B/32's size (random weights), a GPT-2 of two layers, 128 wide;
vocabulary: a tiny tower and such a GPT-2 with GPT-2's 50,257 words;
gpt2-small: ViT-B/32's size and GPT-2 small.

All have the same weights, conversations, batches, threads, optimizer (AdamW, clipping) and
precision (fp32). Seconds per step are the medians over interleaved repetitions, without their first
steps. The peers' pictures and words are prepared before the clock starts, ours while it runs. Our
features are computed before the first step (this time is printed), so the steps are those of every
later epoch.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from gpt2v.config.choice import Choice
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import GPT2ModelConfig, TokenizerConfig, VisionConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.training import MMConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.stream import Stream
from gpt2v.data.text_pieces import IMAGE, PieceTable, special_id
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts, load_tokenizer
from gpt2v.features.sources import CachedPatches, training_source
from gpt2v.hardware.device import place
from gpt2v.hardware.memory import keep_freed_memory
from gpt2v.lm_train.train import new_gpt2
from gpt2v.model.encoders import new_encoder
from gpt2v.model.files import quiet_transformers
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.llava import llava_model
from gpt2v.model.packed import Reader
from gpt2v.registry import VISION_TOWERS
from gpt2v.runs import versions
from lm import WARM, measure, our_seconds, table
from peers import Peer, hf_seconds

QUESTIONS = 9  # about each picture
FROZEN = "^vision_tower"
SPEC = {"modality": "image", "picture": {"resize": True}}


@dataclass(frozen=True)
class Case:
    """The models of one case, and the size of its measurement."""

    vision: VisionConfig
    lm: GPT2ModelConfig
    own_words: bool  # whether the tokenizer is our own with 1,024 words; otherwise GPT-2's
    batch: int
    steps: int
    repetitions: int


_B32 = VisionConfig(
    image_size=224, patch_size=32, hidden_size=768, num_hidden_layers=12, num_attention_heads=12
)
_TINY = VisionConfig(image_size=96, patch_size=16, hidden_size=128, num_hidden_layers=4)
_SHORT = GPT2ModelConfig(n_layer=2, n_embd=128, n_head=4, n_positions=512)
_SMALL = GPT2ModelConfig(n_layer=12, n_embd=768, n_head=12, n_positions=1024)
CASES = {
    "vit-b32": Case(_B32, _SHORT, own_words=True, batch=32, steps=8, repetitions=3),
    "vocabulary": Case(_TINY, _SHORT, own_words=False, batch=32, steps=8, repetitions=3),
    "gpt2-small": Case(_B32, _SMALL, own_words=False, batch=8, steps=2, repetitions=2),
}


class Setting:
    """One case with its data, and its model, which is the same for all set-ups."""

    def __init__(self, case: Case, bank: TileBank, tokenizer: Tokenizer, pictures: int) -> None:
        self.case, self.bank, self.tokenizer, self.pictures = case, bank, tokenizer, pictures
        self.cache = tempfile.TemporaryDirectory()
        vision = case.vision
        geometry = PictureGeometry(vision.image_size, vision.patch_size)
        self.render = Renderer(bank, PieceTable(tokenizer), geometry)
        self.steps = case.steps + WARM

    def model(self) -> GPT2vModel:
        torch.manual_seed(0)
        encoder = new_encoder(Choice("clip", VISION_TOWERS, self.case.vision))
        lm = new_gpt2(self.case.lm, self.tokenizer)
        image_id = special_id(self.tokenizer, IMAGE)
        return GPT2vModel.from_parts(encoder, lm, vision_layer=-2, image_token_id=image_id)

    def ours(self, n_images: int | None, features: str) -> list[float]:
        """Seconds of our steps, on `n_images` pictures, or on ever new ones if it is None."""
        spec = {**SPEC, "n_images": n_images}
        stages = [{"steps": self.steps, "mix": [spec]}]
        group = {"name": "all", "pattern": ""}
        config = MMConfig.model_validate(
            {
                "lm": "-",
                "features": {"mode": features, "path": self.cache.name},
                "data": {"batch_size": self.case.batch, "stages": stages},
                "train": {"groups": [group], "eval_grids": 1},
            }
        )
        model = place(self.model())
        stream = Stream(config.data, self.render)
        for name, p in model.named_parameters():
            p.requires_grad_(not name.startswith("vision_tower"))
        source = training_source(model, stream, config)
        if isinstance(source, CachedPatches):
            source.begin()
        reader = Reader.of(model, source)
        return our_seconds(model, reader, stream.batch, self.steps, FROZEN)

    def examples(self) -> list[dict[str, Any]]:
        """The conversations: one sequence for each picture with all its questions."""
        model = self.model()
        spec = GridConfig.model_validate({**SPEC, "mode": "chained"})
        index = np.arange(self.case.batch * self.steps)
        data = GridDataset(spec, self.bank)
        batch = data.batch(index, "image", self.render, mode="chained")
        assert batch.pixels is not None
        lengths = (batch.segments >= 0).sum(1)
        values = model.normalise(batch.pixels)
        rows = zip(batch.input_ids, batch.labels, lengths, values, strict=True)
        return [
            {"input_ids": ids[:n], "labels": labels[:n], "pixel_values": value}
            for ids, labels, n, value in rows
        ]

    def peer(self, peer: Peer, examples: list[dict[str, Any]]) -> list[float]:
        """Seconds of the Trainer's steps on a stock LLaVA with a frozen tower."""
        llava = llava_model(self.model(), self.tokenizer).train()
        llava.model.vision_tower.requires_grad_(False)
        return hf_seconds(peer, llava, examples, self.case.batch, self.steps, WARM)

    def set_ups(self) -> dict[str, Callable[[], list[float]]]:
        examples = self.examples()
        plain, tuned = Peer("", "sdpa"), Peer("", "sdpa", supervised_only=True)
        return {
            "gpt2v, features kept": lambda: self.ours(self.pictures, "require"),
            "gpt2v, new pictures at every step": lambda: self.ours(None, "off"),
            "HF Trainer, LLaVA": lambda: self.peer(plain, examples),
            "HF Trainer, LLaVA, logits_to_keep": lambda: self.peer(tuned, examples),
        }

    def building(self) -> float:
        """Seconds to compute the features of all pictures, and to run the steps."""
        begin = time.perf_counter()
        self.ours(self.pictures, "require")
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=[*CASES, "all"], default="all")
    parser.add_argument("--pictures", type=int, default=2000, help="in the fixed set")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokenizer", default="gpt2", help="GPT-2's: a hub id or a folder")
    parser.add_argument("--out", default="bench-mm.json")
    args = parser.parse_args()
    quiet_transformers()
    keep_freed_memory()  # as `gpt2v` does; it helps the peers, too
    torch.set_num_threads(args.threads)
    bank = load_bank(TilesConfig(per_class=200))
    rows: list[dict[str, Any]] = []
    for name in CASES if args.case == "all" else [args.case]:
        case = CASES[name]
        tokenizer = (
            build_tokenizer(TokenizerConfig(), grid_texts(bank))
            if case.own_words
            else load_tokenizer(args.tokenizer, "--tokenizer")
        )
        setting = Setting(case, bank, tokenizer, args.pictures)
        building = setting.building()
        seconds, _ = measure(setting.set_ups(), case.repetitions)
        units = dict.fromkeys(seconds, float(case.batch * QUESTIONS))
        rows += table(name, seconds, units, "questions", "HF Trainer, LLaVA")
        step = statistics.median(seconds["gpt2v, features kept"])
        print(f"features of {args.pictures:,} pictures: {building - step * setting.steps:.0f} s")
        rows.append({"case": name, "set_up": "building", "seconds": building})
        setting.cache.cleanup()
    content = {"kind": "bench", "versions": versions(), "threads": args.threads, "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
