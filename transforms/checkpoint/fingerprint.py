"""A fingerprint of the weights of a model folder, the same wherever the folder is and however it is called."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from transforms.checkpoint import files, weights
from transforms.errors import ModelError

# A file beside an adapter's, written when it is trained.
ORIGIN = "nightscribe.json"


def of(folder: str) -> str:
    """A hash of the names, types, shapes and values of all tensors in the weight files of a folder, 40 hex digits.

    Raises:
        ModelError: the folder has no weights, or they are damaged.
    """
    stored = weights.read(weights.find(folder))
    names = sorted({tensor.file for tensor in stored.values()})
    contents = [_content(file, file.stat().st_size, file.stat().st_mtime_ns) for file in names]
    shapes = [[name, tensor.dtype, list(tensor.shape)] for name, tensor in sorted(stored.items())]
    return hashlib.sha256(json.dumps([shapes, contents]).encode()).hexdigest()[:40]


def recorded(adapter: str) -> str | None:
    """The fingerprint of the base that an adapter was trained on; None if its folder does not say.

    Raises:
        ModelError: the file that says it is damaged.
    """
    file = Path(adapter) / ORIGIN
    if not file.is_file():
        return None
    found = files.read_json(file).get("base_fingerprint")
    if not isinstance(found, str):
        raise ModelError(f"{file} has no base_fingerprint; copy it again, or delete it to compare names only")
    return found


@cache
def _content(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
