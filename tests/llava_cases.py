"""Tiny GPT-2vs with all types of vision tower, their exports, and prompts about grids."""

import dataclasses
import json
import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.mm_train.export import export_llava
from gpt2v.model.encoders import Encoder
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.resampling import resampled

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
SHAPE = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@dataclasses.dataclass(frozen=True)
class Case:
    tower: str = "clip"
    projector: str = "mlp"
    vision_layer: int = -2
    class_token: bool = False
    image_size: int = 32


CASES = {
    "clip": Case(),
    "clip-linear": Case(projector="linear"),
    "clip-last-layer": Case(vision_layer=-1),
    "clip-class-token": Case(class_token=True),
    "clip-quick-gelu": Case("quick"),
    "clip-resampled": Case(image_size=48, class_token=True),
    "siglip": Case("siglip"),
    "siglip-linear-last-layer": Case("siglip", "linear", -1),
    "siglip-resampled": Case("siglip", image_size=48),
    "dinov2": Case("dinov2"),
    "dinov2-class-token": Case("dinov2", "linear", 1, class_token=True),
    "dinov2-resampled": Case("dinov2", vision_layer=-1, image_size=48),
}


def build(case, lm, table, **more):
    """A random GPT-2v; its weights are so large that its logits depend on all of them."""
    torch.manual_seed(0)
    if case.tower == "siglip":
        tower = SiglipVisionModel(SiglipVisionConfig(**SHAPE, vision_use_head=False))
    elif case.tower == "dinov2":
        tower = Dinov2Model(Dinov2Config(**SHAPE, mlp_ratio=2))
    else:
        act = "quick_gelu" if case.tower == "quick" else "gelu"
        tower = CLIPVisionModel(CLIPVisionConfig(**SHAPE, hidden_act=act))
    helpers.louder(tower)
    if case.image_size != 32:
        tower = resampled(tower, case.image_size)
    options = {
        "projector": case.projector,
        "vision_layer": case.vision_layer,
        "class_token": case.class_token,
        "image_token_id": table.image_id,
        **more,
    }
    model = GPT2vModel.from_parts(Encoder(tower, MEAN, STD), lm, **options)
    helpers.louder(model.projector)
    return model.eval()


def batches(model, bank, table):
    """By name: texts with `<image>` for each picture, and a batch of the same, chained."""
    side = model.geometry.image_size // bank.size
    render = Renderer(bank, table, model.token_geometry)
    by_name = {}
    for name, n, layout, line in (
        ("text", 2, "composite", None),
        ("one", side, "composite", ["<image>\n"]),
        ("multi", 2, "multi", ["<image><image>\n", "<image><image>\n"]),
    ):
        picture = {"layout": layout, "resize": layout == "multi"}
        spec = GridConfig.model_validate(
            {"rows": n, "cols": n, "modality": "image", "picture": picture}
        )
        samples = draw_samples(spec, bank, 0, "test", np.arange(2))
        names = bank.class_names
        texts = [
            helpers.prefix(
                samples, i, names, "".join(line) if line else helpers.markdown(samples, i, names)
            )
            + helpers.chat(samples, i, names)
            for i in range(2)
        ]
        view = TextView()
        if line:
            span = model.token_geometry.span(n, n, bank.size, spec.picture)
            view = ImageView(span, picture=spec.picture)
        by_name[name] = texts, render(samples, view, "chained")
    return by_name


def write(folder, model, tokenizer, bank, table):
    """Write an export, and the input for the reader in the separate process."""
    run = folder / "run"
    helpers.save_checkpoint(run, 1, model, tokenizer)
    export_llava(str(run), folder / "llava")
    prompts, inputs = {}, {}

    def pictures(name, pixels):
        files = []
        for p, picture in enumerate(pixels):
            files.append(f"{name}-{p}.png")
            Image.fromarray(picture).save(folder / files[-1])
        return files

    for name, (texts, batch) in batches(model, bank, table).items():
        inputs[f"{name}.input_ids"] = torch.from_numpy(batch.input_ids)
        files = []
        if batch.pixels is not None:
            inputs[f"{name}.pixel_values"] = model.normalise(batch.pixels)
            files = pictures(name, batch.pixels)
        share = len(files) // 2
        prompts[name] = [(t, files[i * share : (i + 1) * share]) for i, t in enumerate(texts)]
    # Two pictures in one prompt, one in the other; both end before an answer, so one is padded.
    (first, a), (second, b) = prompts["one"]
    ends = [text.rindex(" A:") + 3 for text in (first, second)]
    prompts["two"] = [
        ("<image>\n" + first[: ends[0]], a + b),
        (second[: second.index(" A:") + 3], b),
    ]
    shutil.copy(folder / files[0], folder / "picture.png")
    (folder / "prompts.json").write_text(json.dumps(prompts))
    save_file(inputs, folder / "inputs.safetensors")
