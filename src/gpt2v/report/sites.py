"""Sites of a probe on the page: their names, their order, and their places on an axis."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpt2v.config.sites import OF_PATCHES, Site
from gpt2v.report.analysis import Rate
from gpt2v.report.checked import Row

_BEFORE = ("pixels", "random")  # not on the way of a picture through the model


@dataclass(frozen=True)
class Placed:
    """Sites in the order of the page, and their places on an axis."""

    sites: Sequence[Site]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Placed":
        """The sites of rows: pixels, the random tower, then the way of a picture."""
        sites = {site_of(row) for row in rows}
        names = [*OF_PATCHES, *sorted({site.name for site in sites} - set(OF_PATCHES))]
        return cls(sorted(sites, key=lambda s: (names.index(s.name), -1 if s.layer is None
                                                else s.layer)))  # fmt: skip

    @property
    def places(self) -> dict[Site, float]:
        """Places 1 apart on the way of a picture, and farther apart elsewhere."""
        places, at = {}, 0.0
        for before, site in zip((None, *self.sites), self.sites, strict=False):
            if before is not None:
                apart = before.name in _BEFORE and before.name != site.name
                at += 1.5 if apart else 1.0
            places[site] = at
        return places


def site_of(row: Row) -> Site:
    """The site of a row."""
    return Site(row["site"], row["layer"])


def cell_name(cell: Sequence[int]) -> str:
    """`[0, 2]` -> `row 0, column 2`."""
    return f"row {cell[0]}, column {cell[1]}"


def rate_of(row: Row, key: str = "accuracy", ci: str = "ci95") -> Rate:
    """A rate of a row, with its interval if it has one."""
    pair = row.get(ci)
    return Rate(float(row[key]), (float(pair[0]), float(pair[1])) if pair else None)
