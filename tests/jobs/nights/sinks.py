"""Sinks, read with the library of their format, and what somebody else does to them by day."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from tests import lake
from tests.jobs.nights import sources


class FolderSink:
    """A folder of Parquet files."""

    OTHERS = ("nothing",)

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def section(self) -> dict[str, Any]:
        """`sink:` of a job file."""
        return {"path": str(self.folder), "on_vanished": "remove"}

    def read(self) -> pa.Table:
        """All rows, with DuckDB, which takes columns from folders."""
        import duckdb

        if not lake.parts(self.folder):
            return pa.table({})
        names = [str(part) for part in lake.parts(self.folder)]
        return duckdb.read_parquet(names, hive_partitioning=True, union_by_name=True).to_arrow_table()

    def nothing(self) -> None:
        """Leave it alone."""

    def somebody(self, chance: Random) -> str:
        """Do one of `OTHERS`; its name."""
        return sources.one_of(self, self.OTHERS, chance)


class DeltaSink:
    """A Delta table."""

    OTHERS = ("nothing", "compact", "vacuum", "checkpoint", "compact")

    def __init__(self, folder: Path, **more: Any):
        self.folder, self.more = folder, more

    @property
    def section(self) -> dict[str, Any]:
        """`sink:` of a job file."""
        return {"table": f"delta://{self.folder}", "on_vanished": "remove"} | self.more

    @property
    def _table(self) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(self.folder)

    def read(self) -> pa.Table:
        """All rows, with deltalake."""
        return self._table.to_pyarrow_table()

    def nothing(self) -> None:
        """Leave it alone."""

    def somebody(self, chance: Random) -> str:
        """Do one of `OTHERS`; its name."""
        return sources.one_of(self, self.OTHERS, chance)

    def compact(self) -> None:
        """Join small files."""
        self._table.optimize.compact()

    def vacuum(self) -> None:
        """Delete every file that the newest version does not have."""
        self._table.vacuum(0, enforce_retention_duration=False, dry_run=False, full=True)

    def checkpoint(self) -> None:
        """Shorten the log."""
        self._table.create_checkpoint()
        self._table.cleanup_metadata()


class IcebergSink:
    """An Iceberg table in the catalog `lake`."""

    OTHERS = ("nothing", "compact", "expire", "compact")

    def __init__(self, catalog: Any, folder: Path, **more: Any):
        self.catalog, self.folder, self.more = catalog, folder, more

    @property
    def section(self) -> dict[str, Any]:
        """`sink:` of a job file."""
        return {"table": "iceberg://lake/out.t", "path": str(self.folder), "on_vanished": "remove"} | self.more

    @property
    def _table(self) -> Any:
        return self.catalog.load_table("out.t")

    def read(self) -> pa.Table:
        """All rows, with pyiceberg."""
        return self._table.scan().to_arrow()

    def nothing(self) -> None:
        """Leave it alone."""

    def somebody(self, chance: Random) -> str:
        """Do one of `OTHERS`; its name."""
        return sources.one_of(self, self.OTHERS, chance)

    def compact(self) -> None:
        """Write all files again as few."""
        self._table.overwrite(self._table.scan().to_arrow())

    def expire(self) -> None:
        """Keep only the newest snapshot."""
        table = self._table
        if old := [each.snapshot_id for each in table.snapshots() if each != table.current_snapshot()]:
            table.maintenance.expire_snapshots().by_ids(old).commit()
