"""A GPT-2v from its export as a stock LLaVA, with the same weights: `model.llava` backwards."""

from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from gpt2v.errors import UserError, first_line, within
from gpt2v.model.encoders import check_layer
from gpt2v.model.families import family_of
from gpt2v.model.files import load_pretrained
from gpt2v.model.found import read_config
from gpt2v.model.gpt2v import GPT2vConfig, GPT2vModel
from gpt2v.model.llava import ACTIVATIONS
from gpt2v.model.preprocessor import read_normalisation


def load_llava(path: str, key: str) -> GPT2vModel:
    """The GPT-2v that a LLaVA is.

    Args:
        path: a folder or a hub id.
        key: name of the setting, for messages.

    Raises:
        UserError: it cannot be loaded, or a GPT-2v cannot be the same model.
    """
    where = f"{key}: {path}"
    values = read_config(path, key)
    language = values.get("text_config", {}).get("model_type", "llama")
    if language != "gpt2":
        raise UserError(
            f"{where}: its language model is a {language}; of LLaVAs, those that `mm export` wrote "
            "can be used"
        )
    config = _config(values, path, key)
    llava = load_pretrained(LlavaForConditionalGeneration, path, key, elsewhere=None)
    inner = llava.model
    projector = inner.multi_modal_projector.state_dict()
    if config.projector == "linear":
        second = projector.pop("linear_2.weight"), projector.pop("linear_2.bias")
        if not (second[0].equal(torch.eye(len(second[0]))) and not second[1].any()):
            raise UserError(f"{where}: its projector has two linear layers; no projector here has")
    model = GPT2vModel(config)
    model.vision_tower.load_state_dict(inner.vision_tower.state_dict())
    model.projector.load_state_dict(projector)
    model.language_model.transformer.load_state_dict(inner.language_model.state_dict())
    model.language_model.lm_head.load_state_dict(llava.lm_head.state_dict())
    return model


def _config(values: dict[str, Any], path: str, key: str) -> GPT2vConfig:
    where = f"{key}: {path}: config.json"
    try:
        llava = LlavaConfig.from_dict(values)
        vision = llava.vision_config
        has_class_token = family_of(vision).n_class_tokens > 0
    except UserError:
        raise
    except Exception as error:  # wrong values have no common type
        raise UserError(f"{where}: {first_line(error)}") from None
    names = {activation: name for name, activation in ACTIVATIONS.items()}
    strategy = llava.vision_feature_select_strategy
    for name, fits in {
        "projector_hidden_act": llava.projector_hidden_act in names,
        "multimodal_projector_bias": llava.multimodal_projector_bias,
        "vision_feature_layer": isinstance(llava.vision_feature_layer, int),
        "vision_feature_select_strategy": strategy == "full" or has_class_token,
    }.items():
        if not fits:
            raise UserError(f"{where}: {name}: {getattr(llava, name)}: `mm export` writes another")
    with within(f"{where}: "):
        check_layer(vision, llava.vision_feature_layer, "vision_feature_layer")
    normalisation = read_normalisation(path, key, vision.image_size)
    if normalisation is None:
        raise UserError(f"{key}: {path}: has no image processor (processor_config.json)")
    mean, std = normalisation
    return GPT2vConfig(
        vision,
        llava.text_config,
        projector=names[llava.projector_hidden_act],
        vision_layer=llava.vision_feature_layer,
        image_token_id=llava.image_token_id,
        class_token=strategy == "full" and has_class_token,
        image_mean=mean,
        image_std=std,
    )
