"""The files of a split of a Hub dataset, and how they are read, as the `datasets` library resolves them.

The library resolves names: it is given a folder with empty files of the same names, and the few files that describe the
dataset. So it asks the Hub for nothing. Its answer is kept by those names and descriptions: new rows in a file of the
same name change neither.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from jobs.hub import blobs, files
from jobs.hub.tree import Tree
from jobs.source import labels
from jobs.source.formats.cells import plain_schema
from jobs.source.urls import reason
from jobs.spec import SourceSpec
from transforms.errors import SpecError

LOG = logging.getLogger(__name__)

# Files that describe a dataset; `datasets` reads them.
DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")


@dataclass(frozen=True)
class Split:
    """One split of one configuration.

    Attributes:
        builder: the reader of `datasets`: parquet, csv, json, arrow, text, ...
        config: name of the configuration.
        files: paths in the repository, in order; empty if they cannot be named (such as files of an archive).
        parameters: those of the reader that are not at their default; a value that is not plain JSON as its repr.
        is_plain: whether all parameters are plain JSON.
        types: base64 of an Arrow schema with the columns that the description of the dataset states.
        features: those that the description states, as `datasets` writes them.
        labels: path of a column with numbers of labels -> their names.
    """

    builder: str
    config: str
    files: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_plain: bool = True
    types: str | None = None
    features: Mapping[str, Any] | None = None
    labels: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """The columns that the description of the dataset states; none if it does not."""
        if self.types is None:
            return pa.schema([])
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.types)))


_SPLIT = TypeAdapter(Split)


def find(spec: SourceSpec, found_tree: Tree) -> Split:
    """The split that a section names.

    Args:
        spec: the section, pinned.
        found_tree: all files at its commit.

    Raises:
        SpecError: no such configuration or split, or the repository has no data files.
    """
    key = _key(spec, found_tree)
    if (known := blobs.get(found_tree.repository, "split", key)) is not None:
        return _SPLIT.validate_json(known)
    found = _resolved(spec, found_tree)
    blobs.put(found_tree.repository, "split", key, json.dumps(asdict(found)).encode())
    return found


def _key(spec: SourceSpec, found_tree: Tree) -> str:
    told = [found_tree.files[name].id for name in DESCRIPTIONS if name in found_tree.files]
    wanted = [spec.config, spec.split, spec.data_files, importlib.metadata.version("datasets")]
    text = json.dumps([wanted, told, list(found_tree.files)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _resolved(spec: SourceSpec, found_tree: Tree) -> Split:
    name = found_tree.repository.rsplit("/", 1)[-1]
    if f"{name}.py" in found_tree.files:
        raise SpecError(
            f"source.dataset {found_tree.repository!r} is a program, {name}.py, which `datasets` no longer runs; "
            f"give a revision with data files, such as source.revision: refs/convert/parquet"
        )
    # Imported here, because it takes most of a second, and most nights find the answer in the cache.
    import datasets

    with tempfile.TemporaryDirectory(prefix="dataset-") as temporary:
        # The name of the folder is that of the dataset for `datasets`.
        folder = Path(temporary).resolve() / name
        for path in found_tree.files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        for path in DESCRIPTIONS:
            if (blob := found_tree.files.get(path)) is not None:
                with files.HubFiles().open(files.path_of(found_tree, blob)) as stream:
                    text = stream.read()
                # About a card without a head the library warns, and reads nothing.
                if path != "README.md" or text.lstrip().startswith(b"---"):
                    (folder / path).write_bytes(text)
        try:
            builder = datasets.load_dataset_builder(
                str(folder), spec.config, data_files=spec.data_files, cache_dir=f"{temporary}/cache"
            )
        except Exception as error:
            # The library raises its own errors, and those of its readers.
            said = reason(error).replace(str(folder), found_tree.repository)
            raise SpecError(f"source.dataset {found_tree.repository!r} cannot be opened: {said}") from error
        return _split(spec, builder, folder)


def _split(spec: SourceSpec, builder: Any, folder: Path) -> Split:
    """What `datasets` has found.

    Raises:
        SpecError: it has no such split.
    """
    found = builder.config.data_files or {}
    if spec.split not in found:
        raise SpecError(
            f"source.split {spec.split!r} is not in {spec.dataset!r}, configuration {builder.config.name!r}; "
            f"splits: {', '.join(map(str, found))}"
        )
    paths = [Path(file) for file in found[spec.split]]
    inside = all(path.is_relative_to(folder) for path in paths)
    parameters = _parameters(builder.config)
    features = builder.info.features
    stated = None if features is None else plain_schema(features.arrow_schema)
    return Split(
        builder=type(builder).__module__.rsplit(".", 1)[-1],
        config=builder.config.name,
        files=tuple(path.relative_to(folder).as_posix() for path in paths) if inside else (),
        parameters={name: value if _is_json(value) else repr(value) for name, value in parameters.items()},
        is_plain=all(map(_is_json, parameters.values())),
        types=None if stated is None else base64.b64encode(stated.serialize()).decode(),
        features=None if features is None else features.to_dict(),
        labels={} if features is None else labels.of_features(features.to_dict()),
    )


def _parameters(config: Any) -> dict[str, Any]:
    """The fields of a configuration that are not at their default, without those that only name it or its files."""
    of_all = {"name", "version", "data_dir", "data_files", "description", "features"}
    default = type(config)()
    values = {each.name: getattr(config, each.name) for each in dataclasses.fields(config) if each.name not in of_all}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
