"""The job that owns a sink, the column types of its source when it was first planned, and those of its tasks."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from pydantic import TypeAdapter

from jobs.source.urls import open_url, shown
from jobs.spec import JobSpec, SourceSpec
from jobs.spec.table import delta_folder
from jobs.store import Store, names
from transforms.errors import SpecError, UnreadableSink, UserError


@dataclass(frozen=True)
class Owner:
    """The job that a sink belongs to.

    Attributes:
        job: its name.
        source: where its rows come from, as absolute paths or URLs without the glob, or a dataset with its split.
        relative: local paths among them relative to the sink, so that both can be moved together.
        types: base64 of the Arrow schema that the source's files were read with; None if unknown.
        taken_over_from: the job that it belonged to before, if it was handed over.
        tasks: base64 of an Arrow schema with the key and column type of each task whose models a run loaded; None if
            unknown.
    """

    job: str
    source: tuple[str, ...]
    relative: tuple[str, ...]
    types: str | None = None
    taken_over_from: str | None = None
    tasks: str | None = None

    @property
    def pinned(self) -> dict[str, pa.DataType]:
        """Column -> the type that it was read with."""
        return _unpacked(self.types)

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """Key of a task, see `task_plans.output_keys` -> type of its column."""
        return _unpacked(self.tasks)


_OWNER = TypeAdapter(Owner)


def read(store: Store) -> Owner | None:
    """The owner of a sink; None for a new sink.

    Raises:
        UnreadableSink: its file is damaged.
    """
    try:
        owner = _OWNER.validate_json(store.get(names.OWNER))
        for schema in (owner.types, owner.tasks):
            _unpacked(schema)
        return owner
    except FileNotFoundError:
        return _last_planned(store)
    except (ValueError, pa.ArrowException) as error:
        raise UnreadableSink(
            f"{store.url}/{names.OWNER} is damaged, so it is unknown which job the sink belongs to; restore the "
            f"file, or delete it if this job is the only one that writes there"
        ) from error


def _last_planned(store: Store) -> Owner | None:
    """The job that was last planned for a sink: version 0.1.0 kept the plans of its runs and no owner."""
    for name in reversed(store.names(names.PLANS)):
        try:
            spec = json.loads(store.get(name))["spec"]
            source = _roots(SourceSpec.model_validate(spec["source"]))
            planned = {"job": spec["name"], "source": source, "relative": _relative(source, store)}
            return _OWNER.validate_python(planned)
        except (ValueError, KeyError, TypeError, FileNotFoundError, UserError):
            continue
    return None


def check(spec: JobSpec, store: Store) -> Owner | None:
    """Refuse a job that writes into the sink of another one.

    Returns:
        The owner of the sink, which is this job; None for a new sink.

    Raises:
        SpecError: the sink belongs to another job, or to this one with another source.
    """
    _refuse_nested(store)
    owner, job = read(store), of(spec, store)
    if owner is None or (owner.job == job.job and _same_source(owner, job)):
        return owner
    if spec.sink.take_over_from == owner.job:
        return None if not _same_source(owner, job) else owner
    own = "sink.path" if spec.sink.dataset is None else "sink.split or sink.config"
    place = f"sink.path {store.url!r}" if spec.sink.dataset is None else f"sink.dataset {spec.sink.shown!r}"
    raise SpecError(
        f"{place} belongs to job {owner.job!r} with the source {_shown(owner)}, and this is job "
        f"{job.job!r} with the source {_shown(job)}; give this job its own {own}, or take the sink over with "
        f"sink.take_over_from={owner.job}: that replaces the rows of files with equal names, and with on_vanished: "
        f"remove it deletes the other rows"
    )


def _refuse_nested(store: Store) -> None:
    """Refuse a folder inside of another sink: readers of that sink would read both.

    Raises:
        SpecError: naming the other sink.
    """
    for folder in Path(os.path.realpath(store.root)).parents if store.local else ():
        if (folder / names.OWNER).is_file():
            raise SpecError(
                f"sink.path {store.url!r} lies inside of {str(folder)!r}, which is another sink; readers of that "
                f"sink would read the rows of both; choose a sink.path beside it"
            )


def record(spec: JobSpec, store: Store, schema: pa.Schema, outputs: pa.Schema | None = None) -> None:
    """Write down the job as the owner, and the types that its files are read with.

    Only the holder of the sink may call this, after `check`.

    Args:
        spec: the job.
        store: its sink.
        schema: columns of the source's files.
        outputs: key and column type of each task whose models were loaded.
    """
    job = of(spec, store)
    before = read(store)
    origin = None if before is None else before.taken_over_from
    if before is not None and before.job != job.job:
        origin = before.job
    tasks = None if outputs is None else _packed(outputs)
    wanted = Owner(job.job, job.source, job.relative, _packed(schema), origin, tasks)
    if before != wanted:
        put(store, wanted)


def put(store: Store, wanted: Owner) -> None:
    """Write down the owner of a sink."""
    store.put(names.OWNER, json.dumps(asdict(wanted), indent=1).encode())


def of(spec: JobSpec, store: Store) -> Owner:
    """A job as the owner of a sink."""
    source = _roots(spec.source)
    return Owner(spec.name, source, _relative(source, store))


def _packed(schema: pa.Schema) -> str:
    """An Arrow schema as base64."""
    return base64.b64encode(schema.remove_metadata().serialize()).decode()


def _unpacked(schema: str | None) -> dict[str, pa.DataType]:
    """Names and types of a schema in base64.

    Raises:
        ValueError, ArrowException: it is damaged.
    """
    if schema is None:
        return {}
    return {field.name: field.type for field in pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))}


def _relative(source: tuple[str, ...], store: Store) -> tuple[str, ...]:
    """The local paths among the roots, relative to the sink; none for a sink elsewhere."""
    if not store.local:
        return ()
    # Both without symbolic links, so that the relative path is the same whichever links lead to the folder.
    return tuple(os.path.relpath(path, os.path.realpath(store.root)) for path in source if os.path.isabs(path))


def _roots(spec: SourceSpec) -> tuple[str, ...]:
    if spec.dataset is not None:
        name = os.path.abspath(spec.dataset) if os.path.isdir(spec.dataset) else spec.dataset
        return (f"{name} {spec.config or 'default'}/{spec.split}",)
    if spec.table is not None:
        folder = delta_folder(spec.table)
        return (spec.table if folder is None else f"delta://{_root(folder)}",)
    paths = [spec.path] if isinstance(spec.path, str) else spec.path or []
    return tuple(sorted({_root(path) for path in paths}))


def _root(path: str) -> str:
    """A path or URL up to its first glob character, absolute and without passwords, which change."""
    fs, inside = open_url(path)
    if not os.path.exists(inside) and (at := [inside.find(c) for c in "*?[" if c in inside]):
        inside = os.path.dirname(inside[: min(at)])
    if isinstance(fs, LocalFileSystem):
        # `file:///data` and `/data` are one folder.
        return os.path.realpath(inside)
    return shown(fs.unstrip_protocol(inside.rstrip("/")))


def _same_source(owner: Owner, job: Owner) -> bool:
    return owner.source == job.source or (bool(owner.relative) and owner.relative == job.relative)


def _shown(owner: Owner) -> str:
    return ", ".join(map(repr, owner.source))
