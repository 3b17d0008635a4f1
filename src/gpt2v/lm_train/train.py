"""`gpt2v lm train`: pre-train a GPT-2 on text grids, on plain text, or on both."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2v.config.effect import settled
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import GPT2ModelConfig
from gpt2v.config.training import LMConfig
from gpt2v.curriculum.fit import Prepared, check_stream, fit_stream, prepared
from gpt2v.data.corpus.tokenizing import corpus_texts, tokenize_corpus
from gpt2v.data.data_files import some_of
from gpt2v.data.render.batches import Renderer
from gpt2v.data.stream import Stream, open_corpora
from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, PieceTable, n_ids, special_id
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts, load_tokenizer, spec_texts
from gpt2v.errors import UserError, within
from gpt2v.hardware.device import place
from gpt2v.hardware.memory import check_blocks_fit
from gpt2v.messages import say
from gpt2v.model.files import gpt2_config, save_tokenizer
from gpt2v.model.found import find_checkpoint
from gpt2v.model.load import load_model
from gpt2v.model.packed import Reader
from gpt2v.train.distributed import rank, rank_0_first
from gpt2v.train.metrics import check_loggers
from gpt2v.trained.parts import say_differences
from gpt2v.trained.record import TrainedOn, record_of


def train_lm(config: LMConfig, run: Path, bank: TileBank | None = None) -> None:
    """Train a GPT-2 and write the run directory.

    Args:
        bank: the tiles, if they are loaded already.

    Raises:
        UserError: data, model and settings do not fit together, or see `fit_stream`.
        Stopped: a signal asked to stop.
    """
    started = time.monotonic()
    config = settled_lm(config)
    fit_stream(prepare_lm(config, bank), config, run, started)


def prepare_lm(config: LMConfig, bank: TileBank | None = None) -> Prepared:
    """Everything that the training needs, checked for all of its stages.

    Args:
        bank: the tiles, if they are loaded already.

    Raises:
        UserError: data, model and settings do not fit together.
    """
    check_loggers(config.train)
    bank = (bank or load_bank(config.tiles)) if config.data.has_grids else None
    torch.manual_seed(config.train.seed)
    earlier: TrainedOn | None = None
    if config.init is None:
        tokenizer = build_tokenizer(config.tokenizer, _texts(config, bank))
        table = PieceTable(tokenizer, f"tokenizer.source: {config.tokenizer.source}")
        model = new_gpt2(config.model, tokenizer)
    else:
        loaded = load_model(config.init, "init", "gpt2", for_inference=False)
        model, tokenizer, table = loaded.lm, loaded.tokenizer, loaded.table
        earlier = loaded.trained_on
        if bank and rank() == 0:
            say_differences("init", config.init, earlier, bank)
    model = place(model)
    renderer = Renderer(bank, table) if bank else None
    stream = Stream(config.data, renderer)
    check_stream(stream, model.config.n_positions, config)
    corpora = rank_0_first(lambda: open_corpora(config.data, tokenizer))
    stream = replace(stream, corpora=corpora)
    record = record_of(bank, config.data.grids, shows_pictures=False).after(earlier)
    reader = Reader(model, special_id(tokenizer, IMAGE))
    return prepared("lm", model, tokenizer, reader, stream, record, config)


def settled_lm(config: LMConfig) -> LMConfig:
    """The configuration with what `init` decides: the shape of the model, and its tokenizer.

    Raises:
        UserError: `init` is no GPT-2, or the configuration has other values.
    """
    if config.init is None:
        return config
    path = find_checkpoint(config.init, "init")
    gpt2 = gpt2_config(path, "init")
    rates = {gpt2.resid_pdrop, gpt2.embd_pdrop, gpt2.attn_pdrop}
    shape = {name: getattr(gpt2, name) for name in ("n_layer", "n_head", "n_embd", "n_positions")}
    shape["dropout"] = float(rates.pop()) if len(rates) == 1 else None
    words = {"source": config.init, "vocab_size": load_tokenizer(path, "init").get_vocab_size()}
    source = f"init: {config.init}"
    parts = {
        "model": settled(config.model, shape, "model", source),
        "tokenizer": settled(config.tokenizer, words, "tokenizer", source),
    }
    return config.model_copy(update=parts)


def _texts(config: LMConfig, bank: TileBank | None) -> Iterator[str]:
    """The texts that a tokenizer is trained on: everything that the model will read."""
    if bank:
        yield from grid_texts(bank)
        for key, spec in config.data.specs:
            if isinstance(spec, GridConfig):
                with within(key):
                    yield from spec_texts(bank, spec)
    for text in config.data.corpora:
        yield from corpus_texts(text)


def tokenize(config: LMConfig, out: Path) -> None:
    """`gpt2v data tokenize`: write the first corpus's token files and the tokenizer to `out`.

    Raises:
        UserError: the configuration has no corpus, or it cannot be read or written.
    """
    if not config.data.corpora:
        raise UserError("data.stages: there is no corpus to tokenize")
    config = settled_lm(config)
    bank = load_bank(config.tiles) if config.data.has_grids else None
    if config.init is None:
        tokenizer = build_tokenizer(config.tokenizer, _texts(config, bank))
    else:  # that of the training, whose model comes with it
        tokenizer = load_tokenizer(find_checkpoint(config.init, "init"), "init")
    corpus, *others = config.data.corpora
    left_out = dict.fromkeys(c.corpus for c in others if c.corpus != corpus.corpus)
    if left_out:
        names = some_of(list(left_out))
        say(f"data.stages: only {corpus.corpus} is tokenized; left out: {names} (other corpora)")
    tokenize_corpus(corpus, tokenizer, out, lambda folder: save_tokenizer(folder, tokenizer))
    print(f"tokens: {out}; train with `corpus: {out}` and `tokenizer: {{source: {out}}}`")


def new_gpt2(config: GPT2ModelConfig, tokenizer: Tokenizer) -> GPT2LMHeadModel:
    """A GPT-2 with random weights."""
    assert config.dropout is not None, "none needs a GPT-2 to start from"
    check_blocks_fit(config.n_layer, config.n_embd, "model.n_layer, n_embd: a GPT-2 of this size")
    end = special_id(tokenizer, END_OF_TEXT)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_ids(tokenizer),
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            n_positions=config.n_positions,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            activation_function="gelu_pytorch_tanh",  # the same function as gelu_new, in one kernel
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=special_id(tokenizer, PAD),
        )
    )
