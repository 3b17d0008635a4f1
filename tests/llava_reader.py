"""Reads exported LLaVA checkpoints with plain transformers; run in a separate process.

`llava_reader.py FOLDER...`: each folder has `llava/` (the export), `prompts.json` (named lists of
texts, each with the names of its pictures) and `inputs.safetensors` (token ids and pixels from the
tests). Results are written to `outputs.safetensors` and `said.json`. Warnings are errors, and the
log of transformers appears on stderr.
"""

import contextlib
import io
import json
import os
import re
import sys
import warnings
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration, logging

warnings.simplefilter("error")
logging.disable_progress_bar()


@torch.no_grad()
def read(folder: Path) -> None:
    path = folder / "llava"
    model, loading = LlavaForConditionalGeneration.from_pretrained(path, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(path)
    said = {key: sorted(map(str, value)) for key, value in loading.items()}
    outputs = {}
    given = load_file(folder / "inputs.safetensors")
    for name in {key.partition(".")[0] for key in given}:
        parts = {k.partition(".")[2]: v for k, v in given.items() if k.startswith(f"{name}.")}
        outputs[f"{name}.given"] = model(**parts).logits
    for name, prompts in json.loads((folder / "prompts.json").read_text()).items():
        pictures = [[Image.open(folder / file) for file in files] for _, files in prompts]
        texts = [text for text, _ in prompts]
        every = [picture for of_one in pictures for picture in of_one]
        together = {"images": every} if every else {}
        inputs = processor(text=texts, padding=True, return_tensors="pt", **together)
        outputs |= {f"{name}.{key}": value for key, value in inputs.items()}
        position_ids = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        outputs[f"{name}.logits"] = model(**inputs, position_ids=position_ids).logits
        new = {"do_sample": False, "max_new_tokens": 8}
        outputs[f"{name}.new"] = model.generate(**inputs, **new)[:, inputs["input_ids"].shape[1] :]
        alone = {"images": pictures[0]} if pictures[0] else {}
        inputs = processor(text=texts[0], return_tensors="pt", **alone)
        outputs[f"{name}.alone"] = model(**inputs).logits
        written = model.generate(**inputs, **new)
        outputs[f"{name}.new_alone"] = written[:, inputs["input_ids"].shape[1] :]
        said[f"{name}.chat"] = chat(processor, texts[0], pictures[0])
    save_file({k: v.contiguous() for k, v in outputs.items()}, folder / "outputs.safetensors")
    said["card"] = run_card(path)
    (folder / "said.json").write_text(json.dumps(said))


def chat(processor, text, pictures) -> list[int]:
    """Token ids of the same prompt as a message of text and pictures."""
    content = []
    rest = iter(pictures)
    for part in re.split("(<image>)", text):
        if part == "<image>":
            content.append({"type": "image", "image": next(rest)})
        elif part:
            content.append({"type": "text", "text": part})
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    return inputs["input_ids"][0].tolist()


def run_card(path: Path) -> list[str]:
    """The output of each piece of code in the model card; a later one uses what is there."""
    pieces = re.findall(r"```python\n(.*?)```", (path / "README.md").read_text(), re.S)
    os.chdir(path.parent)  # where picture.png is
    names, outputs = {}, []
    for code in pieces:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code.replace('path = "."', 'path = "llava"'), names)
        outputs.append(printed.getvalue())
    for of_layer in names["maps"]:
        torch.testing.assert_close(of_layer.sum(-1), torch.ones(of_layer.shape[:-1]))
    return outputs


for argument in sys.argv[1:]:
    read(Path(argument))
assert "gpt2v" not in sys.modules
