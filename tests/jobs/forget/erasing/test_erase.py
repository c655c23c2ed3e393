"""A person's rows are erased from everything that a job and a training keep, and both go on afterwards."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.gate import decision
from jobs.registry import Registry
from jobs.retraining import round as rounds
from jobs.store import Store
from jobs.training import identity, spec
from tests import lake, s3
from tests.jobs.forget.erasing.ada import (
    ADA,
    WORD,
    command,
    contents,
    day,
    files,
    holding,
    job,
    last_line,
    night,
    rows,
    training,
)
from tests.jobs.registry import versions

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


def test_nothing_of_a_person_is_left_and_the_next_run_training_and_verification_work(tmp_path, models, capsys):
    for name in ("labels", "holdout"):
        (tmp_path / name).mkdir()
    pq.write_table(rows(120, 2, ada=4), tmp_path / "holdout" / "1.parquet")
    pq.write_table(rows(24, 1, ada=2), tmp_path / "labels" / "1.parquet")
    content = training(tmp_path, models / "sentiment")
    registry = Registry(str(tmp_path / "registry"))
    first = versions.add(registry, models / "sentiment", tmp_path / "made", seed=1)
    registry.promote(first, "eve", "the first one")
    pq.write_table(rows(200, 3, ada=5), tmp_path / "labels" / "2.parquet")
    second = rounds.run(spec.parse(content))
    assert second.decision == "promoted", second.reason
    text = pq.read_table(tmp_path / "holdout" / "1.parquet")["text"][0].as_py()
    registry.store.put(
        "reports/made.md", f"| {WORD[:4]} | text |\n|---|---|\n| a | {text[:30]}… |\n| b | c |\n".encode()
    )

    day(tmp_path, 1)
    nightly = job(tmp_path, models / "sentiment", adapter=f"{tmp_path / 'registry'}@champion")
    report = night(tmp_path, nightly)
    assert report.rows_rejected == 2
    (draw,) = (tmp_path / "review" / "draws" / "nightly").glob("*.parquet")
    drawn = pq.read_table(draw)
    texts = [f"{text}" for file in tmp_path.glob("*/*.parquet") for text in pq.read_table(file)["text"].to_pylist()]
    keys = {identity.key(text) for text in texts if WORD in text}
    assert len(holding(tmp_path, [WORD])) > 12
    arguments = ["--where", ADA, *files(tmp_path, nightly, content)]
    before = contents(tmp_path)
    assert command(*arguments, "--dry-run") == 0
    planned = last_line(capsys)
    assert contents(tmp_path) == before
    assert command(*arguments) == 0
    told = last_line(capsys)
    assert planned == told | {"dry_run": True}
    assert told["keys"] == len(keys)
    drawn_ada = drawn["author"].to_pylist().count("ada")
    out, review, kept = (str(tmp_path / name) for name in ("out", "review", "registry"))
    rows_by_place = {place: told["places"][place] for place in sorted(told["places"])}
    assert rows_by_place == {
        "data.holdout of sentiment": 4,
        "data.train of sentiment": 7,
        f"{out}: rejected rows": 1,
        f"{out}: rows that reports show": rows_by_place[f"{out}: rows that reports show"],
        f"{kept}: keys in receipts": rows_by_place[f"{kept}: keys in receipts"],
        f"{kept}: rows of the holdout": 4,
        f"{kept}: rows of trainings": rows_by_place[f"{kept}: rows of trainings"],
        f"{kept}: rows that reports show": rows_by_place[f"{kept}: rows that reports show"],
        f"{review}: drawn rows": drawn_ada,
        f"{review}: exports and answers": 4 * drawn_ada,
        f"{review}: labelled rows": drawn_ada,
    }
    assert any(f"{second.version} learnt from these rows" in sentence for sentence in told["left"])
    assert any(f"{first} may have learnt from these rows" in sentence for sentence in told["left"])
    assert any(sentence.startswith("the sink keeps 19 enriched rows of the person") for sentence in told["left"])

    assert holding(tmp_path, [WORD, *keys]) == [], "also in the pages of reports"
    assert registry.store.get("reports/made.md").decode().endswith("---|\n| b | c |\n")
    assert set(lake.rejected(tmp_path / "out")["author"].to_pylist()) == {"author 3"}
    assert list((tmp_path / "out").rglob("*.html"))
    failures = json.loads(next((tmp_path / "out").rglob("reports/*.json")).read_text())["findings"]["failures"]
    assert len(failures) == 1
    assert [move.receipt and decision.verify(move.receipt) for move in registry.history()] == [None, []]
    assert registry.champion().receipt["forgotten"][0]["rows"] == 4
    assert cli.main(["adapters", "verify", str(tmp_path / "registry")]) == 0
    capsys.readouterr()
    assert command(*arguments) == 0
    assert capsys.readouterr().out.startswith("Nothing was found")

    source = tmp_path / "in" / "1.parquet"
    table = pq.read_table(source)
    pq.write_table(table.filter(pa.compute.not_equal(table["author"], "ada")), source)
    again = lake.execute(nightly)
    assert (again.rows_out, again.rows_rejected) == (39, 1)
    assert "ada" not in lake.parts(tmp_path / "out")[0].read_bytes().decode("latin1").split("author")
    assert WORD not in str(pq.read_table(lake.parts(tmp_path / "out")[0]).to_pylist())
    third = rounds.run(spec.parse(content))
    assert third.version not in (None, second.version)
    assert third.rows_holdout == 116


def test_a_run_after_it_does_nothing_again_and_complains_about_nothing(tmp_path, models):
    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    first = night(tmp_path, content)
    parts = lake.contents(tmp_path / "out")
    assert command("--where", ADA, *files(tmp_path, content)) == 0
    assert len(lake.rejected(tmp_path / "out")) == 1
    day(tmp_path, 2, ada=0)
    second = lake.execute(content)
    assert (second.rows_in, second.rows_rejected, second.shards_skipped) == (60, 2, 1)
    assert first.rows_rejected == 2
    assert {name: parts[name] for name in parts if name.endswith("parquet")}.items() <= lake.contents(
        tmp_path / "out"
    ).items()


def test_a_text_that_somebody_else_wrote_too_stays_theirs(tmp_path, models, capsys):
    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    night(tmp_path, content)
    text = f"{WORD} is what both of them wrote"
    shared = pa.table({"text": [text, text.upper(), "other"], "label": ["good"] * 3, "author": ["ada", "bob", None]})
    by_key = pa.table({"text": [f"{WORD} by key", "other"], "label": ["good"] * 2})
    named = pa.table({"text": [f"{WORD}, BY KEY!"], "label": ["good"], "author": ["ada"]})
    (tmp_path / "labels").mkdir()
    for name, table in {"shared": shared, "by_key": by_key, "named": named}.items():
        pq.write_table(table, tmp_path / "labels" / f"{name}.parquet")
    file = training(tmp_path, models / "sentiment") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    assert command("--where", ADA, *files(tmp_path, content, file)) == 0
    assert last_line(capsys)["places"]["data.train of sentiment"] == 3
    left = {path.stem: pq.read_table(path)["text"].to_pylist() for path in (tmp_path / "labels").iterdir()}
    assert left == {"shared": [text.upper(), "other"], "by_key": ["other"], "named": []}


def test_rows_that_reports_show_can_all_be_erased_once_nobody_can_tell_whose_they_are(tmp_path, models, capsys):
    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    night(tmp_path, content)
    day(tmp_path, 1, ada=0)
    lake.execute(content)
    assert command("--where", ADA, *files(tmp_path, content)) == 0
    reports = sorted((tmp_path / "out" / "_nightscribe" / "reports").iterdir())
    capsys.readouterr()
    assert command("--where", ADA, "--all-examples", *files(tmp_path, content)) == 0
    assert sorted((tmp_path / "out" / "_nightscribe" / "reports").iterdir()) == reports
    assert holding(tmp_path, [WORD]) == []


def test_a_staged_draw_is_searched_too(tmp_path, models, monkeypatch):
    from jobs.review import night as nights

    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    with monkeypatch.context() as patch:
        patch.setattr(nights, "publish", lambda plan, sink: 0)
        lake.execute(content)
    assert any("review" in name for name in holding(tmp_path, [WORD]))
    assert command("--where", ADA, *files(tmp_path, content)) == 0
    assert holding(tmp_path, [WORD]) == []
    lake.execute(content)
    (draw,) = (tmp_path / "review" / "draws" / "nightly").glob("*.parquet")
    assert len(pq.read_table(draw)), "it is published without the rows"


def test_a_lake_on_an_object_store_is_searched_and_written_again(tmp_path, models, capsys):
    with s3.server():
        store = Store("s3://lake/forget")
        day(tmp_path, 1)
        content = job(tmp_path, models / "sentiment")
        content |= {"sink": {"path": "s3://lake/forget/out"}}
        content["review"] |= {"path": "s3://lake/forget/review"}
        night(tmp_path, content)
        buffer = pa.BufferOutputStream()
        pq.write_table(rows(9, 1, ada=3), buffer)
        store.put("labels/1.parquet", buffer.getvalue().to_pybytes())
        file = training(tmp_path, models / "sentiment")
        file |= {"data": {"train": {"path": "s3://lake/forget/labels"}}, "registry": "s3://lake/forget/registry"}
        assert command("--where", ADA, *files(tmp_path, content, file)) == 0
        told = last_line(capsys)
        assert told["places"]["data.train of sentiment"] == 3
        assert pq.read_table(store.open("labels/1.parquet")).num_rows == 6
        for name in store.find((".json", ".jsonl", ".html")):
            assert WORD.encode() not in store.get(name)
        for name in store.find((".parquet", ".rejected")):
            if name.startswith(("review/", "labels/", "out/_")) and "scores" not in name:
                assert "ada" not in pq.read_table(store.open(name))["author"].to_pylist()
