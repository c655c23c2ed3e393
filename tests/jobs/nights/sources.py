"""Sources that somebody changes by day: a folder of Parquet dumps, a Delta table, an Iceberg table.

Each has the same changes: `CHANGES` names the methods. Rows are `id`, `text`, `stars`, `topic` and `lang`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("stars", pa.int32()), ("topic", pa.string()), ("lang", pa.string())]
)
TOPICS = ["news", "a b/ü", None, "x=y%"]


def one_of(thing: Any, names: Sequence[str], chance: Random) -> str:
    """Call one of some methods; its name."""
    name = chance.choice(names)
    getattr(thing, name)()
    return name


class Rows:
    """Rows that nobody has seen before, and changes of rows."""

    def __init__(self, chance: Random):
        self.chance, self.made = chance, 0

    def new(self, count: int) -> pa.Table:
        """New rows; a few have no text."""
        found = []
        for _ in range(count):
            self.made += 1
            text = None if self.chance.random() < 0.03 else self._text()
            topic, lang = self.chance.choice(TOPICS), self.chance.choice(["de", "en"])
            found.append({"id": f"r{self.made:05}", "text": text, "stars": self.made % 5, "topic": topic, "lang": lang})
        return pa.Table.from_pylist(found, SCHEMA)

    def changed(self, rows: pa.Table, share: float) -> pa.Table:
        """The rows in another order; some have another text, and some of those without have a topic of their own."""
        found = rows.to_pylist()
        self.chance.shuffle(found)
        for row in found[: max(1, int(len(found) * share))]:
            row["text"] = self._text()
        if found and self.chance.random() < 0.5:
            found[-1]["topic"] = self.chance.choice(TOPICS)
        return pa.Table.from_pylist(found, SCHEMA)

    def _text(self) -> str:
        return f"text {self.chance.randrange(10**9)} of row {self.made}"


class Folder:
    """A folder of Parquet files, by language in `lang=` folders."""

    CHANGES = (
        *("dump", "append", "append", "update", "delete", "join", "split", "rename", "drop", "touch", "nothing"),
        *("empty", "dump_all"),
    )

    def __init__(self, folder: Path, chance: Random):
        self.folder, self.chance, self.rows, self.files = folder, chance, Rows(chance), 0
        for _ in range(4):
            self.append()

    @property
    def section(self) -> dict[str, Any]:
        """`source:` of a job file."""
        return {"path": str(self.folder)}

    def read(self) -> pa.Table:
        """All rows."""
        return pa.concat_tables([self._read(file) for file in self._files()])

    def append(self) -> None:
        """A new file for each language."""
        new = self.rows.new(self.chance.randint(20, 60))
        for lang in ("de", "en"):
            self._write(self._name(lang), new.filter(pc.equal(new["lang"], lang)))

    def dump(self) -> None:
        """A file is written again, in another order, with one row in thirty changed."""
        file = self._one()
        self._write(file, self.rows.changed(self._read(file), 0.03))

    def dump_all(self) -> None:
        """All files are replaced by one dump for each language."""
        rows, old = self.rows.changed(self.read(), 0.02), self._files()
        for lang in ("de", "en"):
            self._write(self._name(lang), rows.filter(pc.equal(rows["lang"], lang)))
        for file in old:
            file.unlink()

    def update(self) -> None:
        """A row of a file changes, nothing else."""
        file = self._one()
        rows = self._read(file).to_pylist()
        if rows:
            self.chance.choice(rows)["text"] = f"updated {self.chance.randrange(10**9)}"
        self._write(file, pa.Table.from_pylist(rows, SCHEMA))

    def delete(self) -> None:
        """A file loses some rows."""
        file = self._one()
        rows = [row for row in self._read(file).to_pylist() if self.chance.random() > 0.1]
        self._write(file, pa.Table.from_pylist(rows, SCHEMA))

    def empty(self) -> None:
        """A file loses all rows."""
        self._write(self._one(), SCHEMA.empty_table())

    def join(self) -> None:
        """Two files of a language become one."""
        first = self._one()
        others = [file for file in first.parent.glob("*.parquet") if file != first]
        if others:
            second = self.chance.choice(others)
            self._write(self._name(first.parent.name[-2:]), pa.concat_tables([self._read(first), self._read(second)]))
            first.unlink()
            second.unlink()

    def split(self) -> None:
        """A file becomes two."""
        file = self._one()
        rows = self._read(file)
        at = len(rows) // 3
        for part in (rows.slice(0, at), rows.slice(at)):
            self._write(self._name(file.parent.name[-2:]), part)
        file.unlink()

    def rename(self) -> None:
        """A file has another name."""
        file = self._one()
        file.rename(self._name(file.parent.name[-2:]))

    def drop(self) -> None:
        """A file is deleted."""
        if len(self._files()) > 3:
            self._one().unlink()

    def touch(self) -> None:
        """All files are copied, with new times."""
        for file in self._files():
            shutil.copy(file, file.with_suffix(".copy"))
            file.with_suffix(".copy").rename(file)

    def nothing(self) -> None:
        """A quiet day."""

    def somebody(self, chance: Random) -> str:
        """Make one of `CHANGES`; its name."""
        return one_of(self, self.CHANGES, chance)

    def _files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.parquet"))

    def _one(self) -> Path:
        return self.chance.choice(self._files())

    def _name(self, lang: str) -> Path:
        self.files += 1
        return self.folder / f"lang={lang}" / f"part-{self.files}.parquet"

    def _read(self, file: Path) -> pa.Table:
        rows = pq.ParquetFile(file).read()
        return rows.append_column("lang", pa.array([file.parent.name[-2:]] * len(rows), pa.string()))

    def _write(self, file: Path, rows: pa.Table) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.drop_columns("lang"), file, row_group_size=10)


class DeltaSource:
    """A Delta table by topic."""

    CHANGES = ("overwrite", "append", "append", "update", "delete", "compact", "compact", "vacuum", "nothing", "merge")

    def __init__(self, folder: Path, chance: Random):
        self.folder, self.chance, self.rows = folder, chance, Rows(chance)
        for _ in range(4):
            self.append()

    @property
    def section(self) -> dict[str, Any]:
        """`source:` of a job file."""
        return {"table": f"delta://{self.folder}"}

    def read(self) -> pa.Table:
        """All rows."""
        return pa.table(self._table.to_pyarrow_table()).select(SCHEMA.names).cast(SCHEMA)

    @property
    def _table(self) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(self.folder)

    def append(self) -> None:
        """New rows."""
        from deltalake import write_deltalake

        new = self.rows.new(self.chance.randint(20, 60))
        write_deltalake(self.folder, new, mode="append", partition_by=["topic"])

    def overwrite(self) -> None:
        """The whole table is written again, in another order, with one row in thirty changed."""
        from deltalake import write_deltalake

        write_deltalake(self.folder, self.rows.changed(self.read(), 0.03), mode="overwrite")

    def update(self) -> None:
        """Some rows change."""
        text = f"'updated {self.chance.randrange(10**9)}'"
        self._table.update({"text": text}, predicate=f"id = '{self._id()}'")

    def merge(self) -> None:
        """Some rows are upserted."""
        changed = self.rows.changed(self.read(), 1).slice(0, 3)
        new = pa.concat_tables([changed, self.rows.new(2)])
        self._table.merge(
            new, "t.id = s.id", source_alias="s", target_alias="t"
        ).when_matched_update_all().when_not_matched_insert_all().execute()

    def delete(self) -> None:
        """Some rows are deleted."""
        self._table.delete(f"id > '{self._id()}' and stars = 3")

    def compact(self) -> None:
        """Small files are joined."""
        self._table.optimize.compact()

    def vacuum(self) -> None:
        """Files of older versions are deleted, and the log is cut off."""
        self._table.vacuum(0, enforce_retention_duration=False, dry_run=False)
        self._table.create_checkpoint()

    def nothing(self) -> None:
        """A quiet day."""

    def somebody(self, chance: Random) -> str:
        """Make one of `CHANGES`; its name."""
        return one_of(self, self.CHANGES, chance)

    def _id(self) -> str:
        return self.chance.choice(self.read()["id"].to_pylist())


class IcebergSource:
    """An Iceberg table in the catalog `lake`."""

    CHANGES = ("overwrite", "append", "append", "update", "delete", "compact", "compact", "expire", "nothing")

    def __init__(self, catalog: Any, chance: Random):
        self.catalog, self.chance, self.rows = catalog, chance, Rows(chance)
        catalog.create_namespace_if_not_exists("src")
        catalog.create_table("src.t", SCHEMA)
        for _ in range(4):
            self.append()

    @property
    def section(self) -> dict[str, Any]:
        """`source:` of a job file."""
        return {"table": "iceberg://lake/src.t"}

    @property
    def _table(self) -> Any:
        return self.catalog.load_table("src.t")

    def read(self) -> pa.Table:
        """All rows."""
        return self._table.scan().to_arrow().cast(SCHEMA)

    def append(self) -> None:
        """New rows."""
        self._table.append(self.rows.new(self.chance.randint(20, 60)))

    def overwrite(self) -> None:
        """The whole table is written again, in another order, with one row in thirty changed."""
        self._table.overwrite(self.rows.changed(self.read(), 0.03))

    def update(self) -> None:
        """A row changes."""
        rows = self.read()
        row = rows.filter(pc.equal(rows["id"], self._id()))
        self._table.overwrite(self.rows.changed(row, 1), overwrite_filter=f"id == '{row['id'][0]}'")

    def delete(self) -> None:
        """Some rows are deleted."""
        self._table.delete(f"id > '{self._id()}' and stars = 3")

    def compact(self) -> None:
        """All files are joined."""
        self._table.overwrite(self.read())

    def expire(self) -> None:
        """Only the newest snapshot is kept."""
        table = self._table
        if old := [each.snapshot_id for each in table.snapshots() if each != table.current_snapshot()]:
            table.maintenance.expire_snapshots().by_ids(old).commit()

    def nothing(self) -> None:
        """A quiet day."""

    def somebody(self, chance: Random) -> str:
        """Make one of `CHANGES`; its name."""
        return one_of(self, self.CHANGES, chance)

    def _id(self) -> str:
        return self.chance.choice(self.read()["id"].to_pylist())
