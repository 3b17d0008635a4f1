"""What `fuzz_inputs.py` damages: good inputs, the commands that read them, and what is right.

A subject makes its good input once. For each mutant it is copied and damaged, a command reads it,
and if the command accepts it, `check` compares the result with one that is made independently:
YAML read by ruamel.yaml, pictures decoded by Pillow, text read in a few lines here, weights loaded
by plain transformers.

Shapes: B samples of a batch, T token positions.
"""

import gzip
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from PIL import Image, ImageOps
from ruamel.yaml import YAML
from transformers import CLIPImageProcessorPil

from fuzz_mutations import damage_file, damage_folder
from gpt2v.cli.main import main
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.corpus.cleaning import CleaningReport, clean
from gpt2v.data.corpus.tokens import open_tokens
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.model.clip import normalise
from gpt2v.model.encoders import load_encoder
from gpt2v.model.load import load_model

SIZES = frozenset({"per_class", "steps", "n_images", "n_train", "n_test", "eval_grids"})
TILES = "tiles: {source: sprites, per_class: 20, size: 16}\n"
TRAIN = "train: {eval_grids: 4, groups: [{name: all, pattern: '', lr: 0.01, optimizer: adamw}]}\n"
CONFIGS = {
    "lm train": TILES + TRAIN + "model: {n_layer: 1, n_embd: 16, n_head: 2, n_positions: 256}\n"
    "tokenizer: {source: trained, vocab_size: 300}\n"
    "data:\n  batch_size: 2\n  stages:\n  - steps: 2\n    mix:\n    - {rows: 2, cols: [2, 3]}\n"
    "    - {rows: 2, cols: 2, form: csv, instructions: [lookup, count], weight: 0.5}\n",
    "encoder train": TILES + TRAIN + "vision: {image_size: 32, patch_size: 8, hidden_size: 16, "
    "num_hidden_layers: 1, num_attention_heads: 2}\ntext: {hidden_size: 16, num_hidden_layers: 1, "
    "num_attention_heads: 2}\nprojection_dim: 8\nbatch_size: 4\nsteps: 2\n"
    "scenes: {layouts: [{lattice: 2, scale: [0.8, 1.2], occupancy: 0.8}]}\n",
    "mm train": TILES + TRAIN + "lm: good/lm\nencoder: good/encoder\nprojector: {name: mlp, "
    "hidden_size: 16}\npool: 1\ndata:\n  batch_size: 2\n  stages:\n  - steps: 2\n    mix:\n"
    "    - {modality: image, weight: 3}\n    - {modality: text}\n",
    "eval good/mm --suite": "grid: {rows: 2, cols: 2, palette: 3}\nn_images: 4\nseed: 3\n"
    "modalities: [text, image]\n" + TILES,
    "probe": TILES + "model: good/mm\nn_train: 40\nn_test: 10\nseed: 1\n",
    "ablate tokens": TILES + "model: good/mm\nn_images: 4\ngrid: {rows: 3, cols: 3}\n",
    "data export --format folder": "tiles: {per_class: 20, size: 16}\ngrid: {rows: [2, 3], cols: 3,"
    " questions: 3}\nn_images: 6\nshard_size: 4\n",
}
STORY = 'Once upon a time there was a small {} that lived in the {} wood. It said: "I\'m {}!"\n'


@dataclass(frozen=True)
class Subject:
    """A kind of input.

    Attributes:
        make: writes the good input below a folder, given the folder of the good models.
        damage: damages a copy of it; returns what was done.
        command: the words of the command, given the folder of the copy and a random generator.
        check: after exit 0, what is wrong with the result; empty: nothing.
    """

    make: Callable[[Path, Path], None]
    damage: Callable[[Path, Random], str]
    command: Callable[[Path, Random], list[str]]
    check: Callable[[Path, list[str]], str]


# ---- configurations ---------------------------------------------------------------------------


def _make_configs(folder: Path, good: Path) -> None:
    for number, text in enumerate(CONFIGS.values()):
        (folder / f"{number}.yaml").write_text(text)


def _damage_config(folder: Path, draw: Random) -> str:
    """Damage one configuration and remove the others, so that `command` finds the damaged one."""
    chosen = draw.choice(sorted(folder.glob("*.yaml")))
    for other in folder.glob("*.yaml"):
        if other != chosen:
            other.unlink()
    done = damage_file(chosen, draw, SIZES)
    return f"{done} ({list(CONFIGS)[int(chosen.stem)]})"


