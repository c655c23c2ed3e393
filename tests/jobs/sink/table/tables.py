"""Tables of both formats in a temporary folder, read back with the formats' own libraries."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import lake


@dataclass(frozen=True)
class Tables:
    """Where tables of one format are."""

    format: str
    folder: Path
    patch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        self.patch.setenv("PYICEBERG_CATALOG__LAKE__TYPE", "sql")
        self.patch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{self.folder}/catalog.db")
        self.patch.setenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE", f"file://{self.folder}/warehouse")

    @property
    def url(self) -> str:
        return f"delta://{self.path}" if self.format == "delta" else "iceberg://lake/nights.reviews"

    @property
    def path(self) -> Path:
        return self.folder / "table"

    def job(self, source: Any, models: Path, **more: Any) -> dict[str, Any]:
        """A job that classifies into the table; keys of `sink` are added to it."""
        sink = {"table": self.url, "path": str(self.path)} | more.pop("sink", {})
        return lake.job(source, self.path, models, **more) | {"sink": sink}

    def catalog(self) -> Any:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.utils.config import Config

        return load_catalog("lake", **(Config().get_catalog_config("lake") or {}))

    def read(self) -> pa.Table:
        """All rows of the newest version, in the order of their ids."""
        if self.format == "delta":
            from deltalake import DeltaTable

            table = DeltaTable(str(self.path)).to_pyarrow_table()
        else:
            table = self.catalog().load_table("nights.reviews").scan().to_arrow()
        return table.take(pa.compute.sort_indices(table, sort_keys=[("id", "ascending")]))

    def files(self) -> list[str]:
        """Names of the data files of the newest version."""
        if self.format == "delta":
            from deltalake import DeltaTable

            return sorted(DeltaTable(str(self.path)).file_uris())
        return sorted(task.file.file_path for task in self.catalog().load_table("nights.reviews").scan().plan_files())

    def versions(self) -> int:
        """Number of commits so far."""
        if self.format == "delta":
            from deltalake import DeltaTable

            return DeltaTable(str(self.path)).version()
        return len(self.catalog().load_table("nights.reviews").snapshots())

    def compact(self) -> None:
        """Rewrite all files into few, as somebody else would."""
        if self.format == "delta":
            from deltalake import DeltaTable

            DeltaTable(str(self.path)).optimize.compact()
            return
        table = self.catalog().load_table("nights.reviews")
        table.overwrite(table.scan().to_arrow())

    def append(self, rows: pa.Table) -> None:
        """Add rows, as somebody else would."""
        if self.format == "delta":
            from deltalake import write_deltalake

            write_deltalake(str(self.path), rows, mode="append")
        else:
            self.catalog().load_table("nights.reviews").append(rows)

    def delete(self, condition: str) -> None:
        """Delete rows, as somebody else would."""
        if self.format == "delta":
            from deltalake import DeltaTable

            DeltaTable(str(self.path)).delete(condition)
        else:
            self.catalog().load_table("nights.reviews").delete(condition)

    def expire(self) -> None:
        """Keep only the newest version, as somebody else would."""
        if self.format == "delta":
            from deltalake import DeltaTable

            DeltaTable(str(self.path)).vacuum(0, enforce_retention_duration=False, dry_run=False, full=True)
            return
        table = self.catalog().load_table("nights.reviews")
        old = [each.snapshot_id for each in table.snapshots() if each != table.current_snapshot()]
        if old:
            table.maintenance.expire_snapshots().by_ids(old).commit()

    def save(self, copy: Path) -> None:
        """Copy the table, and its catalog."""
        shutil.copytree(self.path, copy / "table")
        if self.format == "iceberg":
            shutil.copy(self.folder / "catalog.db", copy)

    def restore(self, copy: Path) -> None:
        """Put a copy in the place of the table."""
        shutil.rmtree(self.path)
        shutil.copytree(copy / "table", self.path)
        if self.format == "iceberg":
            shutil.copy(copy / "catalog.db", self.folder)
