from gpt2v.config.base import Config
from gpt2v.registry import DECODERS
class RidgeOptions(Config):
    n: int = 20
@DECODERS.register("ridge", options=RidgeOptions, at="gpt2v.probing.decoders.ridge:Ridge")
def ridge() -> None:
    """Tmp."""
@DECODERS.register("logistic", options=RidgeOptions, at="gpt2v.probing.decoders.ridge:Ridge")
def logistic() -> None:
    """Tmp."""
@DECODERS.register("projector", options=RidgeOptions, at="gpt2v.probing.decoders.ridge:Ridge")
def projector() -> None:
    """Tmp."""
