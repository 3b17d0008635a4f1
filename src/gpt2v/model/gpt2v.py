"""GPT-2v: a vision tower and a projector in front of a GPT-2.

In the token sequence a picture is a run of `<image>` placeholders. Vision tokens replace the
embeddings of these placeholders. A token source (see `vision_tokens`) decides which vision tokens
these are; by default they are the projected patches of the picture.

Shapes: B samples of a batch, P pictures, N patches of a picture, M vision tokens,
T token positions, D width of a hidden state, S side of a picture in pixels.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from gpt2v.config.choice import choose
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.model.clip import normalise
from gpt2v.model.encoders import Encoder, check_layer, parse_config
from gpt2v.model.families import IMAGE_MEAN, IMAGE_STD, family_of
from gpt2v.model.found import GPT2V
from gpt2v.registry import PROJECTORS


class GPT2vConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of the vision tower, the projector and the language model.

    Args:
        vision_config: configuration of a vision tower of any encoder family.
        text_config: configuration of the GPT-2.
        projector: a name in `registry.PROJECTORS`, or a mapping with a name and options.
        vision_tokens: a name in `registry.TOKEN_SOURCES`, or a mapping with a name and options:
            the token source that the model was trained with.
        vision_layer: index into the vision tower's `hidden_states`.
        image_token_id: id of the placeholder of one vision token.
        pool: each region of `pool` x `pool` patches becomes one vision token.
        class_token: whether the class token is one more vision token, before the patches.
        image_mean: mean of each channel, with which pixels from 0 to 1 are normalised.
        image_std: standard deviation of each channel, likewise.
    """

    model_type = GPT2V
    sub_configs = {"vision_config": AutoConfig, "text_config": GPT2Config}  # noqa: RUF012

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | GPT2Config | None = None,
        projector: str | dict[str, Any] = "mlp",
        vision_tokens: str | dict[str, Any] = "patches",
        vision_layer: int = -1,
        image_token_id: int = 0,
        pool: int = 1,
        class_token: bool = False,
        image_mean: tuple[float, float, float] = IMAGE_MEAN,
        image_std: tuple[float, float, float] = IMAGE_STD,
        **kwargs: Any,
    ) -> None:
        self.vision_config: PreTrainedConfig = parse_config(vision_config)
        text = text_config if isinstance(text_config, GPT2Config) else None
        self.text_config: GPT2Config = text or GPT2Config(**(text_config or {}))
        self.projector = projector
        self.vision_tokens = vision_tokens
        self.vision_layer = vision_layer
        self.image_token_id = image_token_id
        self.pool = pool
        self.class_token = class_token
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        kwargs.setdefault("tie_word_embeddings", self.text_config.tie_word_embeddings)
        super().__init__(**kwargs)


