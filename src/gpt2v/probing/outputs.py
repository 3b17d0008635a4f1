"""What a probe writes: rows of its decoders, records, and the decoders themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.config.base import hash_of
from gpt2v.config.choice import Choice, choose
from gpt2v.config.probing import MAIN
from gpt2v.config.sites import Site
from gpt2v.data.rng import Ints
from gpt2v.probing.decoders.saved import save
from gpt2v.probing.probed import Outcomes, Probed, Row
from gpt2v.progress import progress
from gpt2v.registry import CONTROLS
from gpt2v.storage.files import writing


def save_decoders(probed: Probed, states: str, folder: Path) -> None:
    """Write every decoder that was fitted to true labels with all training pictures.

    Args:
        states: hash of what the hidden states depend on.
    """
    with writing(folder):
        folder.mkdir(exist_ok=True)
    for (decoder, site, cell), fitted in probed.kept.items():
        row, col = probed.at(cell)
        about = {
            **site.fields,
            "decoder": str(decoder),
            "cell": [row, col],
            "classes": list(probed.names),
            "features": hash_of(states, str(site), probed.config.cells),
        }
        save(folder / f"{decoder}-{site}-{row}-{col}.safetensors", fitted, about)


def ridge_rows(probed: Probed) -> list[Row]:
    """Rows of ridge decoders at every site, and of the controls."""
    ridge = probed.config.ridge
    controls = {str(name): choose(CONTROLS, name).load() for name in probed.config.controls}
    rows = []
    with progress("probe: ridge decoders", len(probed.sites) * probed.n_cells) as report:
        for site in probed.sites:
            scores: dict[str, list[Any]] = {name: [] for name in ("none", *controls)}
            for cell in range(probed.n_cells):
                others = [
                    (_controlled(own, probed, "train", cell), _controlled(own, probed, "val", cell))
                    for own in controls.values()
                ]
                found = probed.fit(ridge, site, cell, others=others)
                probed.kept[ridge, site, cell] = found[0]
                scores["none"].append(probed.own_scores(ridge, site, cell))
                for name, fitted in zip(controls, found[1:], strict=True):
                    scores[name].append(probed.scores(fitted, ridge, site, cell))
                report(str(site))
            rows += _rows(probed, site, ridge, scores)
    return rows


def _controlled(control: Any, probed: Probed, split: str, cell: int) -> Ints:
    generator = np.random.Generator(np.random.PCG64([probed.config.seed, cell]))
    labels: Ints = control(probed.labels(split)[:, cell].copy(), generator)
    return labels


def other_rows(probed: Probed) -> list[Row]:
    """Rows of the other decoders, at the projector's input."""
    others = [own for own in probed.config.decoders if own != probed.config.ridge]
    rows: list[Row] = []
    with progress("probe: other decoders", len(others) * probed.n_cells) as report:
        for decoder in others:
            scores = []
            for cell in range(probed.n_cells):
                scores.append(probed.own_scores(decoder, MAIN, cell))
                report(str(decoder))
            rows += _rows(probed, MAIN, decoder, {"none": scores})
    return rows


def _rows(probed: Probed, site: Site, decoder: Choice, scores: dict[str, list[Any]]) -> list[Row]:
    """A row for all cells and each control, and one for each cell."""
    test, n = probed.splits["test"], len(probed.splits["train"])
    cells = list(range(probed.n_cells))
    strengths = [probed.fitted(decoder, site, cell).strength for cell in cells]
    names = {**site.fields, "decoder": str(decoder)}
    rows: list[Row] = []
    for control, own in scores.items():
        rates = Outcomes.of(own, cells, test).rates()
        facts = {
            "n_train": n,
            "n_features": max(probed.n_features(decoder, site, c) for c in cells),
        }
        rows.append({**names, "cell": "all", "control": control, **rates, **facts})
    for cell in cells:
        rates = Outcomes.of([scores["none"][cell]], [cell], test).rates()
        facts = {"n_train": n, "n_features": probed.n_features(decoder, site, cell)}
        row = {**names, "cell": probed.at(cell), "control": "none", **rates, **facts}
        rows.append({**row, "strength": strengths[cell]})
    return rows


def records_of(probed: Probed) -> pa.Table:
    """A row for each cell of each test grid, with the predictions at the projector's input."""
    test, n_cells = probed.splits["test"], probed.n_cells
    names = np.array(probed.names, dtype=object)
    cells = list(range(n_cells))
    found = {str(d): probed.outcomes(d, MAIN, cells) for d in probed.config.decoders}
    ridge = found.pop(str(probed.config.ridge))
    columns = {
        "sample": np.repeat(test.grids.index, n_cells),
        "row": np.tile(np.arange(n_cells) // probed.n_cols, len(test)),
        "col": np.tile(np.arange(n_cells) % probed.n_cols, len(test)),
        "truth": names[test.labels.reshape(-1)].tolist(),
        "prediction": names[ridge.predicted.reshape(-1)].tolist(),
        "palette_prediction": names[ridge.in_palette.reshape(-1)].tolist(),
    }
    for name, outcomes in found.items():
        columns[f"prediction_{name}"] = names[outcomes.predicted.reshape(-1)].tolist()
        columns[f"palette_prediction_{name}"] = names[outcomes.in_palette.reshape(-1)].tolist()
    return pa.table(columns)
