"""The report's sections. Each is a class in a file of its own, registered in `SECTIONS`."""

from gpt2v.report.sections import (  # noqa: F401 (they register)
    again,
    baselines,
    cells,
    ladder,
    learning,
    lost,
    objects,
    probe,
    samples,
)
