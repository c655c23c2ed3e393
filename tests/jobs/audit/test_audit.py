"""A night past a limit of `sink.audit` is held back as staged files, until it passes or a person publishes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli, run, spec
from jobs.audit import approve, record
from jobs.report import history, page
from jobs.report.web import web
from jobs.sink import open_sink
from jobs.sink.folder import FolderSink
from jobs.store import Store, names
from tests import lake
from tests.lake import execute
from transforms.errors import HeldBack, RunError, SpecError


class Crash(BaseException):
    """As final as SIGKILL: nothing in the product catches it."""


def write(tmp_path, name, texts, start=0):
    (tmp_path / "in").mkdir(exist_ok=True)
    ids = [f"r{start + i}" for i in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string())}), tmp_path / "in" / f"{name}.parquet")


def usual(n, seed):
    return lake.rows(n, seed=seed)["text"].to_pylist()


def audited(tmp_path, models, **limits):
    content = lake.job(tmp_path / "in", "", models)
    return content | {"sink": {"path": str(tmp_path / "out"), "audit": limits}}


def last_report(tmp_path):
    store = Store(str(tmp_path / "out"))
    return history.read(store, history.run_ids(store)[-1])


@pytest.fixture
def held(tmp_path, models):
    """A job with a usual night that is published, and one of a single repeated text that its audit holds back."""
    content = audited(tmp_path, models, drift=0.5)
    write(tmp_path, "first", usual(200, seed=1))
    assert execute(content).rows_out == 200
    write(tmp_path, "second", ["all the same"] * 200, start=1000)
    with pytest.raises(HeldBack, match=r"^the night is held back: .* moved by .* and sink.audit.drift allows"):
        execute(content)
    return content


def test_a_first_night_has_nothing_to_compare_with_and_is_published(tmp_path, models):
    write(tmp_path, "first", ["all the same"] * 50)
    report = execute(audited(tmp_path, models, drift=0.1, rows=0.1))
    assert report.rows_out == 50
    assert [(each[0], each[3]) for each in page.audited(last_report(tmp_path).numbers)] == [
        ("drift", "not judged"),
        ("rows", "not judged"),
    ]


def test_a_night_that_drifted_is_held_back_and_published_by_a_person(tmp_path, held):
    before = lake.contents(tmp_path / "out")
    assert len(lake.read(tmp_path / "out")) == 200
    kept = last_report(tmp_path)
    assert (kept.numbers["status"], kept.finished, kept.numbers["rows_in"]) == ("held", False, 200)
    assert "held back" in page.markdown(kept, [])
    # It stays held back when it is run again, and nothing is computed again.
    with pytest.raises(HeldBack):
        execute(held)
    assert last_report(tmp_path).numbers["shards_skipped"] == 2
    assert lake.contents(tmp_path / "out") == before
    report = approve.publish(spec.parse(held), "ada", "the shop sells one thing now")
    assert (report.status, report.rows_out, report.attempts) == ("finished", 200, 3)
    assert len(lake.read(tmp_path / "out")) == 400
    assert not list((tmp_path / "out/_nightscribe/staged").rglob("*.*"))
    kept = last_report(tmp_path)
    for shown in (page.markdown(kept, []), web(kept, [])):
        assert "published by ada at 20" in shown
        assert "the shop sells one thing now" in shown
    with pytest.raises(SpecError, match="no night is held back in"):
        approve.publish(spec.parse(held), "ada", "again")
    assert execute(held).rows_in == 0


def test_a_night_is_published_as_it_was_audited_although_the_source_has_changed_since(tmp_path, held):
    write(tmp_path, "second", ["quite another text"] * 150, start=1000)
    write(tmp_path, "third", usual(10, seed=3), start=5000)
    approve.publish(spec.parse(held), "ada", "fine")
    assert len(lake.read(tmp_path / "out")) == 400
    held["sink"]["audit"] = {"drift": 100}
    assert execute(held).rows_out == 160
    assert len(lake.read(tmp_path / "out")) == 360


def test_a_night_whose_source_was_corrected_passes(tmp_path, held):
    write(tmp_path, "second", usual(200, seed=2), start=1000)
    assert execute(held).rows_out == 200
    assert len(lake.read(tmp_path / "out")) == 400
    assert not list((tmp_path / "out/_nightscribe/staged").rglob("*.*"))
    with pytest.raises(SpecError, match="no night is held back in"):
        approve.publish(spec.parse(held), "ada", "too late")


@pytest.mark.parametrize("by_person", [True, False], ids=["publish", "run"])
def test_an_approval_that_was_killed_before_the_commit_counts_for_the_same_rows(tmp_path, held, monkeypatch, by_person):
    def kill(*_):
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(FolderSink, "commit", kill)
        with pytest.raises(Crash):
            approve.publish(spec.parse(held), "ada", "fine")
    assert len(lake.read(tmp_path / "out")) == 200
    if by_person:
        approve.publish(spec.parse(held), "bob", "fine too")
    else:
        execute(held)
    assert len(lake.read(tmp_path / "out")) == 400
    audit = next(record.newest(Store(str(tmp_path / "out"))))
    assert audit.approval.by == ("bob" if by_person else "ada")


def test_an_approval_does_not_count_for_rows_that_came_later(tmp_path, held, monkeypatch):
    def kill(*_):
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(FolderSink, "commit", kill)
        with pytest.raises(Crash):
            approve.publish(spec.parse(held), "ada", "fine")
    write(tmp_path, "third", ["all the same again"] * 100, start=5000)
    with pytest.raises(HeldBack):
        execute(held)
    assert len(lake.read(tmp_path / "out")) == 200


def test_staged_rows_that_are_gone_are_not_published(tmp_path, held):
    for file in (tmp_path / "out" / names.STAGED_FILES).rglob("*.staged"):
        file.unlink()
    with pytest.raises(RunError, match="no longer there as they were audited; run the job again"):
        approve.publish(spec.parse(held), "ada", "fine")


def test_rejected_rows_are_counted_among_the_new_ones(tmp_path, noop_task):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,text\n" + "".join(f"{i},text {i}\n" for i in range(100)))
    content = {
        "name": "nightly",
        "source": {"path": str(tmp_path / "in")},
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(tmp_path / "out"), "audit": {"rejected": 0.1}},
        "errors": {"max_fraction": 1.0},
    }
    execute(content)
    (tmp_path / "in" / "b.csv").write_text("id,text\n1,one\n2,two,more\n3,three\n")
    with pytest.raises(HeldBack, match=r"1 of 3 new rows were rejected, and sink.audit.rejected allows 0.1; nothing"):
        execute(content)


def test_a_task_that_gives_nothing_for_its_texts_is_held_back(tmp_path, models, monkeypatch):
    from jobs.execute import shard as shards

    write(tmp_path, "first", ["one", None, "", "two", "three"])
    content = audited(tmp_path, models, empty=0.5)
    assert execute(content).rows_out == 5
    (found,) = page.audited(last_report(tmp_path).numbers)
    assert found == ("empty", "sentiment is empty in 0 of 3 new rows with an input", "0 of 0.5", "passed")
    annotate = shards.annotate

    def nothing(*arguments):
        done = annotate(*arguments)
        field = done.batch.schema.field("sentiment")
        place = done.batch.schema.get_field_index("sentiment")
        return replace(done, batch=done.batch.set_column(place, field, pa.nulls(len(done.batch), field.type)))

    write(tmp_path, "second", ["four", None, "five"])
    monkeypatch.setattr(shards, "annotate", nothing)
    with pytest.raises(HeldBack, match="sentiment is empty in 2 of 2 new rows with an input"):
        execute(content)


def test_a_night_that_takes_rows_away_is_held_back(tmp_path, models):
    content = audited(tmp_path, models, rows=0.3)
    content["sink"]["on_vanished"] = "remove"
    write(tmp_path, "first", usual(30, seed=1))
    write(tmp_path, "second", usual(30, seed=2))
    execute(content)
    (tmp_path / "in" / "second.parquet").unlink()
    with pytest.raises(HeldBack, match=r"the sink would have 30 rows instead of 60, and sink.audit.rows allows 0.3"):
        execute(content)
    assert len(lake.read(tmp_path / "out")) == 60
    # The night computed no row, and is nevertheless the one that a person wants to see.
    store = Store(str(tmp_path / "out"))
    assert history.read(store, "latest").numbers["status"] == "held"
    approve.publish(spec.parse(content), "ada", "the second file was wrong")
    assert len(lake.read(tmp_path / "out")) == 30
    assert history.read(store, "latest").numbers["rows_removed"] == 30


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"drift": 0}, "sink.audit.drift is 0; input should be greater than 0"),
        ({"rejected": 2}, "sink.audit.rejected is 2; input should be less than or equal to 1"),
        ({"drifts": 1}, "sink.audit.drifts is not a key; did you mean drift?; keys: drift, rejected, empty, rows"),
        ({}, "sink.audit: audit limits nothing; give one or more of drift, rejected, empty, rows"),
    ],
)
def test_a_wrong_limit_is_told_in_a_sentence(tmp_path, models, limits, said):
    with pytest.raises(SpecError, match=r"^job: sink.audit") as raised:
        spec.parse(audited(tmp_path, models, **limits))
    assert said in str(raised.value)


@pytest.mark.usefixtures("settings_of_the_process")
def test_the_commands_end_with_1_for_a_held_night_and_0_for_its_publication(tmp_path, held, capsys):
    job = str(lake.write_job(tmp_path, held))
    assert cli.main(["run", job, "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nightscribe: the night is held back: " in printed.err
    assert cli.main(["publish", job, "--reason", "fine", "--run", "another"]) == 2
    assert "--run is 'another', and the night that is held back in" in capsys.readouterr().err
    assert cli.main(["publish", job, "--reason", " "]) == 2
    assert "--reason is empty" in capsys.readouterr().err
    assert cli.main(["publish", job, "--reason", "fine", "--by", "ada"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert cli.main(["publish", job, "--reason", "fine"]) == 2
    assert "no night is held back" in capsys.readouterr().err


def test_an_audit_of_a_run_that_publishes_nothing_is_not_kept(tmp_path, models):
    content = audited(tmp_path, models, rejected=0.5)
    write(tmp_path, "first", ["one"])
    execute(content)
    execute(content)
    sink = open_sink(spec.parse(content).sink)
    assert len(list(record.newest(sink.store))) == 1
    assert run.run(spec.parse(content)).status == "finished"
