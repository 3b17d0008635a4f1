"""Ridge and logistic decoders of every cell at every layer of a GPT-2v's vision tower.

    pip install --target SITE --no-deps himalaya
    PYTHONPATH=SITE python bench/probe_layers.py runs/demo/mm --out bench-probe-layers

`results` has a row for each layer: accuracy of both decoders on test pictures (new tiles), and what
ridge loses against logistic, paired, with its interval over new grids of new tiles. `methods` has
the time of each. Peers (`probe_peers.py`) are measured on some cells of `--peer_layers`, logistic
ones with `--peer_strengths`; `whole_hours` is what all cells, layers and strengths would take at
that pace. Everyone has the same rows, peers in float64.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpt2v.config.choice import Choice, choose
from gpt2v.config.decoders import LogisticOptions, RidgeOptions
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.hardware.device import hardware, hardware_facts
from gpt2v.messages import aligned
from gpt2v.model.load import load_gpt2v
from gpt2v.probing.collect import Collection
from gpt2v.probing.decoders.linear import strengths_of
from gpt2v.probing.decoders.logistic import Logistic
from gpt2v.probing.probe import collect
from gpt2v.probing.probed import Outcomes, Probed, gain
from gpt2v.probing.reading import reader_of
from gpt2v.registry import DECODERS
from gpt2v.trained.defaults import as_trained
from probe_peers import (
    Split,
    himalaya,
    himalayas,
    ours,
    scikit_learns,
    slope_of,
    versions_of_all,
)


def collected(config: ProbeConfig, folder: Path) -> tuple[Probed, dict[str, Any]]:
    """The states of all layers, and what it took to collect them."""
    loaded, _ = load_gpt2v(config.model)
    filled = as_trained(config, config.model)
    bank = filled.bank(filled.config.tiles)
    reader, maps, config = reader_of(loaded, bank, filled.config)
    started = time.perf_counter()
    collection = Collection(reader, "bench", folder, config.features.max_gb)
    probed, sizes = collect(reader, maps, collection)
    return probed, {**sizes, "seconds": time.perf_counter() - started}


def fitted(probed: Probed, decoder: Choice, sites: list[Site]) -> float:
    """Seconds of fitting a decoder at every cell of these sites, one after another."""
    started = time.perf_counter()
    for site in sites:
        for cell in range(probed.n_cells):
            probed.fitted(decoder, site, cell)
        spent = time.perf_counter() - started
        print(f"{decoder} at {site}: {spent:.1f} s since the first", file=sys.stderr, flush=True)
    return time.perf_counter() - started


def rows_of(probed: Probed, site: Site, cell: int) -> Split:
    """What all of a bench's methods get."""
    parts = [
        part
        for name in ("train", "val", "test")
        for part in (np.ascontiguousarray(probed.x(name, site, cell)), probed.labels(name)[:, cell])
    ]
    return Split(*parts)


