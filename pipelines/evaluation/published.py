"""The paper's table: what the authors published, and beside it what was measured here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLUMNS = {
    "A-847": "ade20k-847",
    "PC-459": "pascal-context-459",
    "A-150": "ade20k-150",
    "PC-59": "pascal-context-59",
    "PAS-20": "pascal-voc-20",
    "PAS-20b": "pascal-voc-20b",
}
"""Names of the paper, and ours."""

IMAGES = {
    "ade20k-847": 2000,
    "pascal-context-459": 5104,
    "ade20k-150": 2000,
    "pascal-context-59": 5104,
    "pascal-voc-20": 1449,
    "pascal-voc-20b": 1449,
}
"""Images that the published scores are about."""

SOURCE = "README of xb534/SED at commit db20d93, mIoU in percent"

PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "SED (B)": (11.2, 18.6, 31.8, 57.7, 94.4, None),
    "SED-fast (B), topk:8": (11.4, 18.6, 31.6, 57.3, 94.4, None),
    "SED (L)": (13.7, 22.1, 35.3, 60.9, 96.1, None),
    "SED-fast (L), topk:8": (13.9, 22.6, 35.2, 60.6, 96.1, None),
}
"""What the authors published, for each of `COLUMNS`; none of it was measured here."""

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Measured:
    """One score that was measured here."""

    dataset: str
    rejection: str
    miou: float | None
    images: int

    @property
    def complete(self) -> bool:
        """Whether it is about the images that the published scores are about."""
        return self.images == IMAGES[self.dataset]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    cells: list[str]


@dataclass(frozen=True)
class PaperTable:
    """The paper's table, published and measured rows apart."""

    published: list[Row]
    measured: list[Row]
    notes: list[str]


def paper_table(model: str, scores: Iterable[Measured]) -> PaperTable | None:
    """Return the table; None where none of its datasets was measured."""
    known = [one for one in scores if one.dataset in IMAGES]
    if not known:
        return None
    measured = [
        Row(
            f"{model}, {rejection}",
            [cell(known, dataset, rejection) for dataset in COLUMNS.values()],
        )
        for rejection in dict.fromkeys(one.rejection for one in known)
    ]
    published = [
        Row(name, [NOTHING if score is None else f"{score:.1f}" for score in row])
        for name, row in PUBLISHED.items()
    ]
    return PaperTable(published, measured, notes(known))


def cell(scores: Sequence[Measured], dataset: str, rejection: str) -> str:
    """Return what a cell of a measured row says."""
    for one in scores:
        if (one.dataset, one.rejection) == (dataset, rejection):
            score = NOTHING if one.miou is None else f"{one.miou:.1f}"
            return score if one.complete else f"{score}*"
    return NOTHING


def notes(scores: Sequence[Measured]) -> list[str]:
    """Return the sentences under the table."""
    parts = dict.fromkeys(
        f"{one.images} of the {IMAGES[one.dataset]} of {one.dataset}"
        for one in scores
        if not one.complete
    )
    found = [f"{NOTHING} not published, or not measured in this run."]
    if parts:
        found.append(f"* not on all images of the benchmark: {', '.join(parts)}.")
    return found


def lines(table: PaperTable) -> list[str]:
    """Return the table as text."""
    width = max(len(row.name) for row in (*table.published, *table.measured)) + 4
    head = f"{'mIoU in percent':<{width}}" + "".join(f"{name:>9}" for name in COLUMNS)
    found = ["", head, "published by the authors:"]
    for title, rows in [(None, table.published), ("measured here:", table.measured)]:
        found += [title] if title else []
        for row in rows:
            found.append(f"  {row.name:<{width - 2}}" + "".join(f"{c:>9}" for c in row.cells))
    return found + table.notes
