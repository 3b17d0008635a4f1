"""How a model of another project is asked: its prompt, its batches and its number format."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gpt2v.config.base import Config
from gpt2v.config.choice import Choice, OneOf
from gpt2v.config.effect import refuse_unused
from gpt2v.errors import UserError
from gpt2v.registry import PROMPTS

PREFIX = "hf:"  # before the name of a model that is opened as any Hugging Face model


def is_hf(model: str) -> bool:
    """Whether a model is named as any Hugging Face model: `hf:` and a folder, run or hub id."""
    return model.startswith(PREFIX)


class HFConfig(Config):
    """`gpt2v eval hf:NAME`: how any Hugging Face model is asked."""

    changeable: ClassVar[tuple[str, ...]] = ("batch_size",)

    prompt: Annotated[Choice, OneOf(PROMPTS)] = Field(
        Choice("brief", PROMPTS), description="words around a grid and a question"
    )
    batch_size: int = Field(
        8, ge=1, le=100_000, description="number of prompts that are read together"
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="number format of the weights; auto: bf16 on a GPU that has it"
    )


def check_asked(config: Config, model: str) -> None:
    """Check that no value of an evaluation is without effect on the type of model that is asked.

    Raises:
        UserError: one is.
    """
    try:
        if is_hf(model):
            why = f"{model} is measured as any Hugging Face model"
            refuse_unused(config, ("allow", "features", "attention"), why)
        else:
            why = f"only a model named {PREFIX}NAME is asked in such a way"
            refuse_unused(config, ("hf",), why)
    except ValueError as error:
        raise UserError(str(error)) from None
