"""The report's sections. Each is a class in its own file, registered in `SECTIONS`."""

from gpt2v.report.sections import (  # noqa: F401 (registers them)
    again,
    agreement,
    attention,
    attribution,
    baselines,
    breakdown,
    cells,
    compared,
    ladder,
    language,
    learning,
    lost,
    objects,
    patch_borders,
    probe,
    reliability,
    renderings,
    samples,
)
