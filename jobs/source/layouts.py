"""Layouts of source files that earlier runs have read, kept in the sink: a plan opens only files that are new.

They are a `Log` by the name of the file. A layout counts for one version of the file and for the keys of the job file
that change it; schemas are kept once each. What is missing or damaged is read from the file again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cached_property, lru_cache
from typing import Any

import orjson
import pyarrow as pa

from jobs.source.files import File
from jobs.source.shard import Layout
from jobs.spec import SourceSpec
from jobs.spec.source import DIALECT
from jobs.store import Store, names
from jobs.store.log import Log
from transforms.errors import UnreadableSink

# Increased whenever a new version finds other columns or ranges in the same file.
LAYOUT = 1

# Begins the names of schemas; names of files do not begin like this.
SCHEMA = "/schema/"


class Layouts:
    """The layouts that a sink has, and those that a plan adds.

    Args:
        store: the sink's.
    """

    def __init__(self, store: Store):
        self._log: Log[dict[str, Any]] = Log(store, names.LAYOUTS, "file", dict, orjson.dumps)
        self._seen: set[str] = set()
        self._new: dict[str, dict[str, Any]] = {}
        self._schemas: dict[str, pa.Schema] = {}

    def get(self, file: File, spec: SourceSpec) -> Layout | None:
        """The layout of a file; None if it is not known at this version."""
        self._seen.add(file.key)
        line = self._known.get(file.key, {})
        if (line.get("version"), line.get("of")) != (file.version, digest(spec, file.format)):
            return None
        try:
            ranges = [(int(start), int(stop), _count(rows)) for start, stop, rows in line["ranges"]]
            return Layout(self._schema(line["schema"]), ranges, _count(line["about_rows"]))
        except (KeyError, TypeError, ValueError, pa.ArrowException):
            # Damaged.
            return None

    def add(self, file: File, spec: SourceSpec, layout: Layout) -> None:
        """Add the layout of a file that was read."""
        told = {"file": file.key, "version": file.version, "of": digest(spec, file.format)}
        schema = {"schema": self._id(layout.schema)}
        self._new[file.key] = told | schema | {"ranges": layout.ranges, "about_rows": layout.about_rows}

    def schema(self, key: str) -> pa.Schema | None:
        """The columns of a file of the plan; None if they are not known here."""
        try:
            return self._schema((self._new.get(key) or self._known[key])["schema"])
        except (KeyError, TypeError, ValueError, pa.ArrowException):
            return None

    def keep(self, lease: int) -> None:
        """Keep what the plan has read, and drop files that are gone. Only the holder of the sink may call this.

        Raises:
            SinkBusy: another run has taken the sink over.
        """
        files = {key: line for key, line in self._known.items() if key in self._seen} | self._new
        used = {f"{SCHEMA}{line.get('schema')}" for line in files.values()}
        gone = self._known.keys() - files.keys() - used
        if self._new or gone:
            schemas = {
                name: {"file": name, "schema": base64.b64encode(schema.serialize()).decode()}
                for id_, schema in self._schemas.items()
                if (name := f"{SCHEMA}{id_}") in used and name not in self._known
            }
            self._log.lease = lease
            self._log.update(schemas | self._new, gone)
            self._log.merge()

    @cached_property
    def _known(self) -> dict[str, dict[str, Any]]:
        try:
            return self._log.read()
        except UnreadableSink:
            # Of a later version, which can do without them too.
            return {}

    def _schema(self, id_: str) -> pa.Schema:
        # One object for all files: the types of a column over all files are found ten times as fast.
        if (found := self._schemas.get(id_)) is None:
            packed = base64.b64decode(self._known[f"{SCHEMA}{id_}"]["schema"])
            found = pa.ipc.read_schema(pa.py_buffer(packed))
            if _hash(packed) != id_:
                raise ValueError(id_)
            self._schemas[id_] = found
        return found

    def _id(self, schema: pa.Schema) -> str:
        id_ = _hash(schema.serialize().to_pybytes())
        self._schemas.setdefault(id_, schema)
        return id_


def _count(rows: Any) -> int | None:
    return None if rows is None else int(rows)


def digest(spec: SourceSpec, format_: str) -> str:
    """A hash of what changes the layout of a file beside its content."""
    return _digest(format_, None if spec.columns is None else tuple(spec.columns), *(getattr(spec, k) for k in DIALECT))


@lru_cache(maxsize=256)
def _digest(*told: object) -> str:
    return _hash(json.dumps([LAYOUT, *told]).encode())


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