def _config_command(folder: Path, draw: Random) -> list[str]:
    file = next(folder.glob("*.yaml"))
    words = list(CONFIGS)[int(file.stem)].split()
    out = "--to" if "export" in words else "--out"
    at = words.index("--format") if "--format" in words else len(words)
    return [*words[:at], str(file), *words[at:], out, "out"]


def _check_config(folder: Path, words: list[str]) -> str:
    """Every value of the file must stand in the configuration that the run has recorded."""
    given = _yaml12(next(folder.glob("*.yaml")))
    written = Path("out/config.yaml")
    if not written.exists():  # an export
        return ""
    return _missing(given, _yaml12(written), "")


def _yaml12(path: Path) -> Any:
    parser = YAML(typ="safe", pure=True)
    parser.allow_duplicate_keys = False
    return parser.load(path.read_bytes())


def _missing(given: Any, resolved: Any, key: str) -> str:
    if isinstance(resolved, dict) and isinstance(given, str):
        resolved = resolved.get("name")  # `projector: mlp`
    if isinstance(given, dict) and isinstance(resolved, str):
        given = given.get("name", resolved)
    if isinstance(given, dict) and isinstance(resolved, dict):
        faults = [_missing(value, resolved.get(k), f"{key}.{k}") for k, value in given.items()]
    elif isinstance(given, list) and isinstance(resolved, list) and len(given) == len(resolved):
        pairs = zip(given, resolved, strict=True)
        faults = [_missing(a, b, f"{key}.{i}") for i, (a, b) in enumerate(pairs)]
    elif isinstance(given, list) and isinstance(resolved, dict):  # instructions, each of weight 1
        faults = ["" if set(map(str, given)) == set(resolved) else f"{key}: {given} is {resolved}"]
    elif given is None or given == resolved:
        faults = []
    elif isinstance(given, int | float) and isinstance(resolved, list):  # 3 for [3, 3]
        faults = ["" if set(resolved) == {given} else f"{key}: {given!r} is {resolved!r}"]
    else:
        faults = [f"{key}: {given!r} is recorded as {resolved!r}"]
    return next(filter(None, faults), "")


# ---- tile folders -----------------------------------------------------------------------------


