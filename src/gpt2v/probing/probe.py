"""Decoders of the object in each cell, from hidden states of the patches that show it.

The ten-way accuracy measures what a decoder reads from the states alone. The palette-restricted
accuracy can be compared with a model, which is given the palette. A decoder that is trained on a
control's labels shows the accuracy without any information.

Shapes: G grids, C cells of a grid.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v import runs
from gpt2v.config.base import hash_of
from gpt2v.config.choice import Choice, choose
from gpt2v.config.probing import MAIN, ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.load import LoadedModel, load_gpt2v
from gpt2v.probing.collect import Collection
from gpt2v.probing.probed import Outcomes, Probed, Row, Split, site_of
from gpt2v.probing.reading import reader_of
from gpt2v.progress import progress
from gpt2v.registry import CONTROLS
from gpt2v.run_layout import RECORDS, STATES
from gpt2v.storage.cache import cache_folder
from gpt2v.storage.files import write_parquet
from gpt2v.storage.folders import remove_directory
from gpt2v.trained.compare import NOT_COMPARED, Comparison, Measured
from gpt2v.trained.defaults import as_trained


def probe(
    loaded: LoadedModel,
    bank: TileBank,
    config: ProbeConfig,
    run: Path,
    comparison: Comparison = NOT_COMPARED,
) -> dict[str, Any]:
    """Fit and test decoders of each cell; writes records and results.

    Args:
        comparison: of what is measured with the training.

    Returns:
        The content of results.json.

    Raises:
        UserError: a cell has no patch, a grid does not fit the pictures, a class is absent, or the
            states take too much space.
    """
    started = time.monotonic()
    reader, maps, config = reader_of(loaded, bank, config)
    runs.write_config(run, config)
    keeps = config.features.mode == "require"
    own = run / STATES
    collection = Collection(
        reader,
        hash_of(loaded.identity["weights"], list(map(str, maps)), config.seed, runs.versions()),
        cache_folder("states") if keeps else own,
        config.features.max_gb,
    )
    sets = {split: probe_data(config, bank, split) for split in ("train", "val", "test")}
    collected = collection.sizes(list(sets.values()))
    splits = {
        name: Split(data.grids(np.arange(len(data))), collection.states(data))
        for name, data in sets.items()
    }
    n_train = config.n_train or 0
    both = splits["train"]
    splits |= {"train": both.part(slice(n_train)), "new": both.part(slice(n_train, None))}
    n_cols = config.grid.largest_shape[1]
    probed = Probed(config, bank.class_names, n_cols, splits, maps, reader, sets)
    probed.check()

    rows = _ridge_rows(probed) + _other_rows(probed)
    measures = {
        str(choice): choice.load()()(probed)
        for choice in progressing(config.measures, "probe: measures")
    }
    write_parquet(run / RECORDS, [_records(probed)])
    comparison.say()
    results = runs.write_results(
        run,
        "probe",
        started,
        hardware=hardware_facts(),
        seed=config.seed,
        data_hash=hash_of(*(data.hash for data in sets.values())),
        collected=collected,
        cells={str(site): cell_map.facts for site, cell_map in maps.items()},
        results=rows,
        measures=measures,
        **comparison.results,
    )
    if not keeps:
        remove_directory(own)
    return results


def probe_model(config: ProbeConfig, run: Path) -> dict[str, Any]:
    """`gpt2v probe`: probe a saved GPT-2v.

    Args:
        config: what is not given in it is taken from the model's run.
    """
    loaded, _ = load_gpt2v(config.model)
    filled = as_trained(config, config.model)
    config = filled.config
    bank = filled.bank(config.tiles)
    test = GridDataset(config.grid, bank, config.seed, "test", config.n_test)
    comparison = loaded.compared(Measured(bank, [(test, ["image"])]), config.allow, filled.said)
    return probe(loaded, bank, config, run, comparison)


def check_probe(loaded: LoadedModel, bank: TileBank, config: ProbeConfig) -> None:
    """Refuse grids, cells and sites that cannot be probed.

    Raises:
        UserError: see `reader_of`.
    """
    reader_of(loaded, bank, config)


def probe_data(config: ProbeConfig, bank: TileBank, split: str) -> GridDataset:
    """The pictures of a split; those of `train` that come last are for tests with its tiles."""
    n = getattr(config, f"n_{split}") + (config.n_val + config.n_test if split == "train" else 0)
    return GridDataset(config.grid, bank, config.seed, split, n)


def progressing(choices: list[Choice], label: str) -> Iterator[Choice]:
    """The choices, one after the other, with a progress display."""
    with progress(label, len(choices)) as report:
        for choice in choices:
            yield choice
            report(str(choice))


def _ridge_rows(probed: Probed) -> list[Row]:
    """Rows of ridge decoders at every site, and of the controls."""
    ridge = probed.config.decoders[0]
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
                probed.keep(ridge, site, cell, found[0])
                for own, fitted in zip(scores.values(), found, strict=True):
                    own.append(probed.scores(fitted, ridge, site, cell))
                report(str(site))
            rows += _rows(probed, site, ridge, scores)
    return rows


def _controlled(control: Any, probed: Probed, split: str, cell: int) -> Ints:
    generator = np.random.Generator(np.random.PCG64(probed.config.seed))
    labels: Ints = control(probed.labels(split)[:, cell].copy(), generator)
    return labels


def _other_rows(probed: Probed) -> list[Row]:
    """Rows of the other decoders, at the projector's input."""
    others = probed.config.decoders[1:]
    rows: list[Row] = []
    with progress("probe: other decoders", len(others) * probed.n_cells) as report:
        for decoder in others:
            scores = []
            for cell in range(probed.n_cells):
                fitted = probed.fitted(decoder, MAIN, cell)
                scores.append(probed.scores(fitted, decoder, MAIN, cell))
                report(str(decoder))
            rows += _rows(probed, MAIN, decoder, {"none": scores})
    return rows


