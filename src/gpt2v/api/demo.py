"""`gpt2v demo` as a function."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2v.api.configs import dotted
from gpt2v.api.folders import Out, Temporary, run_folder, temporary
from gpt2v.demo.config import DemoConfig, demo_config
from gpt2v.demo.tiles import suited_preset
from gpt2v.demo.wishes import Wishes
from gpt2v.results import read_results
from gpt2v.run_layout import is_finished

if TYPE_CHECKING:
    from gpt2v.ask.model import Model


@dataclass(frozen=True)
class Demo:
    """A finished demo.

    Attributes:
        run: the run directory; the GPT-2v is in `run / "mm"`. Without `out` it is temporary, and
            removed with this object.
        results: the content of results.json.
    """

    run: Path
    results: dict[str, Any]
    _place: Temporary | None = field(default=None, repr=False)

    @property
    def report(self) -> Path:
        """The page that shows everything, one file."""
        return self.run / "report" / "index.html"

    def model(self) -> "Model":
        """The trained GPT-2v, as `gpt2v.load_model` opens it."""
        from gpt2v.ask.model import load_model

        return load_model(self.run / "mm")


def run_demo(
    tiles: str = "sprites",
    tiles_path: str | os.PathLike[str] | None = None,
    *,
    preset: str | None = None,
    rows: int | None = None,
    cols: int | None = None,
    palette: int | None = None,
    seed: int | None = None,
    out: Out = None,
    overwrite: bool = False,
    resume: bool = False,
    **fields: Any,
) -> Demo:
    """Train and measure a small GPT-2v, with a report, as `gpt2v demo` does.

    Args:
        tiles: where tiles come from: sprites, cifar10, cifar100 or folder.
        tiles_path: the folder of the tiles, `tiles_path/CLASS/PICTURE.jpg`; not for sprites.
        preset: default, photographs or smoke, or a demo's config.yaml; none: what suits the tiles.
        rows, cols, palette, seed: of every part; none: as in the preset.
        out: the run directory; none: a temporary one.
        overwrite: replace an existing run.
        resume: continue an existing run.
        fields: fields of single parts, which win, e.g. `eval={"n_images": 100}`.

    Raises:
        UserError: something cannot be trained or measured as asked for, which is found before the
            first training, or `out` must not be replaced.
    """
    place = temporary(out)
    folder = Path(place.name) / "run" if place else Path(os.fspath(out or ""))
    source = {"tiles.source": tiles}
    if tiles_path is not None:
        source["tiles.path"] = os.fspath(tiles_path)
    overrides = {**source, **dict(dotted(DemoConfig, fields))}
    name = preset or suited_preset(overrides)[0]
    config = demo_config(name, overrides, folder, Wishes(rows, cols, palette, seed))
    from gpt2v.demo.run import keep_demo, run_demo

    with run_folder("run_demo", out, place, overwrite, resume) as run:
        if is_finished(run):
            keep_demo(config, run)
        else:
            run_demo(config, name, run)
    return Demo(run.resolve(), read_results(run), place)
