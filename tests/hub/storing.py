"""Which files git-lfs keeps: those that the .gitattributes of a new repository names, large ones, and binary ones."""

from __future__ import annotations

from fnmatch import fnmatch

# https://huggingface.co/docs/hub/repositories-getting-started
_ENDINGS = """
7z arrow avro bin bz2 ckpt ftz gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt pth
rar safetensors tar tflite tgz wasm xz zip zst
"""
PATTERNS = (*(f"*.{each}" for each in _ENDINGS.split()), "*.tar.*", "*tfevents*", "saved_model/**/*")
SIZE = 10 << 20
ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in PATTERNS).encode()


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether git-lfs keeps a file.

    Args:
        path: of the file.
        size: of its content.
        sample: the beginning of its content, or all of it.
    """
    if size == 0:
        return False
    names = (path.lower(), path.lower().rsplit("/", 1)[-1])
    return size > SIZE or b"\0" in sample[:512] or any(fnmatch(name, each) for name in names for each in PATTERNS)
