"""Commits to Delta tables that `deltalake` cannot make: deletion vectors and renamed columns."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyroaring import BitMap

NO_NAMES: Mapping[str, str] = {}


def add_vector(folder: Path, name: str, positions: Iterable[int]) -> None:
    """Commit a deletion vector for a data file, as the Delta protocol describes it ("Deletion Vector Format")."""
    found = sorted(positions)
    # 64-bit roaring: the number of 32-bit ones, and each with its upper half before it.
    bitmap = struct.pack("<IqI", 1681511377, 1, 0) + BitMap(found).serialize()
    file = folder / "deletion_vector_00000000-0000-0000-0000-000000000000.bin"
    version = DeltaTable(folder).version() + 1
    file = folder / f"deletion_vector_{version}.bin"
    file.write_bytes(b"\1" + struct.pack(">i", len(bitmap)) + bitmap + struct.pack(">I", zlib.crc32(bitmap)))
    vector = {
        "storageType": "p",
        "pathOrInlineDv": file.as_uri(),
        "offset": 1,
        "sizeInBytes": len(bitmap),
        "cardinality": len(found),
    }
    old = next(add for add in _adds(folder) if add["path"] == name)
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
    gone = {key: old[key] for key in ("path", "partitionValues", "size")}
    gone |= {"deletionTimestamp": 1, "dataChange": True, "extendedFileMetadata": True}
    if "deletionVector" in old:
        gone["deletionVector"] = old["deletionVector"]
    commit(folder, {"protocol": protocol}, {"remove": gone}, {"add": old | {"deletionVector": vector}})


def rename_columns(folder: Path, new: Mapping[str, str], physical: Mapping[str, str] = NO_NAMES) -> None:
    """Commit other names for columns of all levels; data files keep the old ones (column mapping by name).

    Args:
        folder: of the table, as it was created.
        new: name -> the new one.
        physical: name -> the name in data files, where it is another than the name when the table was created.
    """
    metadata = next(action["metaData"] for action in _actions(folder) if "metaData" in action)
    schema = json.loads(metadata["schemaString"])
    numbers = iter(range(1, 1000))

    def rename(fields: list[dict[str, Any]]) -> None:
        for field in fields:
            field["metadata"] = {
                "delta.columnMapping.id": next(numbers),
                "delta.columnMapping.physicalName": physical.get(field["name"], field["name"]),
            }
            field["name"] = new.get(field["name"], field["name"])
            if isinstance(field["type"], dict) and field["type"]["type"] == "struct":
                rename(field["type"]["fields"])

    rename(schema["fields"])
    changed = metadata | {
        "schemaString": json.dumps(schema),
        "partitionColumns": [new.get(name, name) for name in metadata["partitionColumns"]],
        "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "100"},
    }
    commit(folder, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, {"metaData": changed})


def commit(folder: Path, *actions: dict[str, Any]) -> None:
    """Write the next commit of a table."""
    lines = "\n".join(json.dumps(action) for action in actions)
    (folder / "_delta_log" / f"{DeltaTable(folder).version() + 1:020}.json").write_text(lines)


def _adds(folder: Path) -> list[dict[str, Any]]:
    found = {action["add"]["path"]: action["add"] for action in _actions(folder) if "add" in action}
    return list(found.values())


def _actions(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "_delta_log").glob("*.json"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
