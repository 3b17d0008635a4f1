"""Decoders of the object in each cell, from hidden states of the patches that show it.

The ten-way accuracy measures what a decoder reads from the states alone. The palette-restricted
accuracy can be compared with a model, which is given the palette. A decoder that is trained on a
control's labels shows the accuracy without any information.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2v import runs
from gpt2v.config.base import hash_of
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.tiles.bank import TileBank
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.load import LoadedModel, load_gpt2v
from gpt2v.paths import expanded
from gpt2v.probing.cells import CellMap
from gpt2v.probing.collect import Collection
from gpt2v.probing.outputs import other_rows, records_of, ridge_rows, save_decoders
from gpt2v.probing.probed import Probed
from gpt2v.probing.reading import StatesReader, reader_of
from gpt2v.probing.splits import check_classes, splits_of
from gpt2v.progress import progress
from gpt2v.run_layout import DECODERS, RECORDS, STATES
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
    origin = _origin(reader, maps)
    folder = _kept_in(config) if keeps else own
    collection = Collection(reader, origin, folder, config.features.max_gb, is_shared=keeps)
    probed, collected = collect(reader, maps, collection)

    rows = ridge_rows(probed) + other_rows(probed)
    measures: dict[str, Any] = {}
    with progress("probe: measures", len(config.chosen_measures)) as report:
        for choice in config.chosen_measures:
            measures[str(choice)] = choice.load()()(probed)
            report(str(choice))
    write_parquet(run / RECORDS, [records_of(probed)])
    save_decoders(probed, origin, run / DECODERS)
    comparison.say()
    results = runs.write_results(
        run,
        "probe",
        started,
        hardware=hardware_facts(),
        seed=config.seed,
        data_hash=hash_of(*(data.hash for data in probed.data.values())),
        vision_layer=reader.model.config.vision_layer,
        collected=collected,
        cells={str(site): cell_map.facts for site, cell_map in maps.items()},
        results=rows,
        measures=measures,
        **comparison.results,
    )
    if not keeps:
        remove_directory(own)
    return results


def collect(
    reader: StatesReader, maps: Mapping[Site, CellMap], collection: Collection
) -> tuple[Probed, dict[str, object]]:
    """Collect the states of all pictures; says their size before.

    Returns:
        What measures get; and for results.json, what `Collection.sizes` tells.

    Raises:
        UserError: a class is absent, or the states take too much space.
    """
    config, bank, n_cols = reader.config, reader.bank, reader.config.grid.largest_shape[1]
    sets = {split: probe_data(config, bank, split) for split in ("train", "val", "test")}
    check_classes(splits_of(sets, config), bank.class_names, n_cols)
    collected = collection.sizes(list(sets.values()))
    states = {name: collection.states(data) for name, data in sets.items()}
    splits = splits_of(sets, config, states)
    return Probed(config, bank.class_names, n_cols, splits, maps, reader, sets), collected


def probe_model(config: ProbeConfig, run: Path) -> dict[str, Any]:
    """`gpt2v probe`: probe a saved GPT-2v.

    Args:
        config: what is not given in it is taken from the model's run.
    """
    loaded, _ = load_gpt2v(config.model)
    filled = as_trained(config, config.model)
    config = filled.config
    bank = filled.bank(config.tiles)
    spec = config.grid.asked() if config.modalities else config.grid
    test = GridDataset(spec, bank, config.seed, "test", config.n_test)
    shown = [(test, config.modalities or ["image"])]
    comparison = loaded.compared(Measured(bank, shown), config.allow, filled.said)
    return probe(loaded, bank, config, run, comparison)


def check_probe(loaded: LoadedModel, bank: TileBank, config: ProbeConfig) -> None:
    """Refuse grids, cells and sites that cannot be probed.

    Raises:
        UserError: see `reader_of`.
    """
    reader_of(loaded, bank, config)


def _origin(reader: StatesReader, maps: Mapping[Site, CellMap]) -> str:
    """What hidden states depend on beside the data."""
    loaded, model = reader.loaded, reader.model
    pools = {str(site): reader.pools.get(site, 1) for site in maps}
    shape = model.config.to_json_string()
    return hash_of(loaded.identity["weights"], shape, pools, reader.config.seed, runs.versions())


def _kept_in(config: ProbeConfig) -> Path:
    """The folder of states that outlive their run."""
    path = config.features.path
    return expanded(path) / STATES if path else cache_folder(STATES)


def probe_data(config: ProbeConfig, bank: TileBank, split: str) -> GridDataset:
    """The pictures of a split; those of `train` that come last are for tests with its tiles."""
    n = getattr(config, f"n_{split}") + (config.n_val + config.n_test if split == "train" else 0)
    return GridDataset(config.grid, bank, config.seed, split, n)
