"""Scores without generation are the results of greedy generation."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.model.found import find_checkpoint
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import accuracy, score

SPEC = GridConfig(rows=1, cols=2, palette=4)
COLUMNS = {"sample", "instruction", "row", "col", "truth", "generated", "prediction", "exact"}
COLUMNS |= {"palette", "tiles", "choices", "logprobs"}
COLUMNS |= {"question", "content", "other_row", "other_col", "direction", "object"}
COLUMNS |= {"rows", "cols", "slot"}


@pytest.fixture(scope="module")
def trained(lm_run):
    path = find_checkpoint(str(lm_run), "lm")
    return GPT2LMHeadModel.from_pretrained(path).eval(), PieceTable(load_tokenizer(path))


def generated(lm, table, text, n):
    """Greedy continuation of `text` by n tokens, as text."""
    ids = torch.tensor([table.tokens(text)])
    out = lm.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=n, eos_token_id=-1
    )
    return table.tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=False)


def check_against_generation(lm, table, bank, n):
    samples = draw_samples(SPEC, bank, 0, "test", np.arange(n))
    batch = Renderer(bank, table)(samples, TextView(), "independent", with_choices=True)
    records = score(Reader(lm, table.image_id), batch, Renderer(bank, table))
    for i in range(n):
        for q in range(2):
            names = bank.class_names
            text = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
            said = helpers.answer(samples, i, q, names)
            text += helpers.question(samples, i, q)
            new = generated(lm, table, text, len(table.tokens(said)))
            assert records["exact"][2 * i + q] == (new == said)
    return records


def test_exact_is_greedy_generation_with_its_newline(trained, bank):
    records = check_against_generation(*trained, bank, 12)
    assert 0 < accuracy(records) < 1  # both cases occur


def test_exact_is_greedy_generation_for_names_of_several_tokens(trained, bank):
    """The name of every other class has two words, so its answer has several tokens."""
    lm, table = trained
    said = check_against_generation(lm, table, bank, 4)["prediction"]
    longer = tuple(f"{n}-{n}" if i % 2 else n for i, n in enumerate(bank.class_names))
    records = check_against_generation(lm, table, dataclasses.replace(bank, class_names=longer), 6)
    assert len(said) == 8
    assert len(records["exact"]) == 12


def test_a_model_that_forgets_the_newline_is_not_exact(trained, bank):
    """Planted: a bias against the newline makes the first token right and the answer wrong."""
    lm, table = trained
    samples = draw_samples(SPEC, bank, 0, "test", np.arange(20))
    batch = Renderer(bank, table)(samples, TextView(), "independent", with_choices=True)
    newline = table.tokens("\n")[0]

    class Mute(torch.nn.Module):
        def forward(self, x):
            logits = lm.lm_head(x)
            logits[:, newline] -= 100
            return logits

    class Wrapped:
        transformer, device, config = lm.transformer, lm.device, lm.config
        get_input_embeddings = staticmethod(lm.get_input_embeddings)
        lm_head = Mute()

    whole = score(Reader(lm, table.image_id), batch, Renderer(bank, table))
    mute = score(Reader(Wrapped(), table.image_id), batch, Renderer(bank, table))
    assert accuracy(whole) > 0
    assert accuracy(mute) == 0
    assert mute["prediction"] == whole["prediction"]


def test_records_have_a_row_per_question_and_every_column(lm, long_bank, table):
    spec = GridConfig(rows=2, cols=2, questions=3, palette=4)
    samples = draw_samples(spec, long_bank, 0, "test", np.arange(5) + 100)
    batch = Renderer(long_bank, table)(samples, TextView(), "independent", with_choices=True)
    records = score(Reader(lm, table.image_id), batch, Renderer(long_bank, table))
    assert set(records) == COLUMNS
    assert {len(column) for column in records.values()} == {15}
    assert records["sample"] == [i for i in range(100, 105) for _ in range(3)]
    names = long_bank.class_names
    for k in range(15):
        i, q = divmod(k, 3)
        row, col = samples.row[i, q], samples.col[i, q]
        assert (records["row"][k], records["col"][k]) == (row, col)
        assert records["truth"][k] == names[samples.classes[i, row, col]]
        assert records["palette"][k] == [names[c] for c in samples.palette[i]]
        assert records["choices"][k] == list(names)
        assert records["prediction"][k] == names[int(np.argmax(records["logprobs"][k]))]
        assert max(records["logprobs"][k]) < 0