class GPT2vModel(PreTrainedModel):  # type: ignore[misc]
    """The vision tower, projector and language model as one model.

    `packed.Reader` runs the language model on packed batches.

    Raises:
        UserError: the tower has no such `vision_layer`, or one with patches of another size.
    """

    config: GPT2vConfig
    config_class = GPT2vConfig
    base_model_prefix = ""
    _tied_weights_keys = {  # noqa: RUF012
        "language_model.lm_head.weight": "language_model.transformer.wte.weight"
    }
    _supports_sdpa = True

    def __init__(self, config: GPT2vConfig) -> None:
        super().__init__(config)
        check_layer(config.vision_config, config.vision_layer)
        self.vision_tower = family_of(config.vision_config).model_class(config.vision_config)
        self.projector = choose(PROJECTORS, config.projector).load()(
            config.vision_config.hidden_size, config.text_config.n_embd, config.pool
        )
        self.language_model = GPT2LMHeadModel(config.text_config)
        self.post_init()

    @classmethod
    def from_parts(
        cls, encoder: Encoder, language_model: GPT2LMHeadModel, **options: Any
    ) -> "GPT2vModel":
        """Join a trained encoder and a trained GPT-2; only the projector has random weights.

        Args:
            encoder: its weights are copied.
            language_model: its weights are copied.
            options: further fields of GPT2vConfig.
        """
        config = GPT2vConfig(
            copy.deepcopy(encoder.tower.config),  # copies, so that the parts do not change
            copy.deepcopy(language_model.config),
            image_mean=encoder.mean,
            image_std=encoder.std,
            **options,
        )
        model = cls(config)
        model.vision_tower.load_state_dict(encoder.tower.state_dict())
        model.language_model.load_state_dict(language_model.state_dict())
        return model

    def get_input_embeddings(self) -> torch.nn.Module:
        wte: torch.nn.Module = self.language_model.get_input_embeddings()
        return wte

    @property
    def geometry(self) -> PictureGeometry:
        """Size of the vision tower's pictures, divided into its patches."""
        vision = self.config.vision_config
        return PictureGeometry(vision.image_size, vision.patch_size)

    @property
    def token_geometry(self) -> PictureGeometry:
        """Size of the same pictures, divided into vision tokens of `pool` x `pool` patches."""
        vision = self.config.vision_config
        side = vision.patch_size * self.config.pool
        return PictureGeometry(vision.image_size, side, self.config.class_token)

    def normalise(self, pixels: Pixels) -> Tensor:
        """uint8 (P, S, S, 3) -> float (P, 3, S, S) on the model's device, for the vision tower."""
        return normalise(pixels, self.device, self.config.image_mean, self.config.image_std)

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """The projector's input: (P, 3, S, S) -> (P, N, D), patches in raster order.

        With `class_token` it is (P, N + 1, D), with the class token after the patches.
        """
        training = self.training and any(p.requires_grad for p in self.vision_tower.parameters())
        if self.vision_tower.training != training:
            self.vision_tower.train(training)  # a frozen tower has no dropout
        output = self.vision_tower(pixel_values, output_hidden_states=True)
        hidden: Tensor = output.hidden_states[self.config.vision_layer]
        first = family_of(self.config.vision_config).n_class_tokens
        if not self.config.class_token:
            return hidden[:, first:]
        return torch.cat([hidden[:, first:], hidden[:, :first]], dim=1)

    def project(self, features_PND: Tensor) -> Tensor:
        """Projects `vision_features` to vision tokens, (P, M, d_text), the class token last."""
        words: Tensor = self.language_model.transformer.wte.weight
        patches = features_PND[:, : self.geometry.n_patches]
        tokens: Tensor = self.projector(patches, words)
        if self.config.class_token:
            summary = self.projector.each(features_PND[:, patches.shape[1] :], words)
            tokens = torch.cat([tokens, summary], dim=1)
        return tokens

    def vision_tokens(self, pixel_values: Tensor) -> Tensor:
        """The vision tokens of pictures: (P, 3, S, S) -> (P, M, d_text), the class token last."""
        return self.project(self.vision_features(pixel_values))

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        image_tokens: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Logits of one sequence per row, as a stock `LlavaForConditionalGeneration` computes them.

        Args:
            input_ids: (B, T). Each picture is a run of `<image>` tokens, one for each of its
                vision tokens; the class token is first.
            pixel_values: (P, 3, S, S) all pictures, in the order of their placeholders.
            attention_mask: (B, T), or additive (B, 1, T, T).
            position_ids: (B, T).
            image_tokens: (M, 2) for each placeholder, in order: its picture, and the number of the
                vision token that replaces it, in the order of `vision_tokens`. A grid that does not
                fill its picture has no placeholders for the rest. None: there is one for each
                vision token.
            kwargs: further arguments of `GPT2LMHeadModel`.

        Raises:
            ValueError: the number of placeholders is not the number of vision tokens.
        """
        embeds = self.input_embeds(input_ids, pixel_values, image_tokens)
        output: CausalLMOutput = self.language_model(
            inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )
        return output

    def input_embeds(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_tokens: Tensor | None = None,
    ) -> Tensor:
        """The language model's input embeddings (B, T, D); for the arguments see `forward`.

        Raises:
            ValueError: the number of placeholders is not the number of vision tokens.
        """
        embeds = self.get_input_embeddings()(input_ids)
        is_image = (input_ids == self.config.image_token_id)[..., None]
        tokens = embeds.new_empty(0, 0, embeds.shape[-1])
        if pixel_values is not None:
            tokens = self.vision_tokens(pixel_values)
            if image_tokens is not None:
                tokens = tokens[image_tokens[:, 0], image_tokens[:, 1]][None]
            elif self.config.class_token:
                tokens = torch.cat([tokens[:, -1:], tokens[:, :-1]], dim=1)
        n_tokens, n_placeholders = tokens.shape[0] * tokens.shape[1], int(is_image.sum())
        if n_tokens != n_placeholders:
            raise ValueError(f"{n_placeholders} image tokens stand for {n_tokens} vision tokens")
        whole: Tensor = embeds.masked_scatter(is_image, tokens.to(embeds.dtype))
        return whole


AutoConfig.register(GPT2vConfig.model_type, GPT2vConfig, exist_ok=True)
