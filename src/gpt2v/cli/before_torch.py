"""What a command refuses before it imports torch, which takes seconds: paths that lead nowhere.

Each check is also made where the path is used. Here it costs little: no weights are read, no tiles
are decoded, and no text is opened.
"""

from gpt2v.config.data import DataConfig
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.hf import PREFIX, check_asked
from gpt2v.config.language import CorpusEvalConfig, HarnessConfig, LanguageConfig
from gpt2v.config.measuring import EvalConfig, LadderConfig, SuiteEvalConfig
from gpt2v.config.models import TokenizerConfig
from gpt2v.config.pictures import FILES, TilesConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.data.suites.load import as_suited, chosen_parts
from gpt2v.demo.config import DemoConfig
from gpt2v.errors import within
from gpt2v.hub import looks_local
from gpt2v.paths import expanded
from gpt2v.trained.defaults import as_trained


def check_model(model: str, key: str, sees: bool = False) -> None:
    """Check that there is such a model: a run with a checkpoint, a checkpoint, or a hub id.

    Args:
        sees: whether it must be a GPT-2v.

    Raises:
        UserError: there is none, its config.json cannot be used, it is no GPT-2v, or its run needs
            files of the user that were not imported.
    """
    from gpt2v.model.found import check_is_gpt2v, check_run_imports, find_checkpoint, read_config

    path = find_checkpoint(model, key, whole=False)
    if key != "encoder":  # a vision tower needs none
        check_run_imports(path)
    config = read_config(path, key)
    if sees:
        check_is_gpt2v(config, f"{key}: {model}")


def check_measured(
    config: EvalConfig | SuiteEvalConfig | ProbeConfig | LadderConfig, model: str
) -> None:
    """Check the model of a measurement, and that the rest of it fits the run of the model.

    Raises:
        UserError: see `check_model` and `as_trained`; or there are no such tiles or parts of a
            suite.
    """
    sees = isinstance(config, ProbeConfig | LadderConfig)
    if not sees:
        check_asked(config, model)
    check_model(model if sees else model.removeprefix(PREFIX), "model", sees)
    if isinstance(config, SuiteEvalConfig):
        chosen_parts(config)
        config = as_suited(config)
    filled = as_trained(config, model)
    with within(filled.origin_of_tiles):
        check_tiles(filled.config.tiles)


def check_language(config: LanguageConfig, model: str) -> None:
    """Check the model of a measurement of language, and that there is what shall be measured.

    Raises:
        UserError: see `check_model`; or there is no such text, or no lm-evaluation-harness.
    """
    check_model(model.removeprefix(PREFIX), "model")
    if isinstance(config, CorpusEvalConfig):
        from gpt2v.eval.language.texts import check_text

        check_text(config)
    if isinstance(config, HarnessConfig):
        from gpt2v.eval.language.harness import check_harness

        check_harness(config)


def check_lm(config: LMConfig) -> None:
    """Check the paths of a `lm train`. Raises UserError if one leads nowhere."""
    if config.init is None:
        check_tokenizer(config.tokenizer)
    else:
        check_model(config.init, "init")
    _check_data(config.data, config.tiles)


def check_mm(config: MMConfig, made: tuple[str, ...] = ()) -> None:
    """Check the paths of a `mm train`. Raises UserError if one leads nowhere.

    Args:
        made: models that other commands make before.
    """
    for key in ("lm", "encoder", "projector_from"):
        model = getattr(config, key)
        if model is not None and model not in made:
            check_model(model, key)
    _check_data(config.data, config.tiles)


def check_encoder(config: EncoderConfig) -> None:
    """Check the paths of an `encoder train`. Raises UserError if one leads nowhere."""
    if config.teacher is None:
        check_tokenizer(config.tokenizer)
    else:
        check_model(config.teacher, "teacher")
    check_tiles(config.tiles)


def check_demo(config: DemoConfig, made: tuple[str, ...]) -> None:
    """Check the paths of a demo. Raises UserError if one leads nowhere.

    Args:
        made: the models that it makes.
    """
    check_tiles(config.tiles)  # all parts have the same
    with within("encoder."):
        check_encoder(config.encoder)
    with within("lm."):
        check_lm(config.lm)
    with within("mm."):
        check_mm(config.mm, made)


def check_tiles(config: TilesConfig) -> None:
    """Raise UserError if tiles are to be read from a folder that is not there."""
    is_hub = config.source != "folder" and (config.path is None or not looks_local(config.path))
    if config.source not in FILES or is_hub:
        return
    if config.path is None or not expanded(config.path).is_dir():
        from gpt2v.data.tiles.load import load_bank

        load_bank(config)  # says what is wrong


def check_tokenizer(config: TokenizerConfig) -> None:
    """Raise UserError if a tokenizer is to be read from a folder that is not there."""
    if config.source == "trained":
        return
    with within("tokenizer.source: "):
        there = expanded(config.source).exists()
    if not there:
        from gpt2v.data.tokenizer import load_tokenizer

        load_tokenizer(config.source)  # says what is wrong; or it is a hub id


def _check_data(data: DataConfig, tiles: TilesConfig) -> None:
    if data.has_grids:
        check_tiles(tiles)
    for text in data.corpora:
        from gpt2v.data.corpus.corpora import check_corpus

        check_corpus(text)
