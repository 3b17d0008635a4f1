"""Names of sites."""

import pytest

from gpt2v.config.sites import Site, sites_of
from gpt2v.errors import UserError


def test_a_name_without_layer_is_all_layers():
    assert list(map(str, sites_of(["pixels", "vision", "lm.-1"], 2, 3))) == [
        *("pixels", "vision.0", "vision.1", "vision.2", "lm.3"),
    ]
    assert sites_of(["lm.1", "lm"], 2, 1) == [Site("lm", 1), Site("lm", 0)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("patches", "sites: no such site: 'patches'; choose from pixels, "),
        ("pixels.0", "no such site: 'pixels.0'"),
        ("vision.3", "vision.3: the layer must lie in -3..2"),
        ("answer.-5", "answer.-5: the layer must lie in -4..3"),
        ("lm.x", "lm.x: the layer must lie in -4..3"),
        ("lm.", "the layer must lie in"),
    ],
)
def test_what_is_not_there_is_refused(name, says):
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        sites_of([name], 2, 3)
