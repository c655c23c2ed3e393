"""Eight bits are taken only where they agree with float32 on the job's own rows, and the report says how much."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jobs import run, spec
from jobs.models import agreement, looks, pool
from jobs.models.pool import ModelPool
from jobs.plan import Plan, planning
from jobs.store import Store
from tests import tiny
from transforms import model, rounding
from transforms.errors import ModelError


def job(tmp_path, models, **more):
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": [*tiny.texts(150), None, ""]}), source / "rows.parquet")
    task = {"task": "classify", "column": "text", "model": str(models / "sentiment"), "into": "label", "device": "cpu"}
    return spec.parse(
        {
            "name": "rounded",
            "source": {"path": str(source)},
            "tasks": [task | {"dtype": "int8", "min_agreement": 0.5} | more],
            "sink": {"path": str(tmp_path / "sink")},
        }
    )


def test_a_job_in_int8_reports_its_agreement(tmp_path, models):
    report = run.run(job(tmp_path, models))
    assert report.rows_out == 152
    [task] = json.loads((tmp_path / "sink/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    assert task["dtype"] == "int8"
    assert 0.8 < task["agreement"] <= 1.0


def test_agreement_is_measured_once_and_kept_for_later_runs(tmp_path, models, monkeypatch):
    parsed = job(tmp_path, models)
    run.run(parsed)
    pq.write_table(pa.table({"text": tiny.texts(20, seed=5)}), tmp_path / "source" / "more.parquet")
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: pytest.fail("measured again"))
    report = run.run(parsed)
    assert (report.rows_out, report.shards_skipped) == (20, 1)
    [task] = json.loads((tmp_path / "sink/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    assert 0.8 < task["agreement"] <= 1.0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"label": null}',
        '{"another": 1.0}',
        '{"label": {"agreement": 1.0, "rows": 64, "ranges": {"classifier": [0.0]}}}',
        '{"label": {"agreement": 1.0, "rows": 64, "ranges": {"classifier": [0.0, NaN]}}}',
    ],
)
def test_it_is_measured_again_if_the_kept_one_is_damaged(tmp_path, models, monkeypatch, content):
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: 0.9)
    parsed = job(tmp_path, models)
    kept = f"_nightscribe/agreement/{planning.make(parsed).fingerprint.digest}.json"
    store = Store(parsed.sink.path)
    store.put(kept, content.encode())
    assert check(parsed).tasks[0].agreement == 0.9
    assert json.loads(store.get(kept))["label"]["agreement"] == 0.9


def test_too_little_agreement_refuses_the_job_and_writes_no_rows(tmp_path, models, monkeypatch):
    # Agreement is what the model makes it; here every row disagrees.
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: 0.25)
    with pytest.raises(
        ModelError, match=r"tasks.0.dtype is int8, which agrees with float32 on 0.2500 .*min_agreement is 0.5"
    ):
        run.run(job(tmp_path, models))
    assert not list(Path(tmp_path / "sink").glob("*.parquet"))


def check(parsed):
    """The plan with its agreement, and nothing executed."""
    return agreement.check(planning.make(parsed), ModelPool(), Store(parsed.sink.path))


def watched(monkeypatch):
    """The rows of each look at the sample, by dtype, and how often weights were read."""
    seen, reads = [], []
    on, read = pool.on, model.read

    def watched_on(task, loaded):
        annotator = on(task, loaded)
        ranges = any(getattr(layer, "input", None) for layer in loaded.network.modules())
        dtype = "float32" if has_linear(loaded.network) else "fixed" if ranges else "per batch"
        return lambda batch: seen.append((dtype, batch)) or annotator(batch)

    def watched_read(ref, kind):
        reads.append(ref.dtype)
        return read(ref, kind)

    monkeypatch.setattr(pool, "on", watched_on)
    monkeypatch.setattr(rounding, "read", watched_read)
    monkeypatch.setattr(model, "read", watched_read)
    return seen, reads


def has_linear(network):
    return any(type(layer) is torch.nn.Linear for layer in network.modules())


def rows_of(seen):
    return [(dtype, len(batch)) for dtype, batch in seen]


def test_32_rows_are_compared_if_all_of_them_agree(tmp_path, models, monkeypatch):
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: 1.0)
    seen, _ = watched(monkeypatch)
    plan = check(job(tmp_path, models, min_agreement=0.98))
    assert rows_of(seen) == [("float32", 16), ("float32", 16), ("fixed", 16), ("fixed", 16)]
    assert plan.tasks[0].ranges


def test_128_rows_are_compared_if_some_disagree_and_then_a_range_per_batch_is_tried(tmp_path, models, monkeypatch):
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: 0.985)
    seen, _ = watched(monkeypatch)
    plan = check(job(tmp_path, models, min_agreement=0.98))
    each = [*2 * [("float32", 16)], *2 * [("fixed", 16)]]
    each += [("float32", 32), ("fixed", 32), ("float32", 64), ("fixed", 64)]
    assert rows_of(seen) == [*each, *2 * [("per batch", 16)], ("per batch", 32), ("per batch", 64)]
    assert plan.tasks[0].agreement == 0.985
    assert plan.tasks[0].ranges


@pytest.mark.parametrize(("fixed", "per_batch", "chosen"), [(0.9, 0.99, None), (0.975, 0.982, None), (0.9, 0.91, {})])
def test_a_range_per_batch_is_used_where_it_is_better(tmp_path, models, monkeypatch, fixed, per_batch, chosen):
    answers = iter([fixed, fixed, fixed, per_batch])
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: next(answers))
    minimum = 0.98 if chosen is None else 0.5
    task = check(job(tmp_path, models, min_agreement=minimum)).tasks[0]
    if chosen is None:
        assert (task.ranges, task.agreement) == (None, per_batch)
    else:
        assert task.ranges
        assert task.agreement == fixed


def test_all_rows_of_a_sample_together_give_one_agreement(tmp_path, models, monkeypatch):
    seen = []
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: seen.append(len(exact)) or 0.9)
    check(job(tmp_path, models, min_agreement=0.85))
    assert seen == [32, 64, 128, 128]


def test_ranges_that_may_not_be_fixed_are_found_for_each_batch(tmp_path, models):
    task = planning.make(job(tmp_path, models, min_agreement=0.9)).tasks[0]

    class Texts:
        def __len__(self):
            return 128

        def between(self, start, stop):
            return pa.record_batch({"text": tiny.texts(128)[start:stop]})

    compared = looks.compare(task, Texts(), may_fix=False)
    assert compared.ranges is None
    assert not fixed_layers(compared.annotator)


def test_too_few_rows_give_no_ranges(tmp_path, models):
    parsed = job(tmp_path, models, min_agreement=0)
    for rows in ([], [None] * 40, tiny.texts(15)):
        pq.write_table(pa.table({"text": pa.array(rows, pa.string())}), tmp_path / "source" / "rows.parquet")
        task = agreement.measure(planning.make(parsed), ModelPool()).get("label")
        assert task is None or task.ranges is None


def test_a_later_night_and_a_worker_use_the_ranges_of_the_first_night(tmp_path, models):
    parsed = job(tmp_path, models)
    ranges = check(parsed).tasks[0].ranges
    assert all(low <= 0.0 <= high for low, high in ranges.values())
    later = check(parsed)
    assert later.tasks[0].ranges == ranges
    sent = Plan.from_json(later.to_json()).tasks[0]
    assert sent.ranges == ranges
    assert sent.reference().ranges == ranges
    assert fixed_layers(pool.load(sent))


def fixed_layers(annotator):
    """The layers of a loaded task that have a fixed range."""
    network = annotator.annotator.model.network
    return [layer for layer in network.modules() if getattr(layer, "input", None)]


def test_a_sink_of_an_earlier_version_goes_on_with_a_range_per_batch(tmp_path, models):
    parsed = job(tmp_path, models)
    store = Store(parsed.sink.path)
    store.put(f"_nightscribe/agreement/{planning.make(parsed).fingerprint.digest}.json", b'{"label": 0.75}')
    task = check(parsed).tasks[0]
    assert (task.agreement, task.ranges) == (0.75, None)
    assert not fixed_layers(pool.load(task))


def test_only_the_beginning_of_a_long_text_is_compared(tmp_path, models, monkeypatch):
    parsed = job(tmp_path, models)
    pq.write_table(pa.table({"text": ["☃x" * 2000]}), tmp_path / "source" / "a-book.parquet")
    seen, _ = watched(monkeypatch)
    check(parsed)
    assert seen[0][1]["text"][0].as_py() == "☃x" * 500


@pytest.mark.parametrize("min_agreement", [0.5, 0.0, 1.0])
def test_the_weights_are_read_once_and_the_run_takes_over_the_model(tmp_path, models, monkeypatch, min_agreement):
    # Every row agrees, or none does, so that each way of deciding is taken.
    monkeypatch.setattr(looks, "agreement", lambda exact, rounded: 1.0 if min_agreement else 0.0)
    _, reads = watched(monkeypatch)
    assert run.run(job(tmp_path, models, min_agreement=min_agreement)).rows_out == 152
    assert reads == ["int8"]


def test_rows_have_the_same_results_alone_and_beside_others(tmp_path, models):
    annotator = pool.load(check(job(tmp_path, models)).tasks[0])
    rows = pa.record_batch({"text": [text for text in tiny.texts(60) if text.strip()]})
    together = annotator(rows).values
    alone = pa.concat_arrays([annotator(rows.slice(i, 1)).values for i in range(len(rows))])
    assert together.field("label").equals(alone.field("label"))
    np.testing.assert_allclose(together.field("score"), alone.field("score"), atol=2e-3)


def test_a_run_with_worker_processes_keeps_no_model_in_its_own(tmp_path, models):
    with run.holding(run.prepare(job(tmp_path, models))) as held:
        assert len(held.models.loaded) == 1
    more = spec.parse(job(tmp_path, models).model_dump(exclude_unset=True) | {"runner": {"workers": 2}})
    (tmp_path / "sink/_nightscribe/agreement").rename(tmp_path / "elsewhere")
    with run.holding(run.prepare(more)) as held:
        assert not held.models.loaded


def test_the_dtype_and_the_engine_are_part_of_the_fingerprint(tmp_path, models):
    exact = planning.make(job(tmp_path, models, dtype="float32"))
    rounded = planning.make(job(tmp_path, models))
    assert exact.fingerprint != rounded.fingerprint
    assert Plan.from_json(rounded.to_json()).to_json() == rounded.to_json()


def test_a_job_in_float32_measures_nothing(tmp_path, models, monkeypatch):
    monkeypatch.setattr(agreement, "first_rows", lambda plan, rows: pytest.fail("measured"))
    assert check(job(tmp_path, models, dtype="float32")).tasks[0].agreement is None


def test_each_half_of_the_first_rows_is_compared_in_the_ranges_of_the_other_half(tmp_path, models, monkeypatch):
    given, seen, rounded, observed = [], [], rounding.Rounding.rounded, rounding.Rounding.observed
    monkeypatch.setattr(
        rounding.Rounding, "rounded", lambda self, ranges: given.append(ranges) or rounded(self, ranges)
    )
    monkeypatch.setattr(rounding.Rounding, "observed", lambda self, found: seen.append(found) or observed(self, found))
    task = check(job(tmp_path, models, min_agreement=0)).tasks[0]
    one, other = seen
    assert given[:2] == [other, one]
    assert one != other
    widest = {name: (min(one[name][0], other[name][0]), max(one[name][1], other[name][1])) for name in one}
    assert given[2] == widest == task.ranges


def test_rows_without_a_text_give_no_ranges_and_others_take_their_place(tmp_path, models, monkeypatch):
    parsed = job(tmp_path, models, min_agreement=0)
    texts = [text if i % 2 else None for i, text in enumerate(tiny.texts(150))]
    pq.write_table(pa.table({"text": texts}), tmp_path / "source" / "rows.parquet")
    seen, _ = watched(monkeypatch)
    assert check(parsed).tasks[0].ranges
    compared = [batch["text"].null_count for dtype, batch in seen if dtype == "fixed"]
    assert [len(batch) for dtype, batch in seen if dtype == "fixed"][:2] == [32, 32]
    assert compared[:2] == [16, 16]


@pytest.mark.parametrize("texts", [[None] * 40, tiny.texts(15)])
def test_a_night_of_a_few_rows_is_not_kept_for_later_ones(tmp_path, models, texts):
    parsed = job(tmp_path, models, min_agreement=0)
    file = tmp_path / "source" / "rows.parquet"
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), file)
    check(parsed)
    store = Store(parsed.sink.path)
    assert agreement.is_due(planning.make(parsed), store)
    pq.write_table(pa.table({"text": tiny.texts(150)}), file)
    assert check(parsed).tasks[0].ranges
    assert not agreement.is_due(planning.make(parsed), store)


def test_what_one_task_keeps_stays_while_another_one_has_too_few_rows(tmp_path, models):
    parsed = job(tmp_path, models, min_agreement=0)
    other = parsed.tasks[0].model_copy(update={"column": "other", "into": "second"})
    parsed = parsed.model_copy(update={"tasks": [parsed.tasks[0], other]})
    file, texts = tmp_path / "source" / "rows.parquet", tiny.texts(150)
    pq.write_table(pa.table({"text": texts, "other": pa.array([None] * 150, pa.string())}), file)
    first = check(parsed).tasks[0].ranges
    pq.write_table(pa.table({"text": tiny.texts(150, seed=5), "other": texts}), file)
    label, second = check(parsed).tasks
    assert label.ranges == first
    assert second.ranges
    assert not agreement.is_due(planning.make(parsed), Store(parsed.sink.path))
