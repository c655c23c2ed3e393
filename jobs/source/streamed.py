"""Datasets that the `datasets` library reads: local folders, and those of the Hub in formats that only it reads.

Where the library makes one shard of each file of a Hub dataset, the shard is that file and its version the file's blob.
Otherwise a shard is a shard of the stream, and its version is the commit, or for a local folder the sizes and
modification times of its files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from jobs.hub import files, tree
from jobs.hub.tree import Tree
from jobs.source import dataset, labels, splits, types
from jobs.source.formats.cells import checked, plain_schema
from jobs.source.kind import Found, check_columns
from jobs.source.shard import BadRow, Shard
from jobs.source.splits import Split
from jobs.source.urls import open_url, reason, shown
from jobs.spec import SourceSpec
from transforms.errors import NightscribeError, SourceError, SpecError
from transforms.options import column_of

# The library opens files by URL; with this protocol it reads them through `jobs.hub`.
fsspec.register_implementation(files.PROTOCOL, files.HubFiles, clobber=True)

# It would report each load to a fixed address of the public Hub, whatever HF_ENDPOINT says.
datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False


def plan(spec: SourceSpec, split: Split, listed: Tree) -> Found:
    """The shards of a Hub dataset.

    Args:
        spec: the section, pinned.
        split: what it names.
        listed: all files at its commit.

    Raises:
        SpecError: no such column, or the library cannot read it.
    """
    stream = _opened(spec, split, split.files) if _is_by_file(split) else _of_hub(spec)
    schema, named = _columns(spec, stream)
    if _is_by_file(split):
        if stream.num_shards == len(split.files):
            return Found(schema, (), [_shard(split, listed, path) for path in split.files], labels=named)
        stream = _of_hub(spec)
    key = f"{spec.config or 'default'}/{spec.split}/{listed.repository.rsplit('/', 1)[-1]}"
    version = listed.commit
    if spec.data_files is not None:
        version = f"{version}-{_hash(json.dumps(spec.data_files, sort_keys=True))}"
    return Found(schema, (), _shards(listed.repository, key, version, stream), labels=named)


def plan_folder(spec: SourceSpec, folder: Path, sink: str | None) -> Found:
    """The shards of a local folder.

    Raises:
        SpecError: no such configuration, split or column; the sink lies in the folder.
    """
    if sink is not None:
        _check_sink(folder, sink)
    stream = _of_folder(spec, folder)
    schema, named = _columns(spec, stream)
    assert spec.dataset is not None
    key = f"{spec.config or 'default'}/{spec.split}/{spec.dataset.rstrip('/').rsplit('/', 1)[-1]}"
    return Found(schema, (), _shards(spec.dataset, key, _folder_version(folder), stream), labels=named)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a shard.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        part = _part(spec, shard)
        if spec.columns is not None:
            part = part.select_columns(spec.columns)
        for table in part.with_format("arrow").iter(batch_rows):
            for batch in table.to_batches():
                yield from checked(batch, schema, None)
    except NightscribeError:
        raise
    except Exception as error:
        # The library raises its own errors, and those of its readers and of the network.
        place = shard.file if shard.file.startswith("hf://") else f"split {spec.split!r}, shard {shard.start}"
        raise SourceError(f"dataset {spec.dataset}, {place} could not be read: {reason(error)}") from error


def _part(spec: SourceSpec, shard: Shard) -> datasets.IterableDataset:
    """The stream of one shard."""
    local = dataset.folder(spec)
    if shard.file.startswith("hf://"):
        assert spec.dataset is not None
        assert spec.revision is not None
        return _opened(spec, splits.find(spec, tree.listing(spec.dataset, spec.revision)), [shard.key])
    stream = _of_hub(spec) if local is None else _of_folder(spec, local)
    return stream.shard(stream.num_shards, shard.start)


def _columns(spec: SourceSpec, stream: datasets.IterableDataset) -> tuple[pa.Schema, dict[str, list[str]]]:
    """The columns of a stream, and the labels among them."""
    try:
        features = stream.features or stream._resolve_features().features
    except NightscribeError:
        raise
    except Exception as error:
        raise _closed(spec, error) from error
    if features is None:
        raise SpecError(f"source.dataset {spec.dataset!r} has no rows; give another dataset or split")
    schema = plain_schema(features.arrow_schema)
    check_columns(spec, schema.names, f"{spec.dataset}/{spec.split}")
    if spec.columns is not None:
        schema = pa.schema([schema.field(name) for name in spec.columns])
    named = labels.of_features(features.to_dict())
    return types.with_types(schema, spec), {
        path: names for path, names in named.items() if column_of(path, schema.names) in schema.names
    }


def _opened(spec: SourceSpec, split: Split, paths: Sequence[str]) -> datasets.IterableDataset:
    """Files of a Hub dataset as a stream, read through `jobs.hub`."""
    urls = [f"{files.PROTOCOL}://{spec.dataset}@{spec.revision}/{path}" for path in paths]
    features = None if split.features is None else datasets.Features.from_dict(dict(split.features))
    try:
        return datasets.load_dataset(
            split.builder,
            data_files={spec.split: urls},
            split=spec.split,
            streaming=True,
            features=features,
            **split.parameters,
        )
    except NightscribeError:
        raise
    except Exception as error:
        raise _closed(spec, error) from error


def _of_hub(spec: SourceSpec) -> datasets.IterableDataset:
    """The split as the library opens it, which asks the Hub for everything again."""
    return _loaded(spec, str(spec.dataset))


def _of_folder(spec: SourceSpec, folder: Path) -> datasets.IterableDataset:
    """The split of a local folder, in each way in which it can be written."""
    if not _saved_by_datasets(folder):
        return _loaded(spec, str(folder))
    if spec.data_files is not None:
        raise SpecError(
            f"source.data_files does not apply to {spec.dataset!r}, which `datasets` has saved; remove it, or give the "
            f"files as source.path"
        )
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise _closed(spec, error) from error
    if isinstance(saved, datasets.DatasetDict):
        if spec.split not in saved:
            raise SpecError(f"source.split is {spec.split!r}; splits of {spec.dataset}: {', '.join(saved)}")
        saved = saved[spec.split]
    return saved.to_iterable_dataset(num_shards=max(1, len(saved.cache_files)))


def _loaded(spec: SourceSpec, name: str) -> datasets.IterableDataset:
    try:
        return datasets.load_dataset(
            name, spec.config, split=spec.split, revision=spec.revision, data_files=spec.data_files, streaming=True
        )
    except Exception as error:
        raise _closed(spec, error) from error


def _closed(spec: SourceSpec, error: Exception) -> SpecError:
    return SpecError(f"source.dataset {spec.dataset!r} cannot be opened: {reason(error)}")


def _is_by_file(split: Split) -> bool:
    """Whether the library can be given the files of a split one by one."""
    is_folder = split.builder.endswith("folder") or split.builder in ("webdataset", "cache")
    return bool(split.files) and split.is_plain and not is_folder and not any(".zip" in path for path in split.files)


def _shard(split: Split, listed: Tree, path: str) -> Shard:
    version = listed.files[path].id
    if split.parameters:
        version = f"{version}-{_hash(json.dumps(dict(split.parameters), sort_keys=True))}"
    return Shard(f"{listed.url}/{path}", path, version, dataset.STREAMED, 0, 1)


def _shards(file: str, key: str, version: str, stream: datasets.IterableDataset) -> list[Shard]:
    return [Shard(file, key, version, dataset.STREAMED, i, i + 1) for i in range(stream.num_shards)]


def _saved_by_datasets(folder: Path) -> bool:
    return (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()


def _check_sink(folder: Path, sink: str) -> None:
    """Refuse a job that would read what it writes.

    Raises:
        SpecError: the sink lies in the folder of the dataset, or the folder in the sink.
    """
    fs, path = open_url(sink)
    if not isinstance(fs, LocalFileSystem):
        return
    inner, outer = Path(path).resolve(), folder.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise SpecError(
            f"sink.path {shown(sink)!r} and source.dataset {str(folder)!r} lie inside each other, so the next run "
            f"would read what this one wrote; point sink.path to a folder beside the dataset"
        )


def _folder_version(folder: Path) -> str:
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [f"{file.relative_to(folder)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in found]
    return _hash("\n".join(stats))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
