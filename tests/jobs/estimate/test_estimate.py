"""An estimate says how many rows and tokens a run will take, from a sample, before the run; nothing is written."""

import json

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from jobs import cli, spec
from jobs.estimate import planned, pool, sample
from jobs.estimate.costs import costs as costs_of
from jobs.plan import planning
from jobs.report import history
from jobs.report import page as report_page
from jobs.source.formats import parquet
from jobs.store import Store, requests
from tests import lake, s3, tiny, tiny_causal
from tests.lake import execute

# Of tokens; rows whose number is known are exact.
TOLERANCE = 0.2


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of its own, and enough time for the sample on any machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sample, "SECONDS", 1000.0)
    monkeypatch.setattr(pool, "SECONDS", 1000.0)


def estimated(content, only_rejected=False):
    return planned.of_plan(*planning.against_sink(spec.parse(content), only_rejected))


def check(found, report):
    """Rows are exact, tokens near, and the whole is the same for one worker as for the run."""
    assert (found.rows, found.shards) == (report.rows_in, report.shards_done)
    assert found.tokens == pytest.approx(report.tokens, rel=TOLERANCE)
    assert found.padded_tokens == pytest.approx(report.padded_tokens, rel=TOLERANCE)


def task(name, model, **options):
    return {"task": name, "column": "text", "model": str(model), "into": name, "dtype": "float32"} | options


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_rows_and_tokens_of_a_sample_are_near_those_of_the_run(tmp_path, models, monkeypatch, form):
    monkeypatch.setattr(pool, "ROWS", 300)
    (tmp_path / "in").mkdir()
    for i in range(4):
        table = lake.rows(500, start=1000 * i, seed=i)
        file = tmp_path / "in" / f"{i}.{form}"
        if form == "parquet":
            pq.write_table(table, file)
        elif form == "csv":
            pyarrow.csv.write_csv(table, file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    found = estimated(content)
    assert not (tmp_path / "out").exists()
    report = execute(content)
    assert found.tokens == pytest.approx(report.tokens, rel=TOLERANCE)
    assert found.padded_tokens == pytest.approx(report.padded_tokens, rel=TOLERANCE)
    assert found.rows == report.rows_in if form == "parquet" else found.rows == pytest.approx(2000, rel=0.05)
    assert found.sampled
    assert min(found.seconds, found.memory_bytes, found.output_bytes) > 0


def test_tokens_of_several_tasks_of_which_one_reads_the_column_of_another(tmp_path, models, causal_model):
    texts = tiny_causal.sentences(200, seed=1)[:200]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": list(map(str, range(200))), "text": texts}), tmp_path / "in" / "a.parquet")
    tasks = [
        task("ner", models / "ner"),
        task("generate", causal_model("llama"), max_new_tokens=8),
        task("classify", models / "sentiment", column="generate"),
    ]
    content = lake.job(tmp_path / "in", tmp_path / "out", models, tasks=tasks)
    found = estimated(content)
    check(found, execute(content))
    assert found.rows_computed.keys() == {"ner", "generate", "classify"}


def test_a_condition_a_limit_and_equal_texts_are_taken_into_account(tmp_path, models):
    lake.make_lake(tmp_path / "in", files=3, n=60)
    one = pq.read_table(tmp_path / "in" / "lang=de" / "part-0.parquet")
    same = one.set_column(1, "text", pa.array(["the same text"] * 60))
    pq.write_table(same, tmp_path / "in" / "lang=de" / "part-9.parquet")
    content = lake.job({"path": str(tmp_path / "in"), "where": "stars < 2"}, tmp_path / "out", models)
    found = estimated(content)
    check(found, execute(content))
    assert found.rows_computed["sentiment"] < found.rows
    assert not found.rows_exact
    content = lake.job({"path": str(tmp_path / "in"), "limit": 70}, tmp_path / "limited", models)
    found = estimated(content)
    check(found, execute(content))
    assert (found.rows, found.rows_exact) == (70, True)


def test_results_that_are_taken_over_are_not_counted(tmp_path, models):
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(lake.rows(300), folder / "a.parquet")
    content = lake.job(folder, tmp_path / "out", models)
    execute(content)
    # Of the changed file 100 rows are new; the new column is computed for all rows.
    changed = pa.concat_tables([lake.rows(300), lake.rows(100, start=900, seed=5)])
    pq.write_table(changed, folder / "a.parquet")
    found = estimated(content)
    report = execute(content)
    check(found, report)
    assert report.rows_reused >= 300
    assert found.rows_computed["sentiment"] <= 100
    content["tasks"].append(task("ner", models / "ner"))
    found = estimated(content)
    check(found, execute(content))
    assert found.rows_computed["sentiment"] == 0
    assert found.rows_computed["ner"] > 300


def test_the_shards_of_a_later_night_have_costs_without_another_sample(tmp_path, models):
    lake.make_lake(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    plan = planning.make(spec.parse(content))
    assert costs_of(plan, plan.shards_todo) is None
    estimated(content)
    execute(content)
    pq.write_table(lake.rows(1000, start=9000, seed=7), tmp_path / "in" / "lang=de" / "large.parquet")
    pq.write_table(lake.rows(10, start=8000, seed=8), tmp_path / "in" / "lang=de" / "small.parquet")
    plan = planning.make(spec.parse(content))
    large, small = costs_of(plan, plan.shards_todo)
    assert large > small > 0
    other = content | {"tasks": [content["tasks"][0] | {"top_k": 2}]}
    plan = planning.make(spec.parse(other))
    assert costs_of(plan, plan.shards_todo) is None


def test_a_night_without_new_rows_takes_nothing(tmp_path, models):
    lake.make_lake(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    execute(content)
    found = estimated(content)
    assert (found.rows, found.tokens, found.shards, found.sampled, found.seconds) == (0, 0, 0, 0, 0)


def test_rejected_rows_that_are_tried_again_are_all_that_is_counted(tmp_path, shout):
    (tmp_path / "in").mkdir()
    texts = [f"text {i}" for i in range(99)] + ["bad"]
    pq.write_table(pa.table({"id": list(map(str, range(100))), "text": texts}), tmp_path / "in" / "a.parquet")
    tasks = [{"task": shout.task, "column": "text", "into": "loud"}]
    content = lake.job(tmp_path / "in", tmp_path / "out", tmp_path, tasks=tasks, errors={"max_fraction": 0.5})
    shout.refuse("bad")
    execute(content)
    shout.refuse()
    found = estimated(content, only_rejected=True)
    assert (found.rows_computed["loud"], found.rows) == (1, 100)


@pytest.mark.parametrize("texts", [[None] * 50, [""] * 50, []])
def test_texts_that_are_null_or_missing_cost_no_tokens(tmp_path, models, texts):
    (tmp_path / "in").mkdir()
    table = pa.table({"id": list(map(str, range(len(texts)))), "text": pa.array(texts, pa.string())})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    found = estimated(content)
    check(found, execute(content))
    assert found.tokens == 0


def test_a_task_without_a_model_and_rows_that_cannot_be_read(tmp_path, shout):
    lines = [json.dumps({"id": str(i), "text": f"text {i}"}) for i in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:100], '{"id": ', *lines[100:], ""]))
    tasks = [{"task": shout.task, "column": "text", "into": "loud"}]
    content = lake.job(tmp_path / "a.jsonl", tmp_path / "out", tmp_path, tasks=tasks)
    found = estimated(content)
    report = execute(content)
    assert (found.rows, found.tokens) == (report.rows_in, report.tokens) == (201, 200)


