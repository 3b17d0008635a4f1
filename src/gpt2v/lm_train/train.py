"""`gpt2v lm train`: pre-train a GPT-2 from random weights on text grids."""

import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2v.config import GPT2ModelConfig
from gpt2v.data.batches import Renderer
from gpt2v.data.pieces import END_OF_TEXT, PAD, PieceTable, special_id
from gpt2v.data.stream import Stream
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.data.tokenizer import build_tokenizer
from gpt2v.experiments import LMConfig
from gpt2v.model.device import place
from gpt2v.model.reader import Reader
from gpt2v.model.task import fit_grids


def train_lm(config: LMConfig, run: Path, bank: TileBank | None = None) -> Path:
    """Train into the run directory; returns the checkpoint."""
    started = time.monotonic()
    bank = bank or load_bank(config.tiles)
    tokenizer = build_tokenizer(config.tokenizer, bank)
    table = PieceTable(tokenizer)
    stream = Stream(config.data, Renderer(bank, table))
    stream.check(config.model.n_positions)
    torch.manual_seed(config.train.seed)
    model = place(new_gpt2(config.model, tokenizer))
    reader = Reader(model, table.image_id)
    return fit_grids("lm", model, reader, stream, config, run, started)


def new_gpt2(config: GPT2ModelConfig, tokenizer: Tokenizer) -> GPT2LMHeadModel:
    """A GPT-2 from random weights."""
    end = special_id(tokenizer, END_OF_TEXT)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=tokenizer.get_vocab_size(),
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            n_positions=config.n_positions,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            activation_function="gelu_pytorch_tanh",  # gelu_new, in one kernel
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=special_id(tokenizer, PAD),
        )
    )
