"""How often each kind of training waits for its device: `python tests/training_syncs.py`.

Each kind is trained on the pretended device three times, with other numbers of steps and of
micro-batches per step. What the trainings differ in is what a step costs, and a micro-batch; start,
validation and saving are the same in all of them.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.encoder_train.train import train_encoder
from gpt2v.lm_train.train import train_lm
from gpt2v.mm_train.train import train_mm
from pretended_device import Syncs, counted, pretended

Train = Callable[[Path, int, int], None]  # into a new run folder, steps, micro-batches per step
WORDS = "the cat saw a bird and the dog ran to the big red house with a frog"
GRID = {"rows": 1, "cols": 2}
PICTURE = {**GRID, "modality": "image"}
_STEPS = 2


def settings(values: dict[str, Any], **train: Any) -> dict[str, Any]:
    """A configuration with other settings of the loop: AdamW, and no line of the log."""
    groups = [{**g, "optimizer": "adamw", "lr": 0.003} for g in values["train"]["groups"]]
    own = {"groups": groups, "log_every": 1000, "eval_grids": 4, "tensorboard": False}
    return {**values, "train": {**values["train"], **own, **train}}


def data_of(mix: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    return {"batch_size": 8, "stages": [{"steps": steps, "mix": mix}]}


def write_text(path: Path, n: int = 40) -> Path:
    """A file of stories."""
    words = WORDS.split()
    stories = (" ".join(words[i % 7 :] + words[: i % 11]) for i in range(n))
    path.write_text("<|endoftext|>".join(stories))
    return path


@dataclass(frozen=True)
class Trainings:
    """Tiny trainings of every kind; `lm` is a trained GPT-2, for the kinds with pictures."""

    folder: Path
    bank: TileBank
    lm: Path

    def lm_on(
        self, mix: list[dict[str, Any]], run: Path, steps: int, parts: int, **more: Any
    ) -> None:
        values = settings(helpers.TINY_LM, accumulate=parts, **more)
        train_lm(LMConfig.model_validate({**values, "data": data_of(mix, steps)}), run, self.bank)

    def grids(self, run: Path, steps: int, parts: int, **more: Any) -> None:
        self.lm_on([GRID], run, steps, parts, **more)

    def text(self, run: Path, steps: int, parts: int, **more: Any) -> None:
        self.lm_on([self._corpus()], run, steps, parts, **more)

    def _corpus(self) -> dict[str, Any]:
        text = self.folder / "stories.txt"
        if not text.exists():
            write_text(text)
        return {"corpus": str(text), "context": 16}

    def mm_on(
        self, mix: list[dict[str, Any]], run: Path, steps: int, parts: int, **more: Any
    ) -> None:
        model = more.pop("model", {})
        cached = more.pop("cached", False)
        values = settings(helpers.TINY_MM, accumulate=parts, **more)
        if cached:
            values["train"]["groups"][0]["lr"] = 0
        features = {"mode": "require" if cached else "off", "path": str(self.folder / "features")}
        if "encoder" in model:
            values.pop("vision")
        values |= {"data": data_of(mix, steps), "features": features, **model}
        train_mm(MMConfig.model_validate({**values, "lm": str(self.lm)}), run, self.bank)

    def pictures(self, run: Path, steps: int, parts: int, **more: Any) -> None:
        self.mm_on([PICTURE], run, steps, parts, **more)

    def cached_pictures(self, run: Path, steps: int, parts: int, **more: Any) -> None:
        self.mm_on([{**PICTURE, "n_images": 8}], run, steps, parts, cached=True, **more)

    def mixed(self, run: Path, steps: int, parts: int, **more: Any) -> None:
        mix = [PICTURE, {**GRID, "modality": "text+image"}, GRID, self._corpus()]
        self.mm_on(mix, run, steps, parts, **more)

    def encoder(self, run: Path, steps: int, parts: int, **more: Any) -> None:
        values = settings(helpers.TINY_ENCODER, accumulate=parts, **more)
        values |= {"steps": steps, "batch_size": 8}
        train_encoder(EncoderConfig.model_validate(values), run, self.bank)

    @property
    def kinds(self) -> dict[str, Train]:
        return {
            "grids as text": self.grids,
            "plain text": self.text,
            "pictures": self.pictures,
            "pictures, cached": self.cached_pictures,
            "encoder": self.encoder,
        }


def syncs_of(train: Train, folder: Path) -> tuple[Syncs, Syncs]:
    """What a training costs per micro-batch, and per step besides its micro-batches."""

    def measured(steps: int, parts: int) -> Syncs:
        run = folder / f"{steps}-{parts}"
        run.mkdir(parents=True)
        with pretended(), counted() as syncs:
            train(run, steps, parts)
        return syncs

    measured(1, 1)  # makes a cache of features
    base, longer, split = measured(_STEPS, 1), measured(2 * _STEPS, 1), measured(_STEPS, 2)
    per_part, per_step = Syncs(), Syncs()
    for kind in ("reads", "uploads"):
        both = _difference(getattr(longer, kind), getattr(base, kind))
        part = _difference(getattr(split, kind), getattr(base, kind))
        getattr(per_part, kind).extend(part.elements())
        getattr(per_step, kind).extend((both - part).elements())
    return per_part, per_step


def _difference(more: list[str], fewer: list[str]) -> Counter[str]:
    """What one list has more than the other, per step, rounded up."""
    count = Counter(more)
    count.subtract(Counter(fewer))
    assert min(count.values(), default=0) >= 0, "a longer training waits less"
    return Counter({place: -(-n // _STEPS) for place, n in count.items() if n})


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        bank = load_bank(helpers.lm_config().tiles)
        lm = folder / "lm"
        lm.mkdir()
        with Path(os.devnull).open("w") as null, redirect_stdout(null), redirect_stderr(null):
            trainings = Trainings(folder, bank, lm)
            trainings.grids(lm, 2, 1)
            kinds = [(kind, syncs_of(f, folder / kind)) for kind, f in trainings.kinds.items()]
        for kind, (per_part, per_step) in kinds:
            print(f"{kind}: per micro-batch {per_part}\n{kind}: per step {per_step}\n")


if __name__ == "__main__":
    main()
