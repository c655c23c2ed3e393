"""Damaged JSON below `_nightscribe/`: the next run makes up for it, or names the file and the fix in one sentence."""

from __future__ import annotations

import json
import shutil

import pytest

from jobs import cli, run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.report import history
from jobs.report.web import web
from jobs.store import Store
from tests import lake
from transforms.errors import UserError

# What the rows cannot tell: which job owns them, and which of them a killed commit has replaced.
ASKED = {"owner.json", "commit.json"}

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


class Crash(BaseException):
    """As final as SIGKILL: nothing in the product catches it."""


def job(root):
    tasks = [{"task": "noop", "column": "text", "into": "nothing"}]
    content = {"name": "nightly", "source": {"path": str(root / "in")}, "tasks": tasks}
    return content | {"sink": {"path": str(root / "out")}, "errors": {"max_fraction": 1.0}}


def write_csv(root, name):
    (root / "in").mkdir(exist_ok=True)
    rows = [f"{name}-{i},text {i}" for i in range(3)]
    (root / "in" / f"{name}.csv").write_text("\n".join(["id,text", *rows, "bad,text,one more"]) + "\n")


def crash(*_):
    raise Crash


@pytest.fixture
def interrupted(tmp_path, noop_task, run_once, monkeypatch):
    """A sink with every kind of JSON file: two runs, then one that was killed in its commit."""
    for name in ("a", "b"):
        write_csv(tmp_path, name)
        run_once(job(tmp_path))
    write_csv(tmp_path, "c")
    with monkeypatch.context() as patched, run.holding(planning.make(spec.parse(job(tmp_path)))) as held:
        (shard,) = held.plan.shards_todo
        shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
        patched.setattr(Store, "move", crash)
        with pytest.raises(Crash):
            run.finish(held)
    return tmp_path


def damaged(content):
    """A JSON object cut, empty, of another kind, without each of its keys, and with another kind of value for each."""
    yield from (b"", b"{", b"[]", b"null", b"1", b'"text"', b"{}", b"\xff")
    lines = content.splitlines() if content.count(b"\n{") else [content]
    yield from (content[:-1], content[: len(content) // 2], content + b'{"slot": "a')
    for i, line in enumerate(lines):
        data = json.loads(line)
        for key in data:
            for found in ({name: value for name, value in data.items() if name != key}, data | {key: {"a": [1]}}):
                yield b"\n".join([*lines[:i], json.dumps(found).encode(), *lines[i + 1 :], b""])


@pytest.mark.parametrize(
    "name",
    ["owner.json", "commit.json", "lock.json", "ledger/*.jsonl", "staged/ledger/*.jsonl", "plans/*.json"],
)
def test_the_next_run_makes_up_for_a_damaged_file_or_names_it_with_the_fix(interrupted, run_once, name):
    sink = interrupted / "out"
    whole = shutil.copytree(sink, interrupted / "whole")
    file = sorted((sink / "_nightscribe").glob(name))[-1]
    said = []
    for content in damaged(file.read_bytes()):
        shutil.rmtree(sink)
        shutil.copytree(whole, sink)
        file.write_bytes(content)
        try:
            run_once(job(interrupted))
        except UserError as error:
            said.append(str(error))
            file.unlink()
            run_once(job(interrupted))
        assert lake.read(sink)["id"].to_pylist() == [f"{each}-{i}" for each in "abc" for i in range(3)]
        assert len(lake.rejected(sink)) == 3
    assert (len(said) > 8) == (name in ASKED)
    for sentence in said:
        assert f"_nightscribe/{name} is damaged" in sentence
        assert "; restore the file, or delete it" in sentence
        assert "\n" not in sentence


def test_a_report_is_made_of_a_kept_run_or_its_file_is_named(interrupted, run_once):
    store = Store(str(interrupted / "out"))
    file = interrupted / "out/_nightscribe/reports" / f"{history.run_ids(store)[-1]}.json"
    said = []
    for content in damaged(file.read_bytes()):
        file.write_bytes(content)
        try:
            assert web(history.read(store, file.stem), history.before(store, file.stem)).startswith("<!doctype html>")
        except UserError as error:
            said.append(str(error))
        assert run_once(job(interrupted)).status == "finished"
    assert len(said) > 8
    assert all(f"{file.name} is damaged; restore the file, or delete it" in sentence for sentence in said)


@pytest.mark.parametrize("name", ["owner.json", "commit.json"])
def test_a_damaged_file_is_one_line_and_exit_2(interrupted, capsys, name):
    (interrupted / "out/_nightscribe" / name).write_text('["fir')
    file = lake.write_job(interrupted, job(interrupted))
    for command in ("plan", "run"):
        assert cli.main([command, str(file)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err.count(f"/_nightscribe/{name} is damaged")) == ("", 1, 1)
