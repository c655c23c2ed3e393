"""The dataset card, README.md of the repository: its front matter for `load_dataset`, and a section about the rows.

Everything else in it belongs to people and stays: text outside of the section's two marks, and keys of the front
matter that are not written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import datasets
import pyarrow as pa
import yaml
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import CardData, DatasetCard

from jobs.plan import Plan
from jobs.report.shown import adapters, count
from jobs.sink.part import readable
from jobs.sink.published import Published
from jobs.sink.repository import CARD, Mirror
from jobs.source.urls import shown
from jobs.spec.sink import DEFAULT_CONFIG
from transforms.errors import SpecError, UnreadableSink

TAG = "nightscribe"


def check_columns(schema: pa.Schema) -> None:
    """Refuse columns that `load_dataset` cannot read.

    Raises:
        SpecError: with the columns, their types and the fix.
    """
    wrong = []
    for column in readable(schema):
        try:
            datasets.Features.from_arrow_schema(pa.schema([column]))
        except ValueError:
            wrong.append(f"{column.name!r} ({column.type})")
    if wrong:
        raise SpecError(
            f"sink.dataset: the `datasets` library cannot read {', '.join(wrong)}; leave such columns out with "
            f"source.columns, convert them with source.prepare, or write to a folder: sink.path without sink.dataset"
        )


def check(text: str | None, schema: pa.Schema, mirror: Mirror) -> None:
    """Refuse a card that cannot be completed, before anything is enriched.

    Args:
        text: the card as it is; None if there is none.
        schema: columns of the rows.
        mirror: the repository.

    Raises:
        SpecError: a person gave the split other files, or another split of the configuration has other columns.
        UnreadableSink: its front matter cannot be read.
    """
    data = _read(text, mirror).data
    with _explained(mirror):
        configs = MetadataConfigs.from_dataset_card_data(data)
        info = DatasetInfosDict.from_dataset_card_data(data).get(mirror.config)
    for entry in configs.get(mirror.config, {}).get("data_files") or ():
        if isinstance(entry, dict) and entry["split"] == mirror.split and entry["path"] != pattern(mirror):
            raise SpecError(
                f"the card of {mirror.repository.url} gives the split {mirror.split!r} of {mirror.config!r} the files "
                f"{entry['path']!r}, which this job does not write; choose another sink.config or sink.split"
            )
    others = [] if info is None or info.splits is None else [name for name in info.splits if name != mirror.split]
    if others and info is not None and info.features is not None and info.features != _features(schema):
        raise SpecError(
            f"the configuration {mirror.config!r} of {mirror.repository.url} has the columns "
            f"{', '.join(info.features)} in the split {others[0]!r}, and this job writes {', '.join(schema.names)}, or "
            f"other types of them; give this job its own sink.config"
        )


def has_section(text: str | None, mirror: Mirror) -> bool:
    """Whether the card has the section about the rows of a split."""
    return text is not None and _section(mirror).search(text) is not None


def updated(text: str | None, plan: Plan, now: Published, mirror: Mirror) -> str:
    """The card with the front matter and the section of one split brought up to date.

    Args:
        text: the card as it is; None if there is none.
        plan: the run that publishes.
        now: the files that the commit leaves.
        mirror: the repository.

    Raises:
        UnreadableSink: its front matter cannot be read.
    """
    found = _read(text, mirror)
    data = found.data
    with _explained(mirror):
        _set_configs(data, now, mirror)
        _set_info(data, plan.schema, now, mirror)
    data["tags"] = [*dict.fromkeys([*(data.get("tags") or []), TAG])]
    if (name := _source_dataset(plan)) is not None:
        data["source_datasets"] = [*dict.fromkeys([*(data.get("source_datasets") or []), name])]
    body = found.text
    section = f"{_marks(mirror)[0]}\n{_about(plan, now, mirror)}\n{_marks(mirror)[1]}"
    if has_section(body, mirror):
        body = _section(mirror).sub(lambda _: section, body)
    else:
        body = f"{body.rstrip()}\n\n{section}\n" if body.strip() else f"\n# {mirror.repository.name}\n\n{section}\n"
    return f"---\n{data.to_yaml()}\n---\n{body}"


def pattern(mirror: Mirror) -> str:
    """The glob of the part files in the repository."""
    return f"{mirror.folder}/**/*.parquet"


def _read(text: str | None, mirror: Mirror) -> DatasetCard:
    text = text or ""
    has_front_matter = re.match(r"\s*---[ \t]*\r?\n", text)
    with _explained(mirror):
        return DatasetCard(text if has_front_matter else f"---\n{{}}\n---\n{text}")


@contextmanager
def _explained(mirror: Mirror) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:120]
        raise UnreadableSink(
            f"the front matter of {mirror.repository.url}/blob/main/{CARD} cannot be read ({said}); correct it there"
        ) from error


def _set_configs(data: CardData, now: Published, mirror: Mirror) -> None:
    configs = MetadataConfigs.from_dataset_card_data(data)
    config = configs.get(mirror.config, {})
    files = config.get("data_files") or []
    # A person may have written a glob or a list of them, which is the split train.
    files = [{"split": "train", "path": files}] if isinstance(files, str) else files
    files = [each for each in files if not isinstance(each, dict) or each["split"] != mirror.split]
    if now.files:
        files = [*files, {"split": mirror.split, "path": pattern(mirror)}]
    if files:
        MetadataConfigs({mirror.config: {**config, "data_files": files}}).to_dataset_card_data(data)
    elif mirror.config in configs:
        data["configs"] = [each for each in data["configs"] if each["config_name"] != mirror.config]


def _set_info(data: CardData, schema: pa.Schema, now: Published, mirror: Mirror) -> None:
    """Columns and number of rows, which `load_dataset` compares with what it reads."""
    found = data.get("dataset_info") or []
    # One configuration may stand without a list, and the default one without its name.
    infos = {info.get("config_name", DEFAULT_CONFIG): info for info in ([found] if isinstance(found, dict) else found)}
    info = infos.get(mirror.config, {})
    splits = [split for split in info.get("splits") or [] if split["name"] != mirror.split]
    if now.files:
        rows = sum(file.entry.rows_out for file in now.files.values())
        size = sum(file.uncompressed for file in now.files.values())
        splits.append({"name": mirror.split, "num_bytes": size, "num_examples": rows})
    sizes = ("download_size", "dataset_size")
    info = {key: value for key, value in info.items() if key not in sizes}
    infos[mirror.config] = info | {"features": _features(schema)._to_yaml_list(), "splits": splits}
    data["dataset_info"] = [{"config_name": name} | infos[name] for name in sorted(infos)]


def _features(schema: pa.Schema) -> datasets.Features:
    return datasets.Features.from_arrow_schema(readable(schema).remove_metadata())


def _source_dataset(plan: Plan) -> str | None:
    """The dataset of the Hub that the rows were read from; None for files and local folders."""
    return plan.spec.source.dataset if plan.source.spec.revision is not None else None


def _marks(mirror: Mirror) -> tuple[str, str]:
    place = f"{mirror.config}/{mirror.split}"
    return (
        f"<!-- nightscribe {place}: written by each run -->",
        f"<!-- nightscribe {place}: end -->",
    )


def _section(mirror: Mirror) -> re.Pattern[str]:
    place = re.escape(f"{mirror.config}/{mirror.split}")
    return re.compile(
        rf"<!-- nightscribe {place}: written by each run -->.*?<!-- nightscribe {place}: end -->", re.DOTALL
    )


def _about(plan: Plan, now: Published, mirror: Mirror) -> str:
    """The section about the rows of a split, as Markdown."""
    entries = [file.entry for file in now.files.values()]
    rows, rejected = sum(e.rows_out for e in entries), sum(e.rows_rejected for e in entries)
    added = {task.spec.into: task for task in plan.tasks}
    columns = [("column", "type", "from")]
    for field in plan.schema:
        task = added.get(field.name)
        columns.append((f"`{field.name}`", f"`{field.type}`", "source" if task is None else task.spec.task))
    return "\n".join(
        [
            f"## Configuration `{mirror.config}`, split `{mirror.split}`",
            "",
            f"{count(rows, 'row')} in {count(len(entries), 'file')}, {rejected:,} rejected.",
            "",
            "```python",
            "from datasets import load_dataset",
            "",
            f'rows = load_dataset("{mirror.repository.name}", "{mirror.config}", split="{mirror.split}")',
            "```",
            "",
            *_table(columns),
            "",
            *_table([("written by", "nightscribe"), *_provenance(plan)]),
        ]
    )


def _provenance(plan: Plan) -> list[tuple[str, str]]:
    spec = plan.source.spec
    paths = spec.path if isinstance(spec.path, list) else [str(spec.path or spec.table or spec.dataset)]
    source = ", ".join(map(shown, paths))
    rows = [("job", plan.spec.name), ("source", f"`{source}`")]
    if spec.table is not None:
        rows.append(("version of the table", f"`{spec.version}`"))
    if spec.revision is not None:
        rows.append(("commit of the source", f"`{spec.revision}`"))
    for task in plan.tasks:
        pins = [("model", task.model), ("adapter", task.adapter)]
        named = [f"{what} `{pin.name}` at `{pin.commit}`" for what, pin in pins if pin is not None]
        if task.adapters:
            named.append(adapters(f"`{task.spec.adapter_column}`", task.to_json()["adapters"]))
        if task.first is not None and task.is_cascade:
            small = [("model", task.first.model), ("adapter", task.first.adapter)]
            named += [f"first {what} `{pin.name}` at `{pin.commit}`" for what, pin in small if pin is not None]
            named.append(f"whose answers are taken from confidence {task.first.threshold:.4g} on")
        rows.append((f"{task.spec.task} into `{task.spec.into}`", ", ".join(named) or "no model"))
    return [*rows, ("run", f"`{plan.run_id}`"), ("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return [f"| {head} |", "|" + " --- |" * len(rows[0]), *(f"| {row} |" for row in body)]
