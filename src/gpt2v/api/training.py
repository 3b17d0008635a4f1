"""`gpt2v lm train`, `encoder train` and `mm train` as functions.

They train in this process. For several processes (torchrun) there are the commands.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2v.api.configs import Source, config_of
from gpt2v.api.folders import Out, Temporary, run_folder, temporary
from gpt2v.config.base import Config
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.results import read_results
from gpt2v.run_layout import checkpoints_of, is_finished, step_of
from gpt2v.runs import write_config

if TYPE_CHECKING:
    from gpt2v.ask.model import Model


@dataclass(frozen=True)
class Training:
    """A finished training. It can be given wherever a path of a model is asked for.

    Attributes:
        run: the run directory. Without `out` it is temporary, and removed with this object.
        results: the content of results.json.
    """

    run: Path
    results: dict[str, Any]
    _place: Temporary | None = field(default=None, repr=False)

    def __fspath__(self) -> str:
        return str(self.run)

    @property
    def checkpoint(self) -> Path:
        """The folder of the last checkpoint, which plain `transformers` opens, too."""
        return checkpoints_of(self.run)[-1]

    @property
    def steps(self) -> int:
        """Number of steps of the last checkpoint."""
        return step_of(self.checkpoint) or 0

    @property
    def seconds(self) -> float:
        """Wall time of the training."""
        return float(self.results["seconds"])

    @property
    def validation(self) -> dict[str, Any]:
        """The row of the last validation (of an encoder: of its final test)."""
        row: dict[str, Any] = self.results["results"][0]
        return row

    def model(self) -> "Model":
        """The trained GPT-2 or GPT-2v, as `gpt2v.load_model` opens it.

        Raises:
            UserError: it is an encoder.
        """
        from gpt2v.ask.model import load_model

        return load_model(self)


def train_lm(
    config: Source = None,
    *,
    out: Out = None,
    overwrite: bool = False,
    resume: bool = False,
    **fields: Any,
) -> Training:
    """Train a GPT-2 on grids as text, on plain text, or on both, as `gpt2v lm train` does.

    Args:
        config: a YAML file or an `LMConfig`; none: only `fields`.
        out: the run directory; none: a temporary one.
        overwrite: replace an existing run.
        resume: continue from the newest whole checkpoint in `out`.
        fields: fields of the configuration, e.g. `tiles={"per_class": 100}`.

    Raises:
        UserError: a value is wrong, the loss is not finite, or `out` must not be replaced.
    """
    whole = config_of(LMConfig, config, fields)
    from gpt2v.lm_train.train import settled_lm
    from gpt2v.lm_train.train import train_lm as train

    return _train("train_lm", whole, train, settled_lm, out, overwrite, resume)


def train_encoder(
    config: Source = None,
    *,
    out: Out = None,
    overwrite: bool = False,
    resume: bool = False,
    **fields: Any,
) -> Training:
    """Train a CLIP encoder on captioned scenes, as `gpt2v encoder train` does.

    Args:
        config: a YAML file or an `EncoderConfig`; none: only `fields`.
        out, overwrite, resume, fields: see `train_lm`.

    Raises:
        UserError: see `train_lm`.
    """
    whole = config_of(EncoderConfig, config, fields)
    from gpt2v.encoder_train.train import settled_encoder
    from gpt2v.encoder_train.train import train_encoder as train

    return _train("train_encoder", whole, train, settled_encoder, out, overwrite, resume)


def train_mm(
    config: Source = None,
    *,
    out: Out = None,
    overwrite: bool = False,
    resume: bool = False,
    **fields: Any,
) -> Training:
    """Train a GPT-2v from a GPT-2 and an encoder, as `gpt2v mm train` does.

    Args:
        config: a YAML file or an `MMConfig`; none: only `fields`.
        out, overwrite, resume: see `train_lm`.
        fields: fields of the configuration; `lm` and `encoder` may be what `train_lm` and
            `train_encoder` have returned.

    Raises:
        UserError: see `train_lm`.
    """
    whole = config_of(MMConfig, config, fields)
    from gpt2v.mm_train.train import settled_mm
    from gpt2v.mm_train.train import train_mm as train

    return _train("train_mm", whole, train, settled_mm, out, overwrite, resume)


def _train(
    call: str,
    config: Config,
    train: Callable[[Any, Path], Any],
    settled: Callable[[Any], Config],
    out: Out,
    overwrite: bool,
    resume: bool,
) -> Training:
    """Train, unless a run that is resumed is finished.

    Args:
        settled: fills in what the models that a training starts from decide, as `train` does.
    """
    place = temporary(out)
    with run_folder(call, out, place, overwrite, resume) as run:
        if resume and is_finished(run):
            write_config(run, settled(config))  # it must be the same
        else:
            train(config, run)
    return Training(run.resolve(), read_results(run), place)