def row_of(probed: Probed, site: Site, ridge: Choice, logistic: Choice) -> dict[str, Any]:
    """Both decoders at a layer."""
    cells = list(range(probed.n_cells))
    found = {str(name): probed.outcomes(name, site, cells) for name in (ridge, logistic)}
    both: list[Outcomes] = list(found.values())
    row: dict[str, Any] = {**site.fields, "n_features": probed.x("val", site, 0).shape[1]}
    for name, outcomes in found.items():
        row |= {f"{name}_{key}": value for key, value in outcomes.rates().items()}
    row |= gain(both[0].right, both[1].right, both[0].shared, "ridge_minus_logistic")
    in_palette = (one.palette_right for one in both)
    return row | gain(*in_palette, both[0].shared, "ridge_minus_logistic_in_palette")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="GPT-2v: a run of `mm train`")
    parser.add_argument("--n_train", type=int, default=20_000)
    parser.add_argument("--n_val", type=int, default=1000)
    parser.add_argument("--n_test", type=int, default=1000)
    parser.add_argument("--strengths", type=int, default=20)
    parser.add_argument("--peer_layers", type=int, nargs="*", default=[-1])
    parser.add_argument("--peer_cells", type=int, default=3)
    parser.add_argument("--peer_strengths", type=int, default=5)
    parser.add_argument(
        "--tolerances",
        type=float,
        nargs="+",
        default=[1e-4, 1e-5],
        help="of scikit-learn; the first is its default",
    )
    parser.add_argument("--max_gb", type=float, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="bench-probe-layers", help="folder")
    args = parser.parse_args()
    numbers = {name: getattr(args, name) for name in ("n_train", "n_val", "n_test")}
    config = ProbeConfig.model_validate(
        {
            "model": args.model,
            **numbers,
            "sites": ["vision"],
            "measures": [],
            "features": {"max_gb": args.max_gb},
        }
    )
    ridge, logistic = (
        choose(DECODERS, {"name": name, "n_strengths": args.strengths})
        for name in ("ridge", "logistic")
    )
    grid = strengths_of(RidgeOptions(n_strengths=args.strengths))
    few = LogisticOptions(n_strengths=args.peer_strengths)
    with hardware(args.device), tempfile.TemporaryDirectory() as folder:
        probed, sizes = collected(config, Path(folder))
        sites = sorted(probed.sites, key=lambda site: (site.layer is None, site.layer))
        whole = len(sites) * probed.n_cells
        methods = []

        def note(name: str, seconds: float, fits: int, strengths: int, **more: Any) -> None:
            hours = seconds / fits / strengths * whole * args.strengths / 3600
            numbers = {"seconds": seconds, "fits": fits, "strengths": strengths}
            methods.append({"method": name, **numbers, "whole_hours": hours, **more})

        for decoder in (ridge, logistic):
            seconds = fitted(probed, decoder, sites)
            note(f"{decoder}, gpt2v", seconds, whole, args.strengths)
        rows = [row_of(probed, site, ridge, logistic) for site in sites]
        for site in (sites[layer] for layer in args.peer_layers):
            peers = {
                "ridge, himalaya": lambda x: himalayas(grid, x),
                "logistic, gpt2v": lambda x: ours(Logistic(few), x),
                **{
                    f"logistic, scikit-learn, tolerance {tolerance:g}": partial(
                        scikit_learns, strengths_of(few), tolerance
                    )
                    for tolerance in args.tolerances
                },
            }
            if himalaya is None:
                del peers["ridge, himalaya"]
            some = [
                rows_of(probed, site, cell) for cell in probed.measured_cells[: args.peer_cells]
            ]
            for name, method in peers.items():
                started = time.perf_counter()
                done = [method(x.cast("float64")) for x in some]
                seconds = time.perf_counter() - started
                n = args.strengths if name.startswith("ridge") else args.peer_strengths
                slopes = None if name.startswith("ridge") else [
                    slope_of(one, x) for one, x in zip(done, some, strict=True)
                ]  # fmt: skip
                accuracy = float(np.mean([one.accuracy for one in done]))
                about = {"site": str(site), "accuracy": accuracy, "slopes": slopes}
                note(name, seconds, len(some), n, **about)
                print(f"{name} at {site}: {seconds:.1f} s", file=sys.stderr, flush=True)
        facts = hardware_facts()
    content = {"kind": "bench", "versions": versions_of_all(), "hardware": facts}
    content |= {"settings": vars(args), "collected": sizes, "methods": methods, "results": rows}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(*tables(methods, rows), sep="\n")


def tables(methods: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[str]:
    """Both tables, in words."""
    head = ["method", "site", "fits", "strengths", "seconds", "accuracy", "whole, hours"]
    lines = [
        [
            row["method"],
            row.get("site", "all"),
            str(row["fits"]),
            str(row["strengths"]),
            f"{row['seconds']:.1f}",
            f"{row['accuracy']:.4f}" if "accuracy" in row else "",
            f"{row['whole_hours']:.4f}",
        ]
        for row in methods
    ]
    second = ["layer", "ridge", "logistic", "ridge minus logistic", "interval"]
    layers = [
        [
            str(Site(row["site"], row["layer"])),
            *(f"{100 * row[f'{name}_accuracy']:.1f}%" for name in ("ridge", "logistic")),
            f"{100 * row['ridge_minus_logistic']:+.1f}",
            "[{:+.1f}, {:+.1f}]".format(*(100 * x for x in row["ridge_minus_logistic_ci95"])),
        ]
        for row in rows
    ]
    return [*aligned([head, *lines], right=2), "", *aligned([second, *layers], right=1)]


if __name__ == "__main__":
    main()
