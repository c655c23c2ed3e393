"""A plan opens only the source files that no earlier run has read, and does without what is kept of them."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.source import lake
from jobs.store import names
from tests import lake as lakes


@pytest.fixture
def opened(monkeypatch):
    """The files that plans read, by key."""
    found = []
    layout = lake.layout

    def counted(file, section):
        found.append(file.key)
        return layout(file, section)

    monkeypatch.setattr(lake, "layout", counted)
    return found


def job(root, **source):
    tasks = [{"task": "noop", "column": "text", "into": "nothing"}]
    section = {"path": str(root / "in")} | source
    return {"name": "night", "source": section, "tasks": tasks, "sink": {"path": str(root / "out")}}


def write_csv(root, name, rows=2):
    (root / "in").mkdir(exist_ok=True)
    (root / "in" / name).write_text("\n".join(["id;text", *(f"{i};text {i}" for i in range(rows))]) + "\n")


def night(content):
    with run.holding(planning.make(spec.parse(content))) as held:
        for shard in held.plan.shards_todo:
            shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
        run.finish(held)


def planned(content):
    """The shards and the schema of a plan in a new process."""
    plan = planning.make(spec.parse(content))
    return plan.shards, plan.source.file_schema


def test_only_files_that_are_new_or_changed_are_opened(tmp_path, noop_task, opened):
    for name in ("a.csv", "b.csv", "gone.csv"):
        write_csv(tmp_path, name)
    night(job(tmp_path))
    assert sorted(opened) == ["a.csv", "b.csv", "gone.csv"]
    opened.clear()
    write_csv(tmp_path, "b.csv", rows=3)
    write_csv(tmp_path, "new.csv")
    (tmp_path / "in/gone.csv").unlink()
    planned(job(tmp_path))
    planned(job(tmp_path))
    assert sorted(opened) == ["b.csv", "b.csv", "new.csv", "new.csv"]
    opened.clear()
    night(job(tmp_path))
    assert sorted(opened) == ["b.csv", "new.csv"]
    opened.clear()
    night(job(tmp_path))
    assert opened == []
    kept = "".join(file.read_text() for file in (tmp_path / "out" / names.LAYOUTS).iterdir())
    assert ("gone.csv" in kept, kept.count('"schema"')) == (False, 4)


def test_another_dialect_or_other_columns_read_the_files_again(tmp_path, noop_task, opened):
    write_csv(tmp_path, "a.csv")
    night(job(tmp_path))
    for changed in ({"delimiter": ";"}, {"columns": ["text"]}):
        opened.clear()
        planned(job(tmp_path, **changed))
        assert opened == ["a.csv"]


def damaged(content):
    """Each line cut, of another kind, without each of its keys, and with another kind of value for each."""
    lines = content.splitlines()
    yield from (b"", b"{", b"\xff", content[: len(content) // 2])
    for i, line in enumerate(lines):
        data = json.loads(line)
        for key in data:
            for found in ({k: v for k, v in data.items() if k != key}, data | {key: [1]}, data | {key: "x"}, []):
                yield b"\n".join([*lines[:i], json.dumps(found).encode(), *lines[i + 1 :], b""])


def test_damaged_layouts_are_read_from_the_files(tmp_path, noop_task, monkeypatch):
    monkeypatch.setattr("jobs.source.formats.parquet.SHARD_ROWS", 2)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        pq.write_table(lakes.rows(6), tmp_path / f"in/{name}.parquet", row_group_size=2)
    night(job(tmp_path))
    want = planned(job(tmp_path))
    assert len(want[0]) == 6
    (file,) = (tmp_path / "out" / names.LAYOUTS).iterdir()
    whole = file.read_bytes()
    for content in damaged(whole):
        file.write_bytes(content)
        assert planned(job(tmp_path)) == want
    file.write_bytes(b"{")
    night(job(tmp_path))
    assert planned(job(tmp_path)) == want
