"""A sink by its place alone, as a person gives it to a command."""

from __future__ import annotations

from jobs.sink.folder import FolderSink
from jobs.spec.table import delta_folder
from jobs.store import Store
from transforms.errors import SpecError


def opened(place: str) -> FolderSink:
    """The sink at a folder, a URL or a table, to be read only.

    Raises:
        SpecError: no such kind of place, or no such table.
    """
    if place.startswith("iceberg://"):
        # Imported here, because the libraries of tables take a second.
        from jobs.table import open_table

        if (snapshot := open_table(place, "SINK").snapshot()) is None:
            raise SpecError(f"SINK {place!r} is no table of its catalog; correct the name")
        return FolderSink(Store(snapshot.location, "SINK"))
    return FolderSink(Store(delta_folder(place) or place, "SINK"))
