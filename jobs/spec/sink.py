"""`sink:` in a job file: where the enriched rows go."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from jobs.spec.audit import AuditSpec
from jobs.spec.section import Section
from jobs.spec.table import check_table, delta_folder

DEFAULT_CONFIG, DEFAULT_SPLIT = "default", "train"

# As the `datasets` client has them; a configuration must also be the name of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_CONFIG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SPLIT = re.compile(r"\w+(\.\w+)*", re.ASCII)


class SinkSpec(Section):
    """Where the enriched rows go: a folder (`path`), a table (`table`), or a dataset of the Hub (`dataset`)."""

    # Empty only until it is validated; with a dataset it is the folder in which the rows are before they are published,
    # and with a table the table's location.
    path: str = Field(
        "",
        description="folder or fsspec URL of a folder; of an Iceberg table its location; for a dataset by default in "
        "~/.local/share/nightscribe",
    )
    table: str | None = Field(
        None, description="a Delta Lake table, delta://FOLDER or delta://s3://..., or iceberg://catalog/namespace.name"
    )
    partition_by: list[str] | None = Field(
        None, description="partition columns of a new table; by default those of the source"
    )
    key: list[str] | None = Field(
        None, description="columns that identify a row of the table: rows with the same key are replaced (upsert)"
    )
    mode: Literal["replace", "append"] = Field(
        "replace", description="rows of a changed source file replace its old rows in the table, or are added to them"
    )
    part_mb: int = Field(
        128, gt=0, description="shards of small files share part files of a table up to this size, in MiB"
    )
    dataset: str | None = Field(None, description="Hub dataset org/name; each run publishes its rows in one commit")
    config: str = Field(DEFAULT_CONFIG, description="configuration of the dataset")
    split: str | None = Field(None, description="split of the dataset; by default that of the source")
    private: bool = Field(True, description="whether the dataset is private, if the run has to create it")
    on_vanished: Literal["keep", "remove"] = Field(
        "keep", description="when a source file no longer exists: keep or remove its rows"
    )
    on_model_change: Literal["redo", "keep"] = Field(
        "redo", description="whether finished rows are enriched again when a model, adapter or option changes"
    )
    reuse: Literal["rows", "files"] = Field(
        "rows",
        description="results are taken over for rows that a changed file still has (rows), or for unchanged files only "
        "(files)",
    )
    take_over_from: str | None = Field(
        None, description="name of the job that owns the sink, to make this job the owner"
    )
    allow_fewer_rows: bool = Field(
        False, description="whether the run may remove published rows because of source.where, prepare or limit"
    )

    audit: AuditSpec | None = Field(
        None, description="limits of a night; past one of them its rows are held back until a person publishes them"
    )

    @pydantic.field_validator("dataset")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(f"{value!r} is not a dataset of the Hub; write org/name, or give a folder as sink.path")
        return value

    @pydantic.field_validator("config")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if not _CONFIG.fullmatch(value):
            raise ValueError(f"{value!r} is not a configuration; use letters, digits, and any of . _ -")
        return value

    @pydantic.field_validator("split")
    @classmethod
    def _is_a_split(cls, value: str | None) -> str | None:
        if value is not None and not _SPLIT.fullmatch(value):
            raise ValueError(f"{value!r} is not a split; use letters, digits and _, such as train")
        return value

    @pydantic.model_validator(mode="after")
    def _has_a_place(self) -> SinkSpec:
        if self.dataset is not None and self.table is not None:
            raise ValueError("give either table or dataset, and not both")
        if self.dataset is None and not self.path:
            if self.table is not None:
                raise ValueError("path is missing; give the location of the Iceberg table, a folder or URL")
            raise ValueError(
                "path is missing; give a folder, table: delta://... or iceberg://..., or dataset: org/name for a "
                "dataset of the Hub"
            )
        fields = type(self).model_fields
        only = ("partition_by", "key", "mode", "part_mb")
        if self.table is None and (found := [key for key in only if getattr(self, key) != fields[key].default]):
            raise ValueError(f"{found[0]} needs table, which is not given; remove {found[0]}, or set table")
        wrong = [key for key in ("config", "split", "private") if getattr(self, key) != fields[key].default]
        if self.dataset is None and wrong:
            raise ValueError(f"{wrong[0]} needs dataset, which is not given; remove {wrong[0]}, or set dataset")
        return self

    @pydantic.field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str | None) -> str | None:
        return check_table(value)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _default_path(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        table = content.get("table")
        if isinstance(table, str) and (found := delta_folder(table)):
            if (given := content.get("path")) and given != found:
                raise ValueError(f"path is {given!r}, but the table is at {found!r}; remove path")
            return content | {"path": found}
        if not content.get("dataset") or content.get("path"):
            return content
        config, split = content.get("config") or DEFAULT_CONFIG, content.get("split") or DEFAULT_SPLIT
        return content | {"split": split, "path": str(folder(str(content["dataset"]), str(config), str(split)))}

    @property
    def shown(self) -> str:
        """The place for a person: the folder, the table, or `org/name (default/train) on https://huggingface.co`."""
        if self.table is not None:
            return self.table
        return self.path if self.dataset is None else f"{self.dataset} ({self.config}/{self.split}) on {endpoint()}"


def folder(dataset: str, config: str, split: str) -> Path:
    """The folder of a user's data in which the rows of a dataset are before they are published.

    It is no cache: it has finished rows of a run that was killed, and the reports.
    """
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    names = (re.sub(r"[^A-Za-z0-9._-]+", "--", part) for part in (endpoint(), dataset, config, split))
    return Path(home, "nightscribe", "datasets", *names)


def endpoint() -> str:
    """URL of the Hub as huggingface_hub has it, whose import takes longer than a look at a job file."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