def _rows(probed: Probed, site: Site, decoder: Choice, scores: dict[str, list[Any]]) -> list[Row]:
    """A row for all cells and each control, and one for each cell."""
    test, n = probed.splits["test"], len(probed.splits["train"])
    cells = list(range(probed.n_cells))
    strengths = [probed.fitted(decoder, site, cell).strength for cell in cells]
    names = {**site_of(site), "decoder": str(decoder)}
    facts = {"n_train": n, "n_features": probed.x("val", site, 0).shape[1]}
    rows: list[Row] = []
    for control, own in scores.items():
        rates = Outcomes.of(own, cells, test).rates()
        rows.append({**names, "cell": "all", "control": control, **rates, **facts})
    for cell in cells:
        rates = Outcomes.of([scores["none"][cell]], [cell], test).rates()
        row = {**names, "cell": probed.at(cell), "control": "none", **rates, **facts}
        rows.append({**row, "strength": strengths[cell]})
    return rows


def _records(probed: Probed) -> pa.Table:
    """A row for each cell of each test grid, with the predictions at the projector's input."""
    test, n_cells = probed.splits["test"], probed.n_cells
    names = np.array(probed.names, dtype=object)
    cells = list(range(n_cells))
    found = {str(d): probed.outcomes(d, MAIN, cells) for d in probed.config.decoders}
    ridge, *others = found.items()
    columns = {
        "sample": np.repeat(test.grids.index, n_cells),
        "row": np.tile(np.arange(n_cells) // probed.n_cols, len(test)),
        "col": np.tile(np.arange(n_cells) % probed.n_cols, len(test)),
        "truth": names[test.labels.reshape(-1)].tolist(),
        "prediction": names[ridge[1].predicted.reshape(-1)].tolist(),
        "palette_prediction": names[ridge[1].in_palette.reshape(-1)].tolist(),
    }
    for name, outcomes in others:
        columns[f"prediction_{name}"] = names[outcomes.predicted.reshape(-1)].tolist()
        columns[f"palette_prediction_{name}"] = names[outcomes.in_palette.reshape(-1)].tolist()
    return pa.table(columns)
