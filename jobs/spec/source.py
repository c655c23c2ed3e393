"""`source:` in a job file: where the rows come from."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

import pydantic
from pydantic import Field

from jobs.spec.section import Section
from jobs.spec.table import check_table

Format = Literal["parquet", "csv", "jsonl", "arrow"]

# The dialect of a CSV file; a key that is not given is detected or has the usual default.
DIALECT = ("delimiter", "quote", "escape", "comment", "header", "encoding")
# Key that says what kind of source it is -> keys that need it.
KINDS = {
    "path": ("format",),
    "table": ("version", "timestamp"),
    "dataset": ("config", "revision", "split", "data_files"),
}
EXAMPLES = {"delimiter": '";" or "\\t"', "quote": '"\'"', "escape": r"'\'", "comment": '"#"'}


class SourceSpec(Section):
    """Where the rows come from: files (`path`), a table (`table`), or a Hub or local dataset (`dataset`)."""

    path: str | list[str] | None = Field(None, description="file, folder, glob, list of them, or any fsspec URL")
    format: Format | None = Field(None, description="format of the files; by default from their ending")
    table: str | None = Field(
        None, description="a Delta Lake table, delta://FOLDER or delta://s3://..., or iceberg://catalog/namespace.name"
    )
    version: int | None = Field(
        None,
        description="version of a Delta table, or id of a snapshot of an Iceberg table; by default the newest",
    )
    timestamp: datetime | None = Field(
        None, description="the table as it was at this time; times without a zone are in UTC"
    )
    dataset: str | None = Field(None, description="a Hub dataset org/name, or a local dataset folder")
    config: str | None = Field(None, description="dataset configuration")
    split: str = Field("train", description="dataset split")
    revision: str | None = Field(None, description="dataset branch, tag or commit; pinned when the run is planned")
    data_files: str | list[str] | dict[str, str | list[str]] | None = Field(
        None, description="dataset files: a glob, a list of them, or split -> either; by default as the dataset says"
    )
    columns: list[str] | None = Field(None, min_length=1, description="columns to read; by default all")
    types: dict[str, str] | None = Field(
        None,
        description="column -> Arrow type, e.g. {zip: string, amount: decimal128(10, 2)}; other columns as in the file",
    )
    labels: dict[str, list[str]] | None = Field(
        None,
        description="column of label numbers -> names, e.g. {stars: [bad, good]}; [] keeps the numbers of a dataset's "
        "labels; by default as the dataset names them",
    )
    delimiter: str | None = Field(
        None, description="CSV: separates fields; by default one of , ; | and tab, detected in the file"
    )
    quote: str | None = Field(
        None, description="CSV: encloses a field; by default '\"'; empty for files without quotes"
    )
    escape: str | None = Field(
        None, description="CSV: written before a quote inside a quoted field, if quotes are not doubled"
    )
    comment: str | None = Field(None, description="CSV: lines that begin with this character are skipped")
    header: bool = Field(
        True, description="CSV: whether the first record has the column names; if false, source.columns gives them"
    )
    encoding: str | None = Field(
        None, description="CSV: encoding of the text, such as cp1252; by default UTF-8, or that of the byte order mark"
    )
    where: str | None = Field(None, description="SQL condition that a row must meet, e.g. lang = 'en'")
    prepare: str | None = Field(None, description="module:function that changes the rows, RecordBatch -> RecordBatch")
    limit: int | None = Field(None, gt=0, description="maximum number of rows to enrich, after where and prepare")

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> SourceSpec:
        if len([kind for kind in KINDS if getattr(self, kind) is not None]) != 1:
            raise ValueError(
                "give one of path (files), table (Delta Lake, Iceberg) and dataset (a Hub or local dataset)"
            )
        for kind, keys in KINDS.items():
            wrong = [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]
            if wrong and getattr(self, kind) is None:
                raise ValueError(f"{wrong[0]} needs {kind}, which is not given; remove {wrong[0]}, or set {kind}")
        if self.version is not None and self.timestamp is not None:
            raise ValueError("version and timestamp are both given; remove one of them")
        if (wrong := self.dialect_keys()) and (self.format not in (None, "csv") or self.table is not None):
            raise ValueError(f"{wrong[0]} applies to CSV files only; remove it")
        return self

    @pydantic.field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str | None) -> str | None:
        return check_table(value)

    @pydantic.field_validator("split")
    @classmethod
    def _is_whole_split(cls, value: str) -> str:
        if found := re.search(r"[\[+]", value):
            instead = (
                "give source.split: train and source.limit or source.where for some of its rows"
                if found[0] == "["
                else "give one split, and another job for the other one"
            )
            raise ValueError(f"{value!r} is not the name of one split; {instead}")
        return value

    @pydantic.field_validator("dataset")
    @classmethod
    def _is_only_the_dataset(cls, value: str | None) -> str | None:
        if value is not None and (found := re.fullmatch(r"([\w.-]+/[\w.-]+):(\w+)(\[.*\])?", value)):
            part = ", and source.limit or source.where for some of its rows" if found[3] else ""
            raise ValueError(f"{value!r} names a split; give dataset: {found[1]} and split: {found[2]}{part}")
        return value

    @pydantic.field_validator("labels")
    @classmethod
    def _are_different(cls, value: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        for column, names in (value or {}).items():
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise ValueError(f"names {twice[0]!r} twice for {column!r}; give each label its own name")
        return value

    def dialect_keys(self) -> list[str]:
        """Keys of this section that say how a CSV file is laid out."""
        return [key for key in DIALECT if getattr(self, key) != type(self).model_fields[key].default]

    @pydantic.field_validator("delimiter", "quote", "escape", "comment", mode="before")
    @classmethod
    def _is_one_character(cls, value: object, info: pydantic.ValidationInfo) -> object:
        if value in ("\\t", "tab"):
            return "\t"
        if value == "" and info.field_name == "quote":
            return value
        if value is not None and not (isinstance(value, str) and len(value) == 1 and value.isascii()):
            raise ValueError(
                f"{value!r} is not one ASCII character; write for example {EXAMPLES[str(info.field_name)]}"
            )
        if value in ("\n", "\r", "\0"):
            raise ValueError(f"{value!r} is not allowed here; write for example {EXAMPLES[str(info.field_name)]}")
        return value

    @pydantic.model_validator(mode="after")
    def _characters_differ(self) -> SourceSpec:
        seen: dict[str, str] = {}
        for key in ("delimiter", "quote", "escape", "comment"):
            value = getattr(self, key)
            # An escape that is the quote itself means doubled quotes.
            if value and value in seen and (key, seen[value]) != ("escape", "quote"):
                raise ValueError(f"{key} and {seen[value]} are both {value!r}; they must differ")
            if value:
                seen[value] = key
        return self

    @pydantic.field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                "a".encode(value)
        except LookupError as error:
            raise ValueError(
                f"{value!r} is not a text encoding; write for example utf-16, cp1252 or shift_jis"
            ) from error
        return value
