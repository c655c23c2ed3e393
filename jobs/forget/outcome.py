"""What was erased, and what could not be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.report.shown import count


@dataclass(frozen=True)
class Outcome:
    """The outcome of `nightscribe forget`; it holds nothing of the person.

    Attributes:
        places: place -> rows, or entries of files, that were erased there.
        keys: different texts that are the person's alone.
        left: what still holds the person's rows or what was learnt from them, one sentence each.
        not_written: files with rows of the person that cannot be written again, and the number of those rows.
        dry_run: nothing was erased.
    """

    places: Mapping[str, int]
    keys: int
    left: Sequence[str]
    not_written: Mapping[str, int]
    dry_run: bool

    @property
    def rows(self) -> int:
        """The sum over all places; a row that is in two places counts twice."""
        return sum(self.places.values())

    def text(self) -> str:
        """One line for each place, then what is left."""
        verb = "would be erased" if self.dry_run else "erased"
        lines = [f"{place}: {count(rows, 'row')} {verb}" for place, rows in self.places.items()]
        if not lines:
            lines = ["Nothing was found: no row that is kept beside the enriched ones meets the condition."]
        return "\n".join([*lines, *self.left])

    def to_json(self) -> str:
        """One line of JSON."""
        found = {"rows": self.rows, "keys": self.keys, "places": dict(self.places), "left": list(self.left)}
        return json.dumps(found | {"not_written": dict(self.not_written), "dry_run": self.dry_run}, ensure_ascii=False)
