"""Datasets of the Hub, or local dataset folders, streamed through the `datasets` client.

One shard is one shard of the streamed dataset (for most datasets one data file); its version is the pinned commit, or
for a local folder the sizes and modification times of its files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import datasets
import pyarrow as pa
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from jobs.source import types
from jobs.source.kind import Found, check_columns
from jobs.source.shard import BadRow, Shard
from jobs.spec import SourceSpec
from transforms.errors import SourceError, SpecError


def pin(spec: SourceSpec) -> SourceSpec:
    """The section with the revision pinned to a commit; a local folder has none.

    Raises:
        SpecError: no such dataset.
    """
    return spec if _folder(spec) is not None else spec.model_copy(update={"revision": _commit(spec)})


def plan(spec: SourceSpec, sink: str | None, texts: Collection[str], pinned: Mapping[str, pa.DataType]) -> Found:
    """List the shards of the streamed split.

    Raises:
        SpecError: no such configuration, split or column.
    """
    assert spec.dataset is not None
    folder = _folder(spec)
    version = _folder_version(folder) if folder is not None else str(spec.revision)
    stream = _open(spec)
    features = stream.features or stream._resolve_features().features
    if features is None:
        raise SpecError(f"source.dataset {spec.dataset!r} is empty")
    schema = features.arrow_schema.remove_metadata()
    check_columns(spec, schema.names, f"{spec.dataset}/{spec.split}")
    if spec.columns is not None:
        schema = pa.schema([schema.field(name) for name in spec.columns])
    schema = types.with_types(schema, spec)
    key = f"{spec.config or 'default'}/{spec.split}/{spec.dataset.rstrip('/').rsplit('/', 1)[-1]}"
    shards = [Shard(spec.dataset, key, version, "dataset", i, i + 1) for i in range(stream.num_shards)]
    return Found(schema, (), shards)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """Stream one shard of the dataset as record batches."""
    stream = _open(spec)
    part = stream.shard(stream.num_shards, shard.start)
    if spec.columns is not None:
        part = part.select_columns(spec.columns)
    try:
        for table in part.with_format("arrow").iter(batch_rows):
            yield from table.to_batches()
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(f"{shard.file} could not be read as a dataset: {error}") from error


def _folder(spec: SourceSpec) -> Path | None:
    """The local folder of a dataset, or None for one on the Hub."""
    folder = Path(str(spec.dataset))
    return folder if folder.is_dir() else None


def _open(spec: SourceSpec) -> datasets.IterableDataset:
    """The streamed split, by whichever way the folder or repository was written."""
    assert spec.dataset is not None
    if (folder := Path(spec.dataset)).is_dir() and _saved_by_datasets(folder):
        saved = datasets.load_from_disk(spec.dataset)
        if isinstance(saved, datasets.DatasetDict):
            if spec.split not in saved:
                raise SpecError(f"source.split is {spec.split!r}; splits of {spec.dataset}: {', '.join(saved)}")
            saved = saved[spec.split]
        return saved.to_iterable_dataset(num_shards=max(1, len(saved.cache_files)))
    try:
        return datasets.load_dataset(
            spec.dataset, spec.config, split=spec.split, revision=spec.revision, streaming=True
        )
    except (ValueError, FileNotFoundError, ConnectionError) as error:
        raise SpecError(f"source.dataset {spec.dataset!r} cannot be opened: {str(error).splitlines()[0]}") from error


def _saved_by_datasets(folder: Path) -> bool:
    return (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()


def _commit(spec: SourceSpec) -> str:
    try:
        return str(HfApi().dataset_info(str(spec.dataset), revision=spec.revision).sha)
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, ValueError) as error:
        complaint = str(error).splitlines()[0]
        raise SpecError(
            f"source.dataset {spec.dataset!r} is no folder here and the Hub does not give it: {complaint}"
        ) from error


def _folder_version(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [f"{file.relative_to(folder)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.blake2b("\n".join(stats).encode(), digest_size=12).hexdigest()
