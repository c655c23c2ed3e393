"""The type of each column over all files of a source.

Parquet, Arrow files and datasets declare their types. A CSV does not: its types are guessed from its head. The type
of a column is, in this order:

1. what `source.types` says;
2. what the description of a dataset states;
3. text, where a task reads it as text and no file declares another type;
4. what the files declare, widened where that loses nothing;
5. what was pinned when the source was first planned, so that a later file does not change the type of finished rows;
6. what all heads agree on, else text.

JSON lines declare nothing that another file declares otherwise: their values have to fit, and go into text as JSON. A
JSON key that is of several kinds is JSON text, unless a task reads a field of its objects.

A value that does not fit its column's type is a rejected row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow as pa

from jobs.source import type_names
from jobs.source.files import File
from jobs.source.formats import cells, json_merge
from jobs.source.formats.json_marks import any_text, is_any, unmarked
from jobs.source.shard import Layout
from jobs.spec import SourceSpec
from transforms.errors import SpecError, UnreadableSource


@dataclass(frozen=True)
class Found:
    """The type of a column in one file.

    Attributes:
        file: URL of the file.
        format: parquet, csv, jsonl or arrow.
        field: as declared, or as guessed from the head of the file.
    """

    file: str
    format: str
    field: pa.Field

    @property
    def type(self) -> pa.DataType:
        """The column's type."""
        return self.field.type

    @property
    def is_guess(self) -> bool:
        """Whether the file does not declare the type."""
        return self.format == "csv" or pa.types.is_null(self.type) or is_any(self.field)


def unify(
    files: Sequence[File],
    layouts: Sequence[Layout],
    types: Mapping[str, pa.DataType],
    pinned: Mapping[str, pa.DataType],
    texts: Collection[str],
    columns: Sequence[str] | None,
    stated: Mapping[str, pa.DataType],
) -> tuple[pa.Schema, dict[str, pa.DataType]]:
    """One schema for all files.

    Args:
        files: the files of the source.
        layouts: the layout of each.
        types: column -> type, from `source.types`.
        pinned: column -> type when the source was first planned; empty at the first plan.
        texts: columns, or `struct.field`s, that tasks read as text.
        columns: the columns that are wanted; None for all.
        stated: column -> type that the description of a dataset states.

    Returns:
        The columns in the order first seen, each with one type; and the types that CSV files have to be read with,
        although their text need not print back identically: those of `types`, those that are stated, and those that
        other files declare.

    Raises:
        UnreadableSource: two files declare types without a common type.
        SpecError: `types` names a column that does not exist, or a type that the files do not convert to without loss.
    """
    found: dict[str, list[Found]] = {}
    # Of files with equal columns the first speaks for all: thousands of files mostly have one schema.
    seen: set[tuple[str, bytes]] = set()
    seen_ids: set[tuple[str, int]] = set()
    for file, layout in zip(files, layouts, strict=True):
        # Known layouts share one object, which need not be serialized 100,000 times.
        if (short := (file.format, id(layout.schema))) in seen_ids:
            continue
        seen_ids.add(short)
        if (kind := (file.format, layout.schema.serialize().to_pybytes())) in seen:
            continue
        seen.add(kind)
        for field in layout.schema:
            found.setdefault(field.name, []).append(Found(file.url, file.format, field))
    for name in types:
        if name not in found:
            raise SpecError(f"source.types: {name!r} is not in the files; columns: {', '.join(found)}")
    fields: list[pa.Field] = []
    said: dict[str, pa.DataType] = {}
    for name, there in found.items():
        if columns is not None and name not in columns:
            continue
        there = _with_json_merged(name, there, texts)
        type_ = _decide(name, there, types.get(name), pinned.get(name), texts)
        declared = not all(one.is_guess for one in there)
        if name not in types and name in stated and all(_has_cast(_cells(one), stated[name]) for one in there):
            type_, declared = stated[name], True
        fields.append(_as_json_reads(pa.field(name, type_), there))
        if name in types or (declared and any(one.format == "csv" and one.type != type_ for one in there)):
            said[name] = type_
    return pa.schema(fields), said


