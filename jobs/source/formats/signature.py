"""Files that are not what their names say: known by their first bytes, which no CSV or JSON file begins with."""

from __future__ import annotations

import os

from transforms.errors import UnreadableSource

# First bytes -> the program that compressed the file, and the ending by which it would be unpacked.
COMPRESSED = {
    b"\x1f\x8b\x08": ("gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("zstd", ".zst"),
    b"BZh91AY&SY": ("bzip2", ".bz2"),
    b"\xfd7zXZ\x00": ("xz", ".xz"),
}

# First bytes -> the format, and what to do about it.
OTHER = {
    b"PK\x03\x04": ("a zip file, as those of Excel are", "unpack it, or save it as CSV"),
    b"PAR1\x15": ("a Parquet file", "rename it to end in .parquet, or set source.format: parquet"),
    b"ARROW1\x00\x00": ("an Arrow file", "rename it to end in .arrow, or set source.format: arrow"),
    b"Obj\x01": ("an Avro file", "write it as Parquet or JSON lines"),
}


def refuse(head: bytes, path: str, is_unpacked: bool = False) -> None:
    """Refuse a text file that is compressed, or of another format.

    Args:
        head: its first bytes, as they are read.
        path: its name, for the message.
        is_unpacked: whether it is unpacked while it is read, because of its name.

    Raises:
        UnreadableSource: what it is, and the fix.
    """
    if (found := next((known for begin, known in COMPRESSED.items() if head.startswith(begin)), None)) is not None:
        program, ending = found
        if is_unpacked:
            raise UnreadableSource(f"{path} is compressed twice, the second time with {program}; unpack it once")
        raise UnreadableSource(
            f"{path} is compressed with {program}, and its name does not say so; rename it to "
            f"{os.path.basename(path)}{ending}, or unpack it"
        )
    if (other := next((known for begin, known in OTHER.items() if head.startswith(begin)), None)) is not None:
        what, fix = other
        raise UnreadableSource(f"{path} is {what}; {fix}, or leave it out with source.path")