def test_int8_is_compared_with_float32_for_the_estimate_too_and_nothing_is_kept_in_the_sink(tmp_path, models):
    lake.make_lake(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    content["tasks"][0] |= {"dtype": "int8", "min_agreement": 0.0}
    found = estimated(content)
    assert not (tmp_path / "out").exists()
    check(found, execute(content))


def test_tables_are_sources_and_sinks_like_files(tmp_path, models):
    deltalake = pytest.importorskip("deltalake")
    for version in range(3):
        deltalake.write_deltalake(
            str(tmp_path / "table"), lake.rows(100, start=1000 * version, seed=version), mode="append"
        )
    content = lake.job({"table": f"delta://{tmp_path / 'table'}"}, tmp_path / "out", models)
    content["sink"] = {"table": f"delta://{tmp_path / 'enriched'}"}
    found = estimated(content)
    assert not (tmp_path / "enriched").exists()
    check(found, execute(content))


def test_the_command_prints_a_table_with_costs_and_json(tmp_path, models, capsys, settings_of_the_process):
    lake.make_lake(tmp_path / "in")
    prices = {"worker_hour": 36_000.0, "currency": "USD", "gb_month": 0.02, "request_1000": 0.005}
    job = lake.write_job(tmp_path, lake.job(tmp_path / "in", tmp_path / "out", models, prices=prices))
    assert cli.main(["plan", str(job), "--estimate"]) == 0
    shown = capsys.readouterr().out
    assert "rows          180; computed: about " in shown
    assert "cost (USD)" in shown
    assert [line.split()[0] for line in shown.splitlines()[-7:-2]] == ["workers", "1", "4", "16", "64"]
    assert cli.main(["plan", str(job), "--estimate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["estimate"]
    assert [each["workers"] for each in found["scales"]] == [1, 4, 16, 64]
    first = found["scales"][0]
    # 36,000 an hour is 10 a second: far more than what costs are rounded to, also on a fast machine.
    assert first["cost"] == pytest.approx(first["worker_hours"] * 36_000, rel=0.01)
    (tmp_path / "prices.yaml").write_text("currency: CHF\nworker_hours: 1\n")
    assert cli.main(["plan", str(job), "--estimate", "--prices", str(tmp_path / "prices.yaml")]) == 2
    assert "worker_hours is not a key; did you mean worker_hour" in capsys.readouterr().err


def test_the_report_of_the_run_compares_it_with_its_estimate(tmp_path, models, capsys, settings_of_the_process):
    lake.make_lake(tmp_path / "in")
    job = lake.write_job(tmp_path, lake.job(tmp_path / "in", tmp_path / "out", models))
    assert cli.main(["plan", str(job), "--estimate"]) == 0
    assert cli.main(["run", str(job), "--quiet"]) == 0
    run_id = json.loads(capsys.readouterr().out.splitlines()[-1])["run_id"]
    kept = json.loads((tmp_path / "out" / "_nightscribe" / "reports" / f"{run_id}.json").read_text())
    compared = {each["what"]: each for each in kept["estimate"]["numbers"]}
    assert compared["rows"] == {"what": "rows", "estimated": 180, "measured": 180}
    assert compared["seconds"]["measured"] == kept["seconds"]
    assert cli.main(["report", "latest", "--job", str(job), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Estimate and outcome" in page
    assert "rows that were computed on" in page
    shown = report_page.markdown(history.read(Store(str(tmp_path / "out")), run_id), [])
    assert "| rows | 180 | 180 | 1.00 |" in shown
    # A night with other shards has not been estimated.
    pq.write_table(lake.rows(20, start=9000, seed=8), tmp_path / "in" / "lang=de" / "new.parquet")
    assert cli.main(["run", str(job), "--quiet"]) == 0
    run_id = json.loads(capsys.readouterr().out.splitlines()[-1])["run_id"]
    kept = json.loads((tmp_path / "out" / "_nightscribe" / "reports" / f"{run_id}.json").read_text())
    assert "estimate" not in kept


def test_the_sample_lies_evenly_over_the_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "ROWS", 64)
    monkeypatch.setattr(pool, "LEAST_CHUNKS", 8)
    monkeypatch.setattr(pool, "MOST_CHUNKS", 8)
    (tmp_path / "in").mkdir()
    for i in range(40):
        pq.write_table(pa.table({"id": [i] * 50, "text": tiny.texts(50, seed=i)}), tmp_path / "in" / f"{i:02}.parquet")
    content = lake.job(tmp_path / "in", tmp_path / "out", tmp_path)
    content["tasks"] = [{"task": "tests.bench.tasks.noop", "column": "text", "into": "n"}]
    plan = planning.make(spec.parse(content))
    found = pool.read(plan)
    assert sorted(chunk.batch["id"][0].as_py() for chunk in found.chunks) == [2, 7, 12, 17, 22, 27, 32, 37]
    assert found.weights.sum() == pytest.approx(1)
    assert found.selected == 1


def test_requests_to_an_object_store_are_near_those_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 100)
    with s3.server() as _:
        files = fsspec.filesystem("s3")
        for i in range(6):
            with files.open(f"lake/in/{i}.parquet", "wb") as stream:
                pq.write_table(lake.rows(200, seed=i), stream, row_group_size=100)
        content = lake.job("s3://lake/in", "s3://lake/out", tmp_path)
        content["tasks"] = [{"task": "tests.bench.tasks.noop", "column": "text", "into": "n"}]
        requests.taken()
        found = estimated(content)
        assert not files.exists("s3://lake/out")
        requests.taken()
        report = execute(content)
    assert (found.rows, found.shards) == (1200, 12)
    assert found.store_requests == pytest.approx(report.store_requests.requests, rel=TOLERANCE)
