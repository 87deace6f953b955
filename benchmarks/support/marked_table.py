"""Markdown tables between two comments in a file, which a command rewrites.

The second column names the machine of a row: rows of other machines are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table and the name in its comments.

    Attributes:
        name: `<!-- NAME -->` stands before it and `<!-- end of NAME -->` after it.
        header: the first line.
        rows: each as long as `header`; all measured on one machine.
    """

    name: str
    header: Row
    rows: Sequence[Row]

    @property
    def markers(self) -> tuple[str, str]:
        """The comments before and after the table."""
        return f"<!-- {self.name} -->", f"<!-- end of {self.name} -->"


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """Return a table as text, without a newline at the end."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def with_rows(text: str, table: Table) -> str:
    """Return the text with the table's rows in place of those of the same machine.

    Raises:
        ValueError: the text has no place for the table.
    """
    begin, end = table.markers
    before, opened, rest = text.partition(begin)
    inside, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"expected the comments {begin} and {end}, got a text without them; add both, on lines alone")
    machine = table.rows[0][1]
    old = [_cells(line) for line in inside.strip().splitlines()[2:]]
    place = next((index for index, row in enumerate(old) if row[1] == machine), len(old))
    rows = [*_of_others(old[:place], machine), *table.rows, *_of_others(old[place:], machine)]
    return f"{before}{begin}\n{markdown(table.header, rows)}\n{end}{after}"


def _of_others(rows: Sequence[Row], machine: str) -> list[Row]:
    return [row for row in rows if row[1] != machine]


def names_in(path: Path, names: Sequence[str]) -> list[str]:
    """Return the names of those tables for which a file has a place.

    Raises:
        ValueError: it has a place for none.
        OSError: it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    present = [name for name in names if all(marker in text for marker in Table(name, (), ()).markers)]
    if not present:
        raise ValueError(f"{path}: expected a comment <!-- {names[0]} --> and its end, found none; add them")
    return present


def write(path: Path, tables: Sequence[Table]) -> None:
    """Rewrite those tables for which a file has a place."""
    names = names_in(path, [table.name for table in tables])
    text = path.read_text(encoding="utf-8")
    for table in tables:
        if table.name in names:
            text = with_rows(text, table)
    path.write_text(text, encoding="utf-8")
