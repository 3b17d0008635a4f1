"""The number of operations of a step, compared with a count by hand."""

import numpy as np
import pytest

from gpt2v.config.grids import GridConfig
from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import TextView
from gpt2v.model.flops import stream_flops
from gpt2v.model.packed import Reader


def test_operations_of_plain_text(lm, table):
    c, length = lm.config, 10
    batch = TextBatch(np.zeros((3, length + 1), np.int64))
    weights = 12 * c.n_layer * c.n_embd**2 + c.n_embd * c.vocab_size
    expected = 3 * length * (6 * weights + 12 * c.n_layer * c.n_embd * length)
    assert stream_flops(Reader(lm, table.image_id), batch) == pytest.approx(expected)


def test_operations_of_grids_in_which_the_last_block_runs_at_read_positions_only(lm, bank, table):
    c = lm.config
    samples = draw_samples(GridConfig(rows=2, cols=2), bank, 0, "test", np.arange(3))
    batch = Renderer(bank, table)(samples, TextView())
    (rows, length), width, read = batch.input_ids.shape, c.n_embd, batch.n_supervised
    block = 6 * 12 * width**2 + 12 * width * length
    everywhere = (c.n_layer - 1) * block + 6 * 2 * width**2
    where_read = block - 6 * 2 * width**2 + 6 * width * c.vocab_size
    expected = rows * length * everywhere + read * where_read
    assert read < rows * length / 2
    assert stream_flops(Reader(lm, table.image_id), batch) == pytest.approx(expected)