def _make_tiles(folder: Path, good: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("bird", "cat", "sea otter"):
        (folder / name).mkdir()
        for number in range(12):
            side = int(draw.integers(8, 40))
            pixels = draw.integers(0, 256, (side, side + number % 3, 3), np.uint8)
            picture = Image.fromarray(pixels)
            exif = Image.Exif()
            exif[0x0112] = number % 8 + 1
            if number % 3 == 0:
                picture.save(folder / name / f"{number:02}.jpg", exif=exif)
            elif number % 3 == 1:
                picture.convert("P" if number % 2 else "L").save(folder / name / f"{number:02}.png")
            else:
                picture.save(folder / name / f"{number:02}.bmp")


def _damage_folder_or_file(folder: Path, draw: Random) -> str:
    """Damage one file, or the folder's entries, or both."""
    done = []
    if draw.random() < 0.6:
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        done.append(damage_file(draw.choice(files), draw))
    if not done or draw.random() < 0.2:
        done.append(damage_folder(folder, draw))
    return ", ".join(done)


def _tile_command(folder: Path, draw: Random) -> list[str]:
    options = ["--tiles.source", "folder", "--tiles.path", str(folder), "--tiles.size", "12"]
    options += ["--tiles.corrupt", draw.choice(("refuse", "skip"))]
    options += ["--tiles.decode", draw.choice(("once", "on-the-fly"))]
    (folder.parent / "config.yaml").write_text("grid: {rows: 2, cols: 2, palette: 2}\n")
    return ["data", "preview", "config.yaml", "--png", "out", *options]


def _check_tiles(folder: Path, words: list[str]) -> str:
    """Every tile must equal the same file as Pillow shows it, upright."""
    corrupt = words[words.index("--tiles.corrupt") + 1]
    bank = load_bank(
        TilesConfig(source="folder", path=str(folder), size=12, corrupt=corrupt)  # type: ignore[arg-type]
    )
    seen = set()
    for split in SPLITS:
        own = bank.splits[split]
        for source, label, pixels in zip(own.sources, own.labels, own.pixels[:], strict=True):
            file = next(
                (p for p in (Path(source), folder / source, folder.parent / source) if p.is_file()),
                None,
            )
            if file is None:
                return f"no such file: {source}"
            with Image.open(file) as picture:
                upright = ImageOps.exif_transpose(picture).convert("RGB")
            if upright.size != (12, 12):
                upright = upright.resize((12, 12), Image.Resampling.BICUBIC)
            if not np.array_equal(np.asarray(upright), pixels):
                return f"{file.name}: other pixels than the file has"
            if bank.class_names[label] not in file.as_posix():
                return f"{file.name}: the class is {bank.class_names[label]}"
            seen.add(file.resolve())
    said = Path("said").read_text(errors="replace")
    left = [
        p
        for p in folder.rglob("*.*")
        if p.suffix.lower() in (".png", ".jpg", ".bmp", ".gif", ".tiff")
        and not any(part.startswith((".", "__")) for part in p.relative_to(folder).parts)
        and p.is_file()
        and p.resolve() not in seen
    ]
    return "" if not left or re.search(r"skip|left out|not read", said) else f"silent: {left[:3]}"


# ---- text -------------------------------------------------------------------------------------


def _make_text(folder: Path, good: Path) -> None:
    animals, woods = ("fox", "owl", "cow"), ("dark", "blue", "old")
    stories = [STORY.format(animal, wood, animal) for animal in animals for wood in woods]
    for number in range(3):
        part = stories[number::3]
        (folder / f"{number}.txt").write_text("<|endoftext|>\n".join(part))
    rows = [json.dumps({"text": s.replace("small", "large"), "id": 1}) for s in stories]
    (folder / "a.jsonl").write_text("\n".join(rows) + "\n")
    table = pa.table({"text": [s.replace("small", "wise") for s in stories]})
    pq.write_table(table, folder / "b.parquet")
    (folder / "c.txt.gz").write_bytes(gzip.compress(stories[0].replace("small", "shy").encode()))


def _text_command(folder: Path, draw: Random) -> list[str]:
    config = TRAIN + f"tokenizer: {{source: 'good/lm/checkpoints/{LAST}'}}\n"
    config += "data:\n  batch_size: 2\n  stages:\n"
    config += f"  - steps: 1\n    mix:\n    - {{corpus: '{folder}', context: 8}}\n"
    (folder.parent / "config.yaml").write_text(config)
    return ["data", "tokenize", "config.yaml", "--out", "out"]


PROCESSORS = ("preprocessor_config.json", "processor_config.json")
LAST = "step-000040"  # the checkpoint of the smoke demo's GPT-2


def _check_text(folder: Path, words: list[str]) -> str:
    """The tokens must be exactly the documents of the files, each read in a few lines here."""
    tokenizer = load_tokenizer(f"good/lm/checkpoints/{LAST}")
    got: list[str] = []
    for part in ("train", "valid"):
        file = open_tokens(Path("out") / part, tokenizer)
        for start, end in zip(file.offsets[:-1], file.offsets[1:], strict=True):
            ids = np.asarray(file.tokens[int(start) : int(end)])
            got.append(tokenizer.decode(ids.tolist(), skip_special_tokens=True))
    expected: list[str] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != "."):
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        name = path.name.removesuffix(".gz").lower()
        if name.endswith(".txt"):
            text = content.decode("utf-8-sig")
            expected += [part.strip("\r\n") for part in text.split("<|endoftext|>")]
        elif name.endswith(".jsonl"):
            lines = content.decode("utf-8-sig").split("\n")
            expected += [json.loads(line)["text"] or "" for line in lines if line.strip()]
        elif name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
            expected += [text or "" for text in table["text"].to_pylist()]
    wanted = sorted(clean(expected, CleaningReport()))
    if sorted(got) != wanted:
        extra = [d for d in got if d not in wanted][:1] or [d for d in wanted if d not in got][:1]
        return f"{len(got)} documents instead of {len(wanted)}, e.g. {extra}"
    return ""


# ---- checkpoints ------------------------------------------------------------------------------


def _make_model(kind: str) -> Callable[[Path, Path], None]:
    def make(folder: Path, good: Path) -> None:
        newest = sorted((good / kind / "checkpoints").iterdir())[-1]
        for file in newest.iterdir():
            if file.name not in ("optimizer.safetensors", "trainer.json", "MANIFEST.json"):
                shutil.copyfile(file, folder / file.name)

    return make


def _model_command(folder: Path, draw: Random) -> list[str]:
    grid = ["--grid.rows", "2", "--grid.cols", "2", "--n_images", "4", "--tiles.per_class", "40"]
    only = ["--modalities", "[text]"] if folder.name.startswith("lm") else []
    return ["eval", str(folder), "--out", "out", *grid, *only]


def _check_lm(folder: Path, words: list[str]) -> str:
    """Logits must be those of plain transformers."""
    tokens = torch.arange(3, 40)[None]
    plain = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(str(folder)).lm
    with torch.no_grad():
        a, b = plain(tokens).logits, ours(tokens).logits
    size = a.shape[-1]
    difference = (a - b[..., :size]).abs().max()
    if not math.isfinite(difference) or difference > 1e-4:
        return f"logits differ from transformers' by {difference}"
    return _check_results()


