"""Fixtures that many tests share: tiles, a tokenizer, random models and trained runs."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may use a network
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # a process per core, with one thread each
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

import helpers
from gpt2v.config.choice import choose
from gpt2v.config.models import GPT2ModelConfig, TokenizerConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts, load_tokenizer
from gpt2v.lm_train.train import new_gpt2, train_lm
from gpt2v.mm_train.train import train_mm
from gpt2v.model.encoders import new_encoder
from gpt2v.model.files import quiet_transformers
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import LoadedModel
from gpt2v.registry import VISION_TOWERS
from gpt2v.run_layout import FINISHED
from gpt2v.stopping import SIGNALS

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

settings.register_profile("gpt2v", deadline=None, max_examples=30)
settings.load_profile("gpt2v")


def pytest_xdist_auto_num_workers() -> int:
    """One more than the number of cores, because many tests wait for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    quiet_transformers()


@pytest.fixture(scope="session", autouse=True)
def _heed_signals() -> None:
    """Under nohup, or in the background, the tests and their processes would ignore some."""
    for signum in SIGNALS:
        if signal.getsignal(signum) == signal.SIG_IGN:
            is_ctrl_c = signum == signal.SIGINT
            signal.signal(signum, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes into the user's cache or reads from it."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def bank() -> TileBank:
    """Sprites of 16 pixels: 20 training tiles per class, 2 of each other split."""
    return load_bank(TilesConfig(per_class=20, size=16))


@pytest.fixture(scope="session")
def long_bank(bank: TileBank) -> TileBank:
    """The same tiles with invented names, most of which have several tokens."""
    return dataclasses.replace(bank, class_names=helpers.LONG_NAMES)


@pytest.fixture(scope="session")
def tokenizer(bank: TileBank) -> Tokenizer:
    return build_tokenizer(TokenizerConfig(), grid_texts(bank))


@pytest.fixture(scope="session")
def table(tokenizer: Tokenizer) -> PieceTable:
    return PieceTable(tokenizer)


@pytest.fixture(scope="session")
def gpt2_table() -> PieceTable:
    """GPT-2's own tokenizer, if its files exist."""
    if not (helpers.GPT2_FILES / "merges.txt").is_file():
        pytest.skip(f"GPT-2's vocab.json and merges.txt are not in {helpers.GPT2_FILES}")
    return PieceTable(load_tokenizer(str(helpers.GPT2_FILES)))


@pytest.fixture(scope="session")
def lm(tokenizer: Tokenizer) -> GPT2LMHeadModel:
    """A random GPT-2 whose weights are large enough for its logits to differ. Do not train it."""
    torch.manual_seed(0)
    config = GPT2ModelConfig(n_layer=2, n_head=2, n_embd=32, n_positions=512)
    return helpers.louder(new_gpt2(config, tokenizer)).eval()


@pytest.fixture(scope="session")
def gpt2v(lm: GPT2LMHeadModel, table: PieceTable) -> GPT2vModel:
    """A random GPT-2v for pictures of 48 pixels in 8-pixel patches. Do not train it."""
    torch.manual_seed(1)
    tower = {**helpers.TINY_TOWER, "image_size": 48}
    encoder = new_encoder(choose(VISION_TOWERS, tower))
    helpers.louder(encoder.tower)
    model = GPT2vModel.from_parts(encoder, lm, vision_layer=-2, image_token_id=table.image_id)
    return model.eval()


@pytest.fixture(scope="session")
def loaded(gpt2v: GPT2vModel, tokenizer: Tokenizer) -> LoadedModel:
    """The same GPT-2v as `load_model` returns it."""
    return LoadedModel(gpt2v.language_model, gpt2v, tokenizer, "")


def _shared(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """A run for all processes; the first that needs it makes it. Tests must not write into it."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    run = root / f"shared-{name}"
    with FileLock(f"{run}.lock"):
        if not (run / FINISHED).is_file():
            run.mkdir(exist_ok=True)
            make(run)
    return run


@pytest.fixture(scope="session")
def lm_run(bank: TileBank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 that has begun to learn 1x2 grids."""
    return _shared(tmp_path_factory, "lm", lambda run: train_lm(helpers.lm_config(), run, bank))


@pytest.fixture(scope="session")
def mm_run(bank: TileBank, lm_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2v of that GPT-2, after a few steps on pictures."""
    config = helpers.mm_config(lm_run)
    return _shared(tmp_path_factory, "mm", lambda run: train_mm(config, run, bank))
