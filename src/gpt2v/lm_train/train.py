"""`gpt2v lm train`: pre-train a GPT-2 from random weights on text grids."""

import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2v import runs
from gpt2v.config import GPT2ModelConfig, LMConfig, dump
from gpt2v.data.batches import Renderer
from gpt2v.data.pieces import END_OF_TEXT, PAD, PieceTable, special_id
from gpt2v.data.stream import Stream, data_hash
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.data.tokenizer import build_tokenizer
from gpt2v.model.files import save_checkpoint
from gpt2v.model.reader import Reader
from gpt2v.model.task import grid_task
from gpt2v.train.loop import best_device, fit


def train_lm(config: LMConfig, run: Path, bank: TileBank | None = None) -> Path:
    """Train into the run directory; returns the checkpoint."""
    started = time.monotonic()
    bank = bank or load_bank(config.tiles)
    tokenizer = build_tokenizer(config.tokenizer, bank)
    table = PieceTable(tokenizer)
    stream = Stream(config.data, Renderer(bank, table))
    stream.check(config.model.n_positions)
    torch.manual_seed(config.train.seed)
    model = new_gpt2(config.model, tokenizer).to(best_device())
    reader = Reader(model, table.image_id)
    runs.write_text(run / "config.yaml", dump(config))
    task = grid_task(model, reader, stream, config.train.eval_grids)
    found = fit(task, config.train, stream.steps, run, "lm")
    checkpoint = save_checkpoint(run, stream.steps, model, tokenizer)
    runs.write_results(
        run,
        "lm",
        started,
        seed=config.train.seed,
        data_hash=data_hash(bank, config.data),
        results=[{"split": "val", "n_images": config.train.eval_grids, **found}],
    )
    return checkpoint


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
