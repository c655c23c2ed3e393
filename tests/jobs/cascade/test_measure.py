"""When a threshold is measured, on which rows, and at which error: once, and again only where that can say more."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import stats

from jobs import run, spec
from jobs.cascade import certify, kept, measure
from jobs.cascade.pending import pending
from jobs.cascade.sample import draw
from jobs.plan import planning
from jobs.plan.first import Measured
from jobs.sink import open_sink
from jobs.store import Store
from tests import cascades, tiny
from tests.lake import execute


def key_of(content, task=0):
    return planning.make(spec.parse(content)).tasks[task].first.key


def first_of(sink, report):
    content = json.loads((sink / "_nightscribe/reports" / f"{report.run_id}.json").read_text())
    return [task["first"]["measured"] for task in content["tasks"] if task["first"]]


def fail_if_measured(monkeypatch):
    monkeypatch.setattr(measure, "Comparison", lambda *_: pytest.fail("measured"))


def certifies(rng, nights, agree=0.99, confidence=0.95, truth=0.9899):
    """Whether one of several nights certifies a threshold, each with more rows than the one before."""
    earlier = before = 0
    for rows in nights:
        error = certify.share_of(1 - confidence, earlier)
        needed = certify.rows_needed(agree, error, measure.MORE * before)
        if needed is None or rows < needed:
            continue
        sizes = certify.sizes(rows, agree, error)
        explored, agreed = rng.random(sizes.first) < truth, rng.random(sizes.second) < truth
        surveyed, tested = rng.beta(4, 1, sizes.first), rng.beta(4, 1, sizes.second)
        thresholds = certify.order(surveyed, sizes.second, agree, error, explored if sizes.explores else None)
        if certify.certify(tested, thresholds, agree, error, agreed.__getitem__).certified is not None:
            return True
        earlier, before = earlier + 1, sizes.second
    return False


def test_all_measurements_of_a_job_together_break_the_promise_in_at_most_five_percent():
    rng, jobs = np.random.default_rng(11), 400
    broken = sum(certifies(rng, [4_000, 9_000, 20_000, 45_000, 620_000]) for _ in range(jobs))
    assert broken <= stats.binom.isf(0.001, jobs, 0.05)
    assert sum(certify.share_of(0.05, earlier) for earlier in range(50)) <= 0.05


@pytest.mark.parametrize("earlier", [0, 1, 3])
@pytest.mark.parametrize("sample", [0, 800, 2_990, 5_000, 6_000, 9_000, 20_000])
def test_the_rows_that_are_asked_for_have_a_sample_of_that_size_or_no_run_has(sample, earlier):
    error = certify.share_of(0.05, earlier)
    rows = certify.rows_needed(0.99, error, sample)
    if rows is None:
        assert certify.sizes(10**12, 0.99, error).second < sample
    else:
        assert certify.sizes(rows, 0.99, error).second >= sample
        fewer = certify.sizes(int(0.97 * rows), 0.99, error)
        assert fewer is None or fewer.second < sample


def test_each_measurement_has_half_of_the_error_that_is_left(tmp_path, made, monkeypatch):
    errors, exact = [], certify.certify
    monkeypatch.setattr(certify, "certify", lambda *given: errors.append(given[3]) or exact(*given))
    for earlier in range(measure.MEASUREMENTS):
        execute(made)
        assert cascades.measured(made).earlier == earlier
        kept.refute(Store(str(tmp_path / "out")), cascades.measured(made).seed, kept.Refuted(40, 20))
    assert errors == pytest.approx([0.1, 0.05, 0.025])


def test_what_an_earlier_version_has_kept_is_read(made):
    old = {"threshold": 0.7, "seed": "s", "check": 0.05, "rows": 30, "answered": 20, "agreed": 20, "number": 1}
    assert Measured.from_json(old | {"why": "", "possible": 40}) == Measured(0.7, "s", 0.05, 30, 20, 20, 1, "", 0)


@pytest.mark.parametrize("source", [{}, {"where": "length(text) > 12 or text is null"}], ids=["known", "filtered"])
@pytest.mark.parametrize(("rows", "is_measured"), [(15, True), (30, False)])
def test_what_a_run_could_not_certify_is_measured_again_by_one_with_twice_the_rows(
    tmp_path, made, monkeypatch, source, rows, is_measured
):
    content = made | {"source": {"path": str(tmp_path / "in"), **source}}
    before = Measured(None, "x", rows=rows, why="not used")
    kept.keep(Store(str(tmp_path / "out")), key_of(content), before)
    if not is_measured:
        fail_if_measured(monkeypatch)
    # A tenth of some 390 rows with a text.
    assert (execute(content).first["found"].answered > 0) == is_measured
    assert (cascades.measured(content) == before) != is_measured


def test_a_sentence_asks_for_the_rows_with_which_it_is_measured_again(tmp_path, models):
    cascades.write(tmp_path / "in")
    other = tiny.bert(tmp_path / "other", "classify", ["negative", "neutral", "positive"], seed=8)
    content = cascades.job(tmp_path, models / "sentiment", other, first={"agree": 0.9})
    execute(content)
    found = cascades.measured(content)
    [rows] = re.findall(r"a lower agree, or a run of ([\d,]+) rows", found.why)
    enough = certify.sizes(int(rows.replace(",", "")), 0.9, certify.share_of(0.2, 1))
    assert enough.second >= 2 * found.rows > 0


def explored(tmp_path, monkeypatch, models, small, **first):
    """What is measured in a run that is so large that both models compute both samples, and how many rows each has."""
    cascades.write(tmp_path / "in", n=2000)
    content = cascades.job(tmp_path, models / "sentiment", small, first=first)
    given, exact = [], certify.order
    monkeypatch.setattr(certify, "order", lambda *rows: given.append(rows) or exact(*rows))
    execute(content)
    [(surveyed, second, _, _, agreed)] = given
    assert len(agreed) == len(surveyed)
    return cascades.measured(content), len(surveyed), second


def test_in_a_large_run_both_models_compute_the_first_sample_too(tmp_path, monkeypatch, models, pairs):
    found, _, second = explored(tmp_path, monkeypatch, models, pairs["sentiment"])
    assert found.threshold is not None
    assert (found.rows, found.why) == (second, "")


def test_a_large_run_whose_models_disagree_does_not_compute_the_second_sample(tmp_path, monkeypatch, models):
    other = tiny.bert(tmp_path / "other", "classify", ["negative", "neutral", "positive"], seed=8)
    found, first, _ = explored(tmp_path, monkeypatch, models, other, agree=0.7)
    assert found.threshold is None
    assert re.search(rf"they agree on \d+ of the {first} rows of a sample;", found.why)


@pytest.mark.parametrize("reads", ["text", "loud"])
def test_a_first_night_without_texts_is_no_measurement(tmp_path, made, shout, reads):
    [task] = made["tasks"]
    before = [{"task": shout.task, "column": "text", "into": "loud"}] if reads == "loud" else []
    content = made | {"source": {"path": str(tmp_path / "new")}, "tasks": [*before, task | {"column": reads}]}
    (tmp_path / "new").mkdir()
    empty = cascades.rows(400).set_column(1, "text", pa.nulls(400, pa.string()))
    pq.write_table(empty, tmp_path / "new" / "empty.parquet")
    [measured] = first_of(tmp_path / "out", execute(content))
    assert ("0 rows to compute" if reads == "text" else "no row of a sample has something") in measured["why"]
    assert kept.last(Store(str(tmp_path / "out")), key_of(content, len(before))) is None
    cascades.write(tmp_path / "new")
    assert execute(content).first["found"].answered > 0


def mostly_empty(tmp_path):
    """Leave the texts of ten rows of a file of 200; returns how many of all rows have one."""
    file = tmp_path / "in" / "part-3-0.parquet"
    table = pq.read_table(file)
    texts = pc.if_else(pa.array(np.arange(200) < 10), table["text"], "")
    pq.write_table(table.set_column(1, "text", texts), file, row_group_size=50)
    cascades.at_a_fixed_time(file)
    texts = pc.fill_null(pq.read_table(tmp_path / "in")["text"], "")
    return pc.sum(pc.not_equal(texts, "")).as_py()


def test_rows_without_a_text_are_not_counted_among_those_that_are_compared(tmp_path, made):
    with_text = mostly_empty(tmp_path)
    execute(made)
    # A tenth of them, give or take what chance alone does; of all rows it would be 40.
    assert 0 < cascades.measured(made).rows < 32
    assert with_text < 210


def test_if_few_of_the_drawn_rows_have_a_text_all_rows_are_read(tmp_path, made):
    with_text, parsed = mostly_empty(tmp_path), spec.parse(made)
    (tmp_path / "in" / "part-3-1.parquet").unlink()
    with pending(plan := planning.make(parsed), plan.tasks[0], open_sink(parsed.sink)) as rows:
        assert (rows.most, rows.about_most, rows.older) == (200, 200, None)
        drawn = draw(rows, 20, 0)
    assert (len(drawn.rows), drawn.total) == (10, 10)
    assert with_text > 10


def finished(tmp_path, made):
    """A job without `first` whose rows are finished; returns the same with it."""
    [task] = made["tasks"]
    execute(made | {"tasks": [{key: value for key, value in task.items() if key != "first"}]})
    return made


def changed(tmp_path, rows):
    """Write a file again, with other texts in its last rows."""
    file = tmp_path / "in" / "part-3-0.parquet"
    table, new = pq.read_table(file), cascades.rows(rows, seed=77)
    pq.write_table(pa.concat_tables([table.slice(0, len(table) - rows), new]), file, row_group_size=50)


def test_a_changed_file_of_few_new_rows_is_not_measured_and_computes_no_other_row(tmp_path, made, monkeypatch):
    content = finished(tmp_path, made)
    changed(tmp_path, 4)
    fail_if_measured(monkeypatch)
    report = execute(content)
    [measured] = first_of(tmp_path / "out", report)
    assert "the run has 4 rows to compute" in measured["why"]
    assert (report.rows_in, report.rows_reused) == (200, 196)


def test_a_changed_file_is_sampled_from_its_new_rows(tmp_path, made):
    content = finished(tmp_path, made)
    changed(tmp_path, 150)
    parsed = spec.parse(content)
    with pending(plan := planning.make(parsed), plan.tasks[0], open_sink(parsed.sink)) as rows:
        assert (rows.most, rows.older is None) == (200, False)
        drawn = draw(rows, 40, 0)
    new = cascades.rows(150, seed=77)
    with_text = new.filter(pc.not_equal(pc.fill_null(new["text"], ""), ""))
    assert (len(drawn.rows), drawn.total) == (40, len(with_text))
    assert set(drawn.rows["id"].to_pylist()) <= set(with_text["id"].to_pylist())


def test_a_column_that_is_taken_over_as_a_whole_is_not_measured(tmp_path, made, shout, monkeypatch):
    content = finished(tmp_path, made)
    fail_if_measured(monkeypatch)
    more = content | {"tasks": [*content["tasks"], {"task": shout.task, "column": "text", "into": "loud"}]}
    report = execute(more)
    assert (report.rows_in, bool(shout.taken())) == (400, True)
    assert "the run has 0 rows to compute" in first_of(tmp_path / "out", report)[0]["why"]


def test_tasks_that_are_equal_but_for_their_column_share_a_measurement(tmp_path, made):
    [task] = made["tasks"]
    content = made | {"tasks": [task, task | {"into": "again"}]}
    report = execute(content)
    one, two = first_of(tmp_path / "out", report)
    assert one == two
    assert (one["number"], one["earlier"]) == (0, 0)
    assert min(found.answered for found in report.first.values()) > 0
    assert execute(content).rows_in == 0


def test_a_damaged_file_does_not_forget_how_often_thresholds_were_refuted(tmp_path, made, monkeypatch):
    execute(made)
    file = tmp_path / "out/_nightscribe/first" / f"{key_of(made)}.json"
    file.write_bytes(file.read_bytes()[:20])
    with monkeypatch.context() as patch:
        fail_if_measured(patch)
        report = execute(made)
    [measured] = first_of(tmp_path / "out", report)
    assert f"{file.name}, which has its threshold and how often one was refuted, is damaged" in measured["why"]
    assert report.first["found"].answered == 0
    file.unlink()
    cascades.write(tmp_path / "in", n=400, files=1, seed=9)
    assert execute(made).first["found"].answered > 0


def test_the_watch_counts_the_rows_that_the_report_counts_though_their_texts_are_equal(tmp_path, made, monkeypatch):
    monkeypatch.setattr(measure, "LEAST_CHECKED", 0.3)
    monkeypatch.setattr(measure, "MOST_CHECKED", 0.3)
    table = cascades.rows(400)
    texts = pc.if_else(pa.array(np.arange(400) < 320), "the same text", table["text"])
    pq.write_table(table.set_column(1, "text", texts), tmp_path / "in" / "part-3-0.parquet")
    with run.holding(run.prepare(spec.parse(made))) as held:
        run.execute(held)
        found = run.finish(held).first["found"]
        watch = held.models.watch(held.plan.tasks[0])
    assert (watch.checked, watch.agreed) == (found.checked, found.agreed)
    assert 0.2 < found.checked / found.answered < 0.4