def with_types(schema: pa.Schema, spec: SourceSpec) -> pa.Schema:
    """The columns of a dataset or table with the types of `source.types`.

    Raises:
        SpecError: it names a column that does not exist, or a type that a column does not convert to without loss.
    """
    place = str(spec.dataset or spec.table)
    for name, type_ in type_names.parse(spec.types).items():
        if name not in schema.names:
            raise SpecError(f"source.types: {name!r} is not in {place}; columns: {', '.join(schema.names)}")
        check_cast(name, schema.field(name).type, type_, place)
        schema = schema.set(schema.get_field_index(name), pa.field(name, type_))
    return schema


def as_tasks_see(schema: pa.Schema) -> pa.Schema:
    """The schema without the metadata for the reader of JSON lines."""
    return pa.schema([unmarked(field) for field in schema], schema.metadata)


def check_cast(name: str, found: pa.DataType, wanted: pa.DataType, place: str) -> None:
    """Refuse a type of `source.types` that a declared type does not convert to without loss.

    Raises:
        SpecError: naming both types.
    """
    if not is_lossless(found, wanted):
        raise SpecError(
            f"source.types: {name!r} is {found} in {place}, which does not convert to {wanted} without loss; "
            f"remove it from source.types, or convert it in source.prepare"
        )


