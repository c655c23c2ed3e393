"""What a job has published to one split of a dataset repository: its own list of files, kept in the repository.

It is one file of JSON lines: a first line about the job, then a line for each part file with its hash and its ledger
entry. A new machine reads the finished shards from there, and publishing knows which files are its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from jobs.report.shown import count
from jobs.sink.entry import Entry
from jobs.sink.owner import Owner
from transforms.errors import UnreadableSink

# Increased whenever an older version would misread a list of this version.
FORMAT = 1

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class File:
    """A part file in the repository.

    Attributes:
        path: where it is there.
        sha256: hash of its content.
        oid: what git calls it if it is no file of git-lfs.
        size: bytes.
        uncompressed: bytes of its columns before compression, as its footer has them.
        entry: the ledger entry of its shard, without what only the sink has: findings, rejected rows.
    """

    path: str
    sha256: str
    oid: str
    size: int
    uncompressed: int
    entry: Entry


@dataclass(frozen=True)
class Published:
    """The list of one configuration and split.

    Attributes:
        owner: the job that they belong to.
        run_id: the run that last changed a file.
        files: by slot.
    """

    owner: Owner
    run_id: str
    files: Mapping[str, File] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """JSON lines, in the order of the paths; equal lists give equal bytes."""
        head = {"format": FORMAT, "run_id": self.run_id, "owner": asdict(self.owner)}
        lines = [head, *({**asdict(each), "entry": each.entry.to_json()} for each in self.ordered)]
        return b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines)

    @classmethod
    def from_bytes(cls, content: bytes, place: str) -> Published:
        """The inverse of `to_bytes`.

        Args:
            content: the file.
            place: where it was read, for the error.

        Raises:
            UnreadableSink: it is damaged, or another version wrote it.
        """
        try:
            head, *lines = map(json.loads, content.splitlines())
            if head["format"] != FORMAT:
                raise UnreadableSink(
                    f"{place} has format {head['format']}, and this version of nightscribe reads format {FORMAT}; "
                    f"install the version that wrote it"
                )
            files = [_file(line) for line in lines]
            return cls(_OWNER.validate_python(head["owner"]), str(head["run_id"]), {f.entry.slot: f for f in files})
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableSink(
                f"{place} is damaged, so it is unknown which files of the repository this job wrote; undo the commit "
                f"that changed it"
            ) from error

    @property
    def ordered(self) -> list[File]:
        """Its files by path."""
        return sorted(self.files.values(), key=lambda each: each.path)


@dataclass(frozen=True)
class Changes:
    """What must be done to the ledger of a sink so that it agrees with the repository.

    Attributes:
        put: entries by slot that it lacks or has otherwise.
        gone: slots that it has although the repository gave them up.
    """

    put: Mapping[str, Entry] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()

    def applied(self, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        """The entries with the changes."""
        return {slot: entry for slot, entry in entries.items() if slot not in self.gone} | dict(self.put)


NO_CHANGES = Changes()


def changes(local: Mapping[str, Entry], base: Published | None, there: Published | None) -> Changes:
    """What another machine has changed in the repository since this one last published or looked.

    A slot that only this machine changed keeps the entry of this machine, which the next commit publishes. So do all
    if the list is gone or older than this machine knows it: somebody has deleted or reset the repository.

    Args:
        local: the ledger of this machine.
        base: the repository's list when this machine last saw it; None if it never did.
        there: the list as it is now; None if the repository has none.
    """
    if there is None or (base is not None and there.run_id <= base.run_id):
        return NO_CHANGES
    before, now = {} if base is None else base.files, there.files
    put = {}
    for slot, file in now.items():
        known = local.get(slot)
        if file != before.get(slot) and (known is None or bare(known) != file.entry):
            put[slot] = file.entry
    return Changes(put, frozenset(slot for slot in before.keys() - now.keys() if slot in local))


def bare(entry: Entry) -> Entry:
    """An entry as the repository has it: without rows that were rejected or shown in a report, which stay private."""
    return replace(entry, findings=None, rejected=None)


def is_same_part(one: Entry, other: Entry) -> bool:
    """Whether two entries are of the same bytes: of one run, which writes a part once."""
    return (one.part, one.run_id, one.time) == (other.part, other.run_id, other.time)


def folder(config: str, split: str) -> str:
    """The folder of the part files in the repository."""
    return f"data/{config}/{split}"


def ledger_path(config: str, split: str) -> str:
    """The file with the list."""
    return f"_nightscribe/{config}/{split}/ledger.jsonl"


def path_of(part: str, config: str, split: str) -> str:
    """Where a part file is in the repository.

    Partition folders lose their `=`: the values are in the rows, and readers would take the folder for a column too.
    """
    inside = PurePosixPath(part)
    folders = "/".join(name.replace("=", "-") for name in inside.parts[:-1])
    return "/".join(each for each in (folder(config, split), folders, inside.name) if each)


def counted(files: Iterable[File]) -> str:
    """`12,000 rows in 3 files`."""
    known = list(files)
    return f"{count(sum(each.entry.rows_out for each in known), 'row')} in {count(len(known), 'file')}"


def hashed(path: str, local: Path, entry: Entry) -> File:
    """A part file as it will be in the repository.

    Args:
        path: where it will be there.
        local: the file.
        entry: its ledger entry.
    """
    size = local.stat().st_size
    # As git names a blob; of a file of git-lfs a listing has the SHA-256.
    sha256, oid = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with local.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            sha256.update(block)
            oid.update(block)
    footer = pq.read_metadata(local)
    uncompressed = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    return File(path, sha256.hexdigest(), oid.hexdigest(), size, uncompressed, bare(entry))


def _file(line: Any) -> File:
    sizes = int(line["size"]), int(line["uncompressed"])
    return File(line["path"], line["sha256"], line["oid"], *sizes, Entry.from_json(line["entry"]))


_OWNER = TypeAdapter(Owner)
