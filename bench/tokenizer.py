"""How fast a tokenizer is trained on text with and without spaces, in MB of text per second.

    python bench/tokenizer.py                              # for the installed gpt2v
    PYTHONPATH=OTHER/src python bench/tokenizer.py --mb 0.1  # for another checkout

Each text is one line, from random letters of a seed; the median of three trainings.
"""

import argparse
import base64
import json
import random
import statistics
import time

from gpt2v.data.tokenizer import train_tokenizer
from gpt2v.runs import versions

VOCABULARY = 1024  # tokens


def texts(n_bytes: int) -> dict[str, str]:
    """A line of about `n_bytes` bytes of each kind."""
    draw = random.Random(0)
    chinese = "".join(
        chr(0x4E00 + int(draw.paretovariate(0.5)) % 3000) for _ in range(n_bytes // 3)
    )
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(1, 9))) for _ in range(2000)]
    return {
        "Chinese-like, no spaces": chinese,
        "DNA letters": "".join(draw.choices("acgt", k=n_bytes)),
        "base64": base64.b64encode(draw.randbytes(n_bytes * 3 // 4)).decode(),
        "spaces only": " " * n_bytes,
        "words with spaces": " ".join(draw.choices(words, k=n_bytes // 6)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mb", type=float, default=2.0, help="size of each text")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(versions()))
    for name, text in texts(int(args.mb * 1e6)).items():
        seconds = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            train_tokenizer([text], VOCABULARY)
            seconds.append(time.perf_counter() - start)
        size = len(text.encode()) / 1e6
        print(f"{name:24} {size / statistics.median(seconds):8.3f} MB/s", flush=True)


if __name__ == "__main__":
    main()