def is_lossless(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of one type has an equal value of the other."""
    if found == wanted or pa.types.is_null(found):
        return True
    if pa.types.is_dictionary(found):
        return is_lossless(found.value_type, wanted)
    if _is_text(wanted):
        return _is_text(found) or pa.types.is_integer(found) or pa.types.is_boolean(found)
    if pa.types.is_integer(found) and pa.types.is_decimal(wanted):
        return wanted.precision - wanted.scale >= len(str(2**found.bit_width))
    if pa.types.is_date32(found) and pa.types.is_timestamp(wanted):
        return wanted.tz is None
    if pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted):
        if (found.tz is None) != (wanted.tz is None):
            return False
        # The same moment in another time zone.
        found = pa.timestamp(found.unit, wanted.tz)
    try:
        both = pa.unify_schemas([pa.schema([("a", found)]), pa.schema([("a", wanted)])], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    widest = {pa.float32(): 24, pa.float64(): 53}.get(wanted)
    if widest is not None and pa.types.is_integer(found):
        return bool(found.bit_width <= widest)
    return bool(both.field("a").type == wanted)


def _cells(one: Found) -> pa.DataType:
    """The type that the values of a file are converted from."""
    return pa.string() if one.format == "csv" and pa.types.is_null(one.type) else one.type


def _has_cast(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type can be converted to another at all; a value that does not fit is a rejected row."""
    try:
        pa.nulls(0, found).cast(wanted)
    except cells.ERRORS:
        return False
    return True


def _decide(
    name: str,
    found: list[Found],
    wanted: pa.DataType | None,
    pinned: pa.DataType | None,
    texts: Collection[str],
) -> pa.DataType:
    if wanted is not None:
        for one in found:
            # JSON lines are converted value by value like CSV.
            if one.format not in ("csv", "jsonl"):
                check_cast(name, one.type, wanted, one.file)
        return wanted
    declared = [one for one in found if not one.is_guess]
    csv = [one for one in found if one.format == "csv"]
    json = next((one for one in found if one.format == "jsonl"), None)
    if pinned is not None and json is not None and all(one.format == "jsonl" for one in declared):
        # Types of JSON keys are inferred from the head of a file, so they do not override those of finished rows.
        json = replace(json, field=json_merge.kept(pa.field(name, pinned), json.field, texts, name))
        declared = [json] if pa.types.is_nested(json.type) else []
        pinned = json.type
    if declared:
        return _declared(name, declared, csv, texts)
    if name in texts:
        return pa.string()
    if pinned is not None and not pa.types.is_null(pinned):
        return pinned
    guesses = {one.type for one in found if not pa.types.is_null(one.type)}
    if not guesses:
        # Empty cells of a CSV file are empty texts.
        return pa.string() if csv else pa.null()
    return guesses.pop() if len(guesses) == 1 else pa.string()


def _declared(name: str, declared: list[Found], csv: list[Found], texts: Collection[str]) -> pa.DataType:
    declared = sorted(declared, key=lambda one: one.format == "jsonl")
    type_ = declared[0].type
    for one in declared[1:]:
        if one.type == type_:
            continue
        try:
            schemas = [pa.schema([(name, _decoded(each))]) for each in (type_, one.type)]
            type_ = pa.unify_schemas(schemas, promote_options="permissive").field(name).type
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            if one.format == "jsonl":
                type_ = _decoded(type_)
                continue
            raise UnreadableSource(
                f"{one.file} does not fit the files before it: column {name!r} is {one.type} there and {type_} in "
                f"{declared[0].file}; {_way_out(name, declared)}leave the column out with source.columns, or the file "
                f"with source.path"
            ) from error
    type_ = _nested_texts(name, type_, texts)
    is_json = declared[0].format == "jsonl" and not json_merge.reads_fields(texts, name)
    if csv and is_json and (pa.types.is_nested(type_) or name in texts):
        return pa.string()
    if csv and name in texts and not _is_text(type_):
        raise UnreadableSource(
            f"{declared[0].file} does not fit the files before it: column {name!r} is {type_} there, and a "
            f"task reads it as text, as in {csv[0].file}; set source.types: {{{name}: string}}"
        )
    if csv and (pa.types.is_nested(type_) or (pa.types.is_dictionary(type_) and not _is_text(type_.value_type))):
        raise UnreadableSource(
            f"{csv[0].file} does not fit the other files: column {name!r} is {type_} in {declared[0].file}, "
            f"which a CSV cannot hold; leave the column out with source.columns, or the file with source.path"
        )
    return type_


def _way_out(name: str, declared: Sequence[Found]) -> str:
    """The beginning of advice: a type that all files convert to without loss; empty if there is none."""
    found = [one.type for one in declared]
    units = ("s", "ms", "us", "ns")
    common = [pa.string(), *(pa.timestamp(unit, zone) for zone in (None, "UTC") for unit in units), *found]
    type_ = next((each for each in common if all(is_lossless(one, each) for one in found)), None)
    if type_ is None:
        return ""
    # A name with a bracket or a comma needs quotes in YAML.
    shown = str(type_) if str(type_).isalnum() else f'"{type_}"'
    return f"name its type, such as source.types: {{{name}: {shown}}}, "


def _decoded(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _nested_texts(path: str, type_: pa.DataType, texts: Collection[str]) -> pa.DataType:
    """The type with fields that were always null as strings where a task reads them as text."""
    if pa.types.is_null(type_) and path in texts:
        return pa.string()
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_nested_texts(f"{path}.{field.name}", field.type, texts)) for field in type_])
    return type_


def _with_json_merged(name: str, found: list[Found], texts: Collection[str]) -> list[Found]:
    """What was found, with one type for all JSON lines."""
    fields = [one.field for one in found if one.format == "jsonl"]
    if not fields:
        return found
    merged = json_merge.with_structs(reduce(json_merge.merge, fields), texts, name)
    return [replace(one, field=merged) if one.format == "jsonl" else one for one in found]


def _as_json_reads(field: pa.Field, found: list[Found]) -> pa.Field:
    """The column, marked where the text of JSON values of any kind goes into it."""
    fields = [one.field for one in found if one.format == "jsonl"]
    if _is_text(field.type) and any(is_any(one) or not pa.types.is_string(one.type) for one in fields):
        return any_text(field.name).with_type(field.type)
    return json_merge.settled(field) if fields and len(fields) == len(found) else field


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))
