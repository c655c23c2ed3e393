"""The labelled rows of a training file: Parquet files are written again, others are only searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from jobs import source
from jobs.forget import parquet
from jobs.forget.parquet import BATCH_ROWS, Table
from jobs.forget.texts import Texts
from jobs.source import Shard, Source, files
from jobs.spec import SourceSpec
from jobs.training.spec import TrainingSpec


@dataclass(frozen=True)
class Other:
    """Rows that are searched and cannot be erased: a file that is not Parquet, or a dataset.

    Attributes:
        name: the file, or the dataset.
        identity: names it.
        texts: where its texts are.
        source: the section that names it.
        shards: its shards.
    """

    name: str
    identity: tuple[str, str]
    texts: Texts
    source: Source
    shards: Sequence[Shard]

    def schema(self) -> pa.Schema:
        """The columns."""
        return self.source.schema

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows that can be read."""
        for shard in self.shards:
            for item in source.read(self.source, shard, BATCH_ROWS):
                if isinstance(item, pa.RecordBatch):
                    yield item if columns is None else item.select(columns)


def of(spec: TrainingSpec) -> tuple[list[Table], list[Other]]:
    """The files of a training file: those that can be written again, and the others.

    Raises:
        SpecError: a path matches no file.
        SourceError: a file cannot be read.
    """
    tables: list[Table] = []
    others: list[Other] = []
    for name, section in (("data.train", spec.data.train), ("data.holdout", spec.data.holdout)):
        if not isinstance(section, SourceSpec):
            continue
        texts = Texts(roles=spec.columns)
        found = [] if section.path is None else files.find(section.path, section.format)
        place = f"{name} of {spec.name}"
        tables += [parquet.of_source(file, place, texts) for file in found if file.format == "parquet"]
        if section.path is None or any(file.format != "parquet" for file in found):
            others += _others(section, texts)
    return tables, others


def _others(section: SourceSpec, texts: Texts) -> Iterator[Other]:
    # Every row with every column; without a header only source.columns says what the columns of a CSV file are.
    whole = {"where": None, "prepare": None, "limit": None} | ({"columns": None} if section.header else {})
    planned, shards = source.plan(section.model_copy(update=whole), texts=list(texts.roles.values()))
    named: dict[str, list[Shard]] = {}
    for shard in shards:
        if shard.format != "parquet":
            named.setdefault(section.dataset or section.table or shard.file, []).append(shard)
    for name, mine in named.items():
        yield Other(name, (type(section).__name__, name), texts, planned, mine)