def _check_results(*_: Any) -> str:
    for row in json.loads(Path("out/results.json").read_text())["results"]:
        low, high = row["ci95"]
        if not 0 <= low <= row["accuracy"] <= high <= 1:
            return f"accuracy {row['accuracy']} in {row['ci95']}"
    return ""


def _make_encoder(folder: Path, good: Path) -> None:
    _make_model("encoder")(folder, good)
    side = json.loads((folder / "config.json").read_text())["vision_config"]["image_size"]
    size = {"height": side, "width": side}
    CLIPImageProcessorPil(size=size, crop_size=size).save_pretrained(folder)


def _encoder_command(folder: Path, draw: Random) -> list[str]:
    config = CONFIGS["mm train"].replace("good/encoder", f"'{folder}'")
    (folder.parent / "config.yaml").write_text(config)
    return ["mm", "train", "config.yaml", "--out", "out"]


def _check_encoder(folder: Path, words: list[str]) -> str:
    """Pixels must be those of transformers' processor, features those of its tower."""
    ours = load_encoder(str(folder))
    tower = transformers.CLIPVisionModel.from_pretrained(folder, dtype=torch.float32).eval()
    side = ours.tower.config.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    mine = normalise(pixels[None], torch.device("cpu"), ours.mean, ours.std)
    has_processor = any((folder / name).is_file() for name in PROCESSORS)
    if has_processor:
        theirs = CLIPImageProcessorPil.from_pretrained(folder)(
            Image.fromarray(pixels), return_tensors="pt"
        ).pixel_values
        if mine.shape != theirs.shape or not torch.allclose(mine, theirs, atol=1e-4, rtol=1e-4):
            return "other pixels than transformers' processor"
    with torch.no_grad():
        a, b = tower(mine).last_hidden_state, ours.tower.eval()(mine).last_hidden_state
    return "" if torch.allclose(a, b, atol=1e-4, rtol=1e-4) else "other features than transformers'"


def _check_mm(folder: Path, words: list[str]) -> str:
    loaded = load_model(str(folder))
    assert loaded.gpt2v is not None
    bad = [name for name, value in loaded.gpt2v.named_parameters() if not value.isfinite().all()]
    return f"not finite: {bad[0]}" if bad else _check_results()


# ---- results ----------------------------------------------------------------------------------


def _make_results(folder: Path, good: Path) -> None:
    for name in ("eval", "mm"):
        ignore = shutil.ignore_patterns("checkpoints", "tensorboard")
        shutil.copytree(good / name, folder / name, ignore=ignore)


def _report_command(folder: Path, draw: Random) -> list[str]:
    return ["report", str(folder / "eval"), str(folder / "mm"), "--out", "out"]


def _check_report(folder: Path, words: list[str]) -> str:
    """The page must be whole, and show each accuracy of the results."""
    text = Path("out/index.html").read_text("utf-8")
    parser = HTMLParser()
    parser.feed(text)
    if not text.rstrip().endswith("</html>"):
        return "the page is not whole"
    if re.search(r">\s*(nan|inf|None)\b", text):
        return "the page shows nan, inf or None"
    for row in json.loads((folder / "eval/results.json").read_text())["results"]:
        accuracy = row["accuracy"]
        if accuracy is not None and f"{100 * accuracy:.1f}" not in text:
            return f"the page does not show {accuracy}"
    return ""


SUBJECTS: dict[str, Subject] = {
    "configuration": Subject(_make_configs, _damage_config, _config_command, _check_config),
    "tile folder": Subject(_make_tiles, _damage_folder_or_file, _tile_command, _check_tiles),
    "text files": Subject(_make_text, _damage_folder_or_file, _text_command, _check_text),
    "lm checkpoint": Subject(_make_model("lm"), _damage_folder_or_file, _model_command, _check_lm),
    "mm checkpoint": Subject(_make_model("mm"), _damage_folder_or_file, _model_command, _check_mm),
    "encoder checkpoint": Subject(
        _make_encoder, _damage_folder_or_file, _encoder_command, _check_encoder
    ),
    "results": Subject(_make_results, _damage_folder_or_file, _report_command, _check_report),
}


def good_models(folder: Path) -> None:
    """The models of a tiny demo."""
    tiny = ["--encoder.steps", "4", "--encoder.train.eval_grids", "4", "--eval.n_images", "24"]
    if main(["demo", "--preset", "smoke", "--out", str(folder), *tiny]):
        raise SystemExit("the demo failed")
