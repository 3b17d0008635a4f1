"""Everything in a demo that can be refused is refused before its first training.

The parts are put together without training: an encoder and a GPT-2 with random weights, in a
temporary folder, and a GPT-2v of both. So the checks are those of the commands themselves.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from gpt2v.ablate.ladder import check_ladder
from gpt2v.config.measuring import LadderConfig
from gpt2v.data.tiles.bank import TileBank
from gpt2v.demo.config import DemoConfig
from gpt2v.encoder_train.train import prepare_encoder
from gpt2v.errors import within
from gpt2v.eval.evaluate import evaluation_data
from gpt2v.lm_train.train import prepare_lm
from gpt2v.mm_train.train import prepare_mm
from gpt2v.model.files import save_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import LoadedModel
from gpt2v.probing.probe import check_probe


def check_demo(config: DemoConfig, ladder: LadderConfig, bank: TileBank, run: Path) -> None:
    """Prepare every training and every measurement of a demo.

    Args:
        ladder: configuration of the ladder.
        run: the run directory of the demo; nothing is written there.

    Raises:
        UserError: some part cannot be trained or measured as configured; begins with its name.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        with within("encoder."):
            encoder = prepare_encoder(config.encoder, bank)
            save_pretrained(folder / "encoder", encoder.clip, encoder.tokenizer)
        with within("lm."):
            lm = prepare_lm(config.lm, bank)
            lm.save(folder / "lm")
        untrained = {
            key: str(folder / part)
            for key, part in (("lm", "lm"), ("encoder", "encoder"))
            if getattr(config.mm, key) == str(run / part)
        }
        with within("mm."):
            mm = prepare_mm(config.mm.model_copy(update=untrained), bank)
    assert isinstance(mm.model, GPT2vModel)
    loaded = LoadedModel(mm.model.language_model, mm.model, mm.tokenizer, "")
    alone = LoadedModel(lm.reader.lm, None, lm.tokenizer, "")
    data = evaluation_data(config.eval, bank)
    with within("eval."):
        for model, modalities in ((loaded, ("text", "image")), (alone, ("text",))):
            for modality in modalities:
                model.scorer(bank).check(data, modality)
        check_ladder(loaded, data, ladder)
    with within("probe."):
        check_probe(loaded, bank, config.probe)
