"""A fingerprint of the weights of a model folder, the same wherever the folder is and however it is called."""

from __future__ import annotations

import hashlib
import json
import mmap
from functools import cache
from pathlib import Path

from transforms.checkpoint import files, weights
from transforms.errors import ModelError

# A file beside an adapter's, written when it is trained or added to a registry.
ORIGIN = "nightscribe.json"


def of(folder: str) -> str:
    """A hash of the names, types, shapes and bytes of all tensors in the weight files of a folder, 40 hex digits.

    How the tensors are spread over safetensors files, and what else these files say, has no effect. PyTorch files are
    pickles, so their bytes are hashed as a whole.

    Raises:
        ModelError: the folder has no weights, or they are damaged.
    """
    stored = weights.read(weights.find(folder))
    contents: dict[str, str] = {}
    for file in sorted({tensor.file for tensor in stored.values()}):
        stat = file.stat()
        contents |= _contents(file, stat.st_size, stat.st_mtime_ns)
    described = [[name, tensor.dtype, list(tensor.shape)] for name, tensor in sorted(stored.items())]
    return hashlib.sha256(json.dumps([described, sorted(contents.items())]).encode()).hexdigest()[:40]


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


def record(base: str) -> bytes:
    """The content of the file that says which base an adapter was trained on.

    Args:
        base: fingerprint of the base.
    """
    return json.dumps({"base_fingerprint": base}).encode()


@cache
def _contents(file: Path, size: int, mtime_ns: int) -> dict[str, str]:
    """The hash of the bytes of each tensor in a safetensors file, by name; of any other file one hash.

    Cached, because a run needs it for the plan and for loading, and files can be large.
    """
    with file.open("rb") as stream:
        if file.suffix != ".safetensors":
            return {"": hashlib.file_digest(stream, "sha256").hexdigest()}
        begin = 8 + int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(begin - 8))
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            found = {}
            for name, entry in header.items():
                if name != "__metadata__":
                    start, stop = (begin + offset for offset in entry["data_offsets"])
                    with view[start:stop] as tensor:
                        found[name] = hashlib.sha256(tensor).hexdigest()
            return found
