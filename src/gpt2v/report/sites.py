"""Sites of a probe on the page: their order, and their places on an axis."""

from collections.abc import Iterable, Sequence

from gpt2v.config.sites import OF_PATCHES, Site
from gpt2v.report.analysis import Rate
from gpt2v.report.checked import Row

_BESIDE = ("pixels", "random")  # not on the way of a picture through the model


def in_order(rows: Iterable[Row]) -> list[Site]:
    """The sites of rows: pixels and the random tower, then the way of a picture."""
    sites = {site_of(row) for row in rows}
    names = [*OF_PATCHES, *sorted({site.name for site in sites} - set(OF_PATCHES))]
    return sorted(
        sites, key=lambda site: (names.index(site.name), -1 if site.layer is None else site.layer)
    )


def places(sites: Sequence[Site]) -> dict[Site, float]:
    """A place for each site: 1 apart on the way of a picture, farther apart elsewhere."""
    found = {}
    at = 0.0
    for number, site in enumerate(sites):
        before = sites[number - 1].name if number else site.name
        at += 0 if not number else 1.5 if before in _BESIDE and before != site.name else 1
        found[site] = at
    return found


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
