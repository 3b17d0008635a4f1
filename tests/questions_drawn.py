"""Questions that share pictures and tiles, for tests of statistics."""

import numpy as np
from hypothesis import strategies as st

from gpt2v.stats.shared import Shared

few = st.integers(0, 5)
questions = st.lists(st.tuples(few, few, st.booleans(), st.booleans()), min_size=1, max_size=40)


def shared_of(drawn, tiles=True):
    picture, tile, one, other = (np.array(column) for column in zip(*drawn, strict=True))
    return Shared(picture, tile[:, None] if tiles else None), one, other
