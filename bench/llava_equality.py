"""Is an exported LLaVA equal to the GPT-2v that it was made from?

    gpt2v mm export runs/distilled/mm --to runs/distilled-llava
    python bench/llava_equality.py runs/distilled/mm runs/distilled-llava --n_images 100

Held-out grids are shown to both as pictures, one question in each prompt. The LLaVA is read by
plain transformers, from the picture and the words of the prompt; the GPT-2v by its own forward
pass. Compared are the logits of the answer's first token over the whole vocabulary, in fp32 on the
CPU, and which word is best. Grids must fill the square picture that the tower takes: only then an
export is exact.
"""

import argparse
import re
import sys

import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

import gpt2v
from gpt2v.errors import UserError, first_line
from gpt2v.hardware.device import hardware


@torch.no_grad()
def compare(run: str, export: str, n_images: int, seed: int) -> dict[str, float]:
    """Largest difference of logits, and shares of questions.

    Raises:
        UserError: the run is no GPT-2v, its tiles cannot be loaded, or the export cannot.
    """
    ours = gpt2v.load_model(run)
    if ours.gpt2v is None:
        raise UserError(f"{run}: is no GPT-2v; choose a run of `mm train`")
    try:
        theirs = LlavaForConditionalGeneration.from_pretrained(export, dtype=torch.float32).eval()
        processor = AutoProcessor.from_pretrained(export)
    except (OSError, ValueError) as error:
        raise UserError(f"{export}: {first_line(error)}") from None
    bank = ours.filled.bank(ours.filled.config.tiles)
    data = gpt2v.GridDataset(ours.spec, bank, seed, "test", n=n_images)
    largest, same, right, n = 0.0, 0, 0, 0
    for sample in data:
        inputs = ours.batch(sample=sample)
        last = inputs["attention_mask"].sum(1) - 1
        rows = torch.arange(len(last))
        own = ours(**inputs).logits[rows, last]
        texts = [
            re.sub("(<image>)+", "<image>", ours.tokenizer.decode(ids[: end + 1].tolist(), False))
            for ids, end in zip(inputs["input_ids"], last, strict=True)
        ]
        given = processor(
            images=[sample.image] * len(texts), text=texts, padding=True, return_tensors="pt"
        )
        position_ids = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
        exported = theirs(**given, position_ids=position_ids).logits[:, -1]
        largest = max(largest, float((own - exported).abs().max()))
        same += int((own.argmax(-1) == exported.argmax(-1)).sum())
        words = [ours.tokenizer.encode(f" {answer}").ids[0] for answer in sample.answers]
        right += int((exported.argmax(-1) == torch.tensor(words)).sum())
        n += len(texts)
    return {"largest difference": largest, "same": same / n, "right": right / n, "n": n}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("export")
    parser.add_argument("--n_images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.n_images < 1:
        parser.error("--n_images: must be at least 1")
    try:
        with hardware("cpu"):
            found = compare(args.run, args.export, args.n_images, args.seed)
    except UserError as error:
        print(f"llava_equality: {error}", file=sys.stderr)
        return 2
    print(
        f"{found['n']} questions: largest difference of a logit {found['largest difference']:.2g}, "
        f"the same first word in {found['same']:.2%}, the right one in {found['right']:.2%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
