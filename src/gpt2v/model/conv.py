"""A convolutional vision tower for small pictures, which learns photographs in minutes.

It follows the recipe of Jordan 2024 (https://arxiv.org/abs/2404.00498) for CIFAR-10: a whitening
first layer that does not train, 3x3 convolutions that begin as the identity, max pooling, and one
normalisation for each convolution. In place of one vector for a picture, its last feature map is
kept: the patches, in raster order.

A feature map is (P, D, side, side), with sides in its own patches.

Shapes: P pictures, N patches of a picture, D width of a hidden state, S side of a picture in
pixels.
"""

from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from gpt2v.config.models import ConvConfig
from gpt2v.hardware.memory import check_fits
from gpt2v.messages import shown
from gpt2v.model.windows import cut_windows, join_windows

_WHITENED = 2  # side of the whitened squares of pixels
_N_STEM = 2 * 3 * _WHITENED**2  # channels of the stem: each direction of their values, both signs
_MOST_BLOCKS, _MOST_LAYERS = 8, 100  # in a file: the limits of `ConvConfig`
_AT_ONCE = 100  # pictures whose squares of pixels are in memory
_SMALLEST = 5e-4  # added to the variances that whitening divides by, as in the recipe


class ConvVisionConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a `ConvVisionModel`.

    Args:
        image_size: side of a picture in pixels.
        widths: number of channels of each block; each block halves the feature map.
        depth: number of convolutions in each block.
        window: side in pixels of the squares that are seen each by itself; None: the whole picture.
        mirror: whether features are the means of those of a picture (of each window) and of its
            mirror image; pre-training sees one of the two at a time.
        kwargs: see `PreTrainedConfig`. What follows from the others (`patch_size`, `hidden_size`,
            `num_hidden_layers`) must be that.

    Raises:
        ValueError: it is not, or they are no numbers of channels and convolutions.
    """

    model_type = ConvConfig.model_type
    base_config_key = "vision_config"

    def __init__(
        self,
        image_size: int = 96,
        widths: tuple[int, ...] = (64, 256, 256),
        depth: int = 2,
        window: int | None = None,
        mirror: bool = False,
        **kwargs: Any,
    ) -> None:
        _check_widths(widths, depth)
        self.image_size, self.widths, self.depth = image_size, list(widths), depth
        follows = {
            "patch_size": 2 ** len(widths),
            "hidden_size": widths[-1],
            "num_hidden_layers": depth * len(widths),
        }
        for name, value in follows.items():
            if kwargs.pop(name, value) != value:
                raise ValueError(f"{name}: must be {value}, as widths and depth say")
            setattr(self, name, value)
        _check_window(window, self.patch_size, image_size)
        if type(mirror) is not bool:
            raise ValueError(f"mirror: must be true or false, not {shown(mirror)}")
        self.window, self.mirror = window, mirror
        super().__init__(**kwargs)

    @property
    def layer_patch_sizes(self) -> list[int]:
        """Side in pixels of a patch in each of `hidden_states`; the first is that of the stem."""
        return [1] + [2 ** (i + 1) for i in range(len(self.widths)) for _ in range(self.depth)]


def _check_widths(widths: Any, depth: Any) -> None:
    """Raise ValueError if they are not what a file should have."""
    is_list = isinstance(widths, list | tuple) and 0 < len(widths) <= _MOST_BLOCKS
    if not is_list or any(type(width) is not int or width < 1 for width in widths):
        raise ValueError(
            f"widths: must be 1 to {_MOST_BLOCKS} whole numbers above 0, not {shown(widths)}"
        )
    if type(depth) is not int or not 0 < depth <= _MOST_LAYERS:
        raise ValueError(f"depth: must lie in 1..{_MOST_LAYERS}, not {shown(depth)}")


def _check_window(window: Any, patch_size: int, image_size: Any) -> None:
    """Raise ValueError if patches do not fill a window, or windows a picture."""
    if window is None:
        return
    if type(window) is not int or window < 1 or window % patch_size:
        raise ValueError(
            f"window: must be a multiple of {patch_size}, the side of a patch, not {shown(window)}"
        )
    if isinstance(image_size, int) and image_size % window:  # pairs are checked where they are read
        raise ValueError(f"window: must divide image_size {image_size}, not {window}")


class _BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167).

    Only pre-training normalises maps (P, D, side, side) with the statistics of the batch.
    Everywhere else, MM-Train too, the running ones are constants, so that a picture's features do
    not depend on other pictures. (`nn.BatchNorm2d` decides that by `train()` alone, and has an
    integer among its weights.)
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d))
        self.bias = nn.Parameter(torch.empty(d))
        self.register_buffer("running_mean", torch.empty(d))
        self.register_buffer("running_var", torch.empty(d))

    def forward(self, x: Tensor, of_batch: bool) -> Tensor:
        of_batch = of_batch and x.numel() > x.shape[1]  # one value has no variance
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=of_batch
        )


class _Layer(nn.Module):
    """Convolution, pooling if asked, normalisation, activation."""

    def __init__(self, d_in: int, d_out: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(d_in, d_out, 3, padding=1, bias=False)
        self.norm = _BatchNorm(d_out)
        self.pool = pool

    def forward(self, x: Tensor, of_batch: bool) -> Tensor:
        x = self.conv(x)
        if self.pool:
            x = F.max_pool2d(x, 2)
        return F.gelu(self.norm(x, of_batch))


class ConvVisionModel(PreTrainedModel):  # type: ignore[misc]
    """The tower: a whitening stem, and blocks of convolutions that each halve the feature map."""

    config: ConvVisionConfig
    config_class = ConvVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    _no_split_modules = ["_Layer"]  # noqa: RUF012
    _supports_sdpa = _supports_flash_attn = True  # it has no attention

    def __init__(self, config: ConvVisionConfig) -> None:
        super().__init__(config)
        self.is_pretraining = False
        # A buffer, since it is computed and not trained. Each direction comes twice, with both
        # signs, because the activation cuts one of them off.
        self.register_buffer("stem", torch.empty(_N_STEM, 3, _WHITENED, _WHITENED))
        widths = [_N_STEM, *config.widths]
        self.layers = nn.ModuleList(
            _Layer(d_out if i else d_in, d_out, pool=i == 0)
            for d_in, d_out in pairwise(widths)
            for i in range(config.depth)
        )
        self.post_init()

    @property
    def _own_layers(self) -> list[_Layer]:
        return cast(list[_Layer], list(self.layers))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            # The default of torch, and for as many channels as there are inputs the identity. As a
            # whole, because transformers marks whole tensors as loaded from a file.
            weight = torch.empty_like(module.weight)
            nn.init.kaiming_uniform_(weight, a=5**0.5)
            nn.init.dirac_(weight[: module.in_channels])
            init.copy_(module.weight, weight)
        elif isinstance(module, _BatchNorm):
            for ones in (module.weight, module.running_var):
                init.ones_(ones)
            for zeros in (module.bias, module.running_mean):
                init.zeros_(zeros)
        elif module is self:
            n_values = self.stem[0].numel()
            one = torch.eye(n_values, dtype=self.stem.dtype, device=self.stem.device)
            init.copy_(self.stem, torch.cat([one, -one]).view_as(self.stem))

    @torch.no_grad()
    def begin_pretraining(self, pixel_values: Tensor) -> None:
        """Whiten the stem, and from now on train with the statistics of batches.

        The stem then decorrelates squares of 2 x 2 pixels, with variances of 1.

        Args:
            pixel_values: (P, 3, S, S) tiles of the training.
        """
        n_values = self.stem[0].numel()
        products = torch.zeros(n_values, n_values, dtype=torch.float64)
        for some in torch.split(pixel_values, _AT_ONCE):
            squares = F.unfold(some.float(), _WHITENED).mT.flatten(0, 1)  # (n, 12)
            products += (squares.T @ squares / len(squares)).cpu() * len(some)  # Metal has no eigh
        variances, directions = torch.linalg.eigh(products / len(pixel_values))
        filters = (directions / (variances + _SMALLEST).sqrt()).T.flip(0)
        self.stem.copy_(torch.cat([filters, -filters]).view_as(self.stem))
        self.is_pretraining = True

    def multiplications(self, side: int) -> float:
        """Number of multiplications of all convolutions, for one picture of `side` pixels."""
        sides = [side // patch for patch in self.config.layer_patch_sizes]
        total = float(self.stem.numel() * sides[0] ** 2)
        for layer, (before, after) in zip(self._own_layers, pairwise(sides), strict=True):
            side = before if layer.pool else after  # pooling is after the convolution
            total += layer.conv.weight.numel() * side**2
        return total * (2 if self.config.mirror and not self.is_pretraining else 1)

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool = False,
        window: int | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Embed pictures.

        Args:
            pixel_values: (P, 3, S, S), normalised.
            output_hidden_states: whether to return the output of every layer.
            window: in place of the configuration's, where pictures are scaled.
            kwargs: ignored; callers of vision towers pass options of attention.

        Returns:
            `last_hidden_state` (P, N, D); `pooler_output` (P, D), the mean patch; `hidden_states`,
            a tuple of (P, N, D) of the stem and of each layer, each with its own N and D.

        Raises:
            ValueError: S is no multiple of the window, or of the patch size.
        """
        side, window = pixel_values.shape[-1], window or self.config.window
        step, what = (window, "windows") if window else (self.config.patch_size, "patches")
        if side % step:
            raise ValueError(f"pictures of {side} pixels cannot be cut into {step}-pixel {what}")
        n = side // window if window else 1
        seen = cut_windows(pixel_values, n)
        learns = self.training and self.is_pretraining
        maps = self._maps(seen, learns, output_hidden_states)
        if self.config.mirror and not learns:
            mirrored = self._maps(seen.flip(-1), learns, output_hidden_states)
            maps = [(m + other.flip(-1)) / 2 for m, other in zip(maps, mirrored, strict=True)]

        def patches(m: Tensor) -> Tensor:
            return join_windows(m.permute(0, 2, 3, 1).flatten(1, 2), n)

        last = patches(maps[-1])
        return BaseModelOutputWithPooling(
            last_hidden_state=last,
            pooler_output=last.mean(1),
            hidden_states=tuple(map(patches, maps)) if output_hidden_states else None,
        )

    def _maps(self, pixel_values: Tensor, of_batch: bool, every: bool) -> list[Tensor]:
        """The feature maps (P, D, side, side) of the stem and of each layer, or only the last one.

        Args:
            of_batch: whether to normalise with the statistics of these pictures.
            every: whether to return all of them; without gradients, others are freed at once.
        """
        x = pixel_values
        if x.device.type != "mps":  # https://github.com/pytorch/pytorch/issues/175189
            x = x.contiguous(memory_format=torch.channels_last)  # fast convolutions
        x = F.gelu(F.conv2d(F.pad(x, (0, 1, 0, 1)), self.stem))
        maps = [x]
        for layer in self.layers:
            x = layer(x, of_batch)
            maps = [*maps, x] if every else [x]
        return maps


def new_conv_tower(options: ConvConfig) -> ConvVisionModel:
    """A tower with random weights.

    Raises:
        UserError: it is too large for this machine's memory.
    """
    n_weights = sum(
        9 * (d_in + (options.depth - 1) * d_out) * d_out
        for d_in, d_out in pairwise([_N_STEM, *options.widths])
    )
    check_fits(4 * n_weights, "vision.widths, depth: a tower of this size")
    return ConvVisionModel(ConvVisionConfig(**options.model_dump()))


# So that transformers opens it, also as the tower of a VisionTextDualEncoderModel.
AutoConfig.register(ConvVisionConfig.model_type, ConvVisionConfig, exist_ok=True)
AutoModel.register(ConvVisionConfig, ConvVisionModel, exist_ok=True)
