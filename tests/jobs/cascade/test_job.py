"""Jobs in which a smaller model is asked first: whose values rows get, on one night and on later ones."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.cascade import kept, measure
from jobs.plan import Plan, planning
from jobs.plan.text import text
from jobs.report import history, page
from jobs.runners import beam
from jobs.store import Store
from tests import cascades, lake, tiny
from tests.lake import execute
from transforms.errors import ModelError, SinkError, SpecError

ZERO_SHOT = {"labels": ["good", "bad", "late"]}


def close(one, other):
    """Whether two values are the same but for the last bits of their scores."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, abs=1e-5) if isinstance(one, float) else one == other


@pytest.mark.parametrize(
    ("name", "task", "keys"),
    [
        ("sentiment", "classify", {}),
        ("sentiment", "classify", {"top_k": 2}),
        ("topics", "classify", {}),
        ("spam", "classify", {}),
        ("ner", "ner", {}),
        ("nli", "zero_shot", ZERO_SHOT),
        ("nli", "zero_shot", ZERO_SHOT | {"multi_label": True}),
    ],
)
def test_every_row_has_the_value_of_one_of_both_models_and_unsure_rows_that_of_the_large_one(
    tmp_path, models, pairs, name, task, keys
):
    cascades.write(tmp_path / "in")
    content = cascades.job(tmp_path, models / name, pairs[name], task, task_keys=keys)
    report = execute(content)
    found = report.first["found"]
    assert found.answered > 0
    large = cascades.alone(content, tmp_path / "large")
    small = cascades.alone(content, tmp_path / "small", pairs[name])
    got = cascades.values(tmp_path / "out")
    assert lake.read(tmp_path / "out").schema.field("found") == lake.read(tmp_path / "large").schema.field("found")
    of_large = [close(value, want) for value, want in zip(got, large, strict=True)]
    of_small = [close(value, want) for value, want in zip(got, small, strict=True)]
    assert all(one or other for one, other in zip(of_large, of_small, strict=True))
    assert [value is None for value in got] == [value is None for value in large]
    assert found.rows == sum(value is not None for value in large)
    assert sum(of_large) >= found.rows - found.answered + found.checked
    assert sum(not one for one in of_large) <= found.answered - found.checked


def test_a_later_night_uses_the_kept_threshold_and_redoes_nothing(tmp_path, made, monkeypatch):
    execute(made)
    before, threshold = lake.contents(tmp_path / "out"), cascades.measured(made)
    cascades.write(tmp_path / "in", n=30, files=1, seed=9)
    monkeypatch.setattr(measure, "draw", lambda *_: pytest.fail("measured again"))
    report = execute(made)
    assert (report.rows_in, report.shards_skipped) == (30, 2)
    assert report.first["found"].answered > 0
    assert cascades.measured(made) == threshold
    after = lake.contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_the_report_and_the_next_plan_say_what_the_smaller_model_did_and_will_do(tmp_path, made):
    report = execute(made)
    store = Store(str(tmp_path / "out"))
    shown = dict(page.summary(history.read(store, report.run_id)))
    assert re.match(r"answered \d+\.\d% of \d+ rows; \d+ answers were checked", shown["first for found"])
    assert "for rows with a confidence of" in shown["classify into found"]
    assert report.as_dict()["first"]["found"]["answered"] > 0
    cascades.write(tmp_path / "in", n=30, files=1, seed=9)
    assert "for rows with a confidence of" in text(planning.make(spec.parse(made)))


def test_a_first_model_that_is_added_to_a_finished_job_redoes_no_row(tmp_path, made):
    large = cascades.alone(made, tmp_path / "out")
    cascades.write(tmp_path / "in", n=400, files=1, seed=9)
    report = execute(made)
    assert (report.rows_in, report.shards_skipped) == (400, 2)
    assert report.first["found"].answered > 0
    old = lake.read(tmp_path / "out").filter(pa.compute.starts_with(lake.read(tmp_path / "out")["id"], "30"))
    assert old["found"].to_pylist() == large
    again = execute(made)
    assert (again.rows_in, again.shards_skipped) == (0, 3)


def test_another_smaller_model_is_measured_anew_and_redoes_the_rows(tmp_path, models, pairs, made):
    execute(made)
    other = cascades.like(models / "sentiment", tmp_path / "other", 0.02, seed=5)
    changed = cascades.job(tmp_path, models / "sentiment", other)
    assert cascades.measured(changed) is None
    report = execute(changed)
    assert (report.rows_in, report.shards_skipped) == (400, 0)
    assert cascades.measured(changed).threshold is not None


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_a_run_with_too_few_rows_takes_no_shortcut_and_says_so(tmp_path, models, pairs, format_):
    (tmp_path / "in").mkdir()
    if format_ == "parquet":
        pq.write_table(cascades.rows(300), tmp_path / "in" / "a.parquet")
    else:
        (tmp_path / "in" / "a.csv").write_text("id,text\n" + "".join(f"{i},word {i}\n" for i in range(300)))
    content = cascades.job(
        tmp_path, models / "sentiment", pairs["sentiment"], first={"agree": 0.99, "confidence": 0.95}
    )
    report = execute(content)
    assert (report.first["found"].answered, report.first["found"].rows) == (0, 0)
    assert cascades.values(tmp_path / "out") == cascades.alone(content, tmp_path / "large")
    [task] = json.loads((tmp_path / "out/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    why = task["first"]["measured"]["why"]
    assert "the run has 300 rows to compute" in why
    assert "368 rows that agree" in why
    assert "give it 2,451 rows" in why
    assert execute(content).rows_in == 0


def test_models_that_disagree_take_no_shortcut_and_are_not_measured_every_night(tmp_path, models, monkeypatch):
    cascades.write(tmp_path / "in")
    other = tiny.bert(tmp_path / "other", "classify", ["negative", "neutral", "positive"], seed=8)
    content = cascades.job(tmp_path, models / "sentiment", other, first={"agree": 0.9})
    report = execute(content)
    assert report.first["found"].answered == 0
    assert "no confidence of first.model from which both models agree on 0.9" in cascades.measured(content).why
    assert cascades.values(tmp_path / "out") == cascades.alone(content, tmp_path / "large")
    cascades.write(tmp_path / "in", n=400, files=1, seed=9)
    monkeypatch.setattr(measure, "draw", lambda *_: pytest.fail("measured again"))
    assert execute(content).rows_in == 400


def test_a_run_with_more_rows_measures_again_what_a_smaller_one_could_not_certify(tmp_path, made):
    assert execute(made).first["found"].answered > 0
    key = planning.make(spec.parse(made)).tasks[0].first.key
    store = Store(str(tmp_path / "out"))
    kept.keep(store, key, kept.Measured(None, "x", rows=10, why="not used"))
    cascades.write(tmp_path / "in", n=400, files=1, seed=9)
    assert execute(made).first["found"].answered > 0
    assert cascades.measured(made).threshold is not None


def test_a_run_that_was_cut_off_continues_with_its_threshold_and_gives_the_same_bytes(tmp_path, made, monkeypatch):
    execute(made | {"sink": {"path": str(tmp_path / "whole")}})
    execute_all = run.execute

    def half(held):
        beam.execute(held.plan, held.plan.shards_todo[:1], held.models, held.stop)
        raise SinkError("the store is away")

    monkeypatch.setattr(run, "execute", half)
    with pytest.raises(SinkError):
        execute(made)
    monkeypatch.setattr(run, "execute", execute_all)
    monkeypatch.setattr(measure, "draw", lambda *_: pytest.fail("measured again"))
    report = execute(made)
    assert (report.attempts, report.shards_skipped) == (2, 1)
    # Both attempts are counted.
    assert report.first["found"].rows == sum(value is not None for value in cascades.values(tmp_path / "out"))
    assert cascades.values(tmp_path / "out") == cascades.values(tmp_path / "whole")


def test_worker_processes_use_the_threshold_of_the_plan(tmp_path, made):
    execute(made | {"sink": {"path": str(tmp_path / "one")}})
    report = execute(made | {"runner": {"workers": 2}})
    assert report.first["found"].answered > 0
    assert cascades.values(tmp_path / "out") == cascades.values(tmp_path / "one")


def test_the_plan_carries_the_threshold_and_both_models_to_other_machines(tmp_path, made):
    with run.holding(run.prepare(spec.parse(made))) as held:
        plan = held.plan
    [task] = plan.tasks
    assert task.is_cascade
    assert plan.exact is not None
    assert plan.exact != plan.fingerprint
    copy = Plan.from_json(plan.to_json())
    assert (copy.tasks[0].first, copy.exact) == (task.first, plan.exact)
    assert copy.tasks[0].identity == task.identity
    assert [pin.name for pin in task.pins] == [made["tasks"][0]["model"], made["tasks"][0]["first"]["model"]]
    assert held.models.annotator(task).annotator.threshold == task.first.threshold


def test_a_source_whose_rows_nobody_has_counted_is_sampled_from_all_of_its_rows(tmp_path, made):
    content = made | {"source": {"path": str(tmp_path / "in"), "where": "length(text) > 12 or text is null"}}
    report = execute(content)
    assert report.rows_in < 400
    assert report.first["found"].answered > 0


def test_a_task_that_reads_the_column_of_another_one_is_measured_on_that_column(tmp_path, made, shout):
    before = {"task": shout.task, "column": "text", "into": "loud"}
    [task] = made["tasks"]
    content = made | {"tasks": [before, task | {"column": "loud"}]}
    assert execute(content).first["found"].answered > 0
    assert execute(content).rows_in == 0


def test_int8_is_compared_with_float32_for_the_large_model_alone(tmp_path, made):
    [task] = made["tasks"]
    content = made | {"tasks": [task | {"dtype": "int8", "min_agreement": 0.2}]}
    report = execute(content)
    [kept_task] = json.loads((tmp_path / "out/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    assert kept_task["agreement"] > 0.2
    assert report.first["found"].answered > 0


def test_models_that_were_measured_are_not_loaded_again_for_the_run(made, monkeypatch):
    from transforms import model

    loads = []
    load = model.load
    monkeypatch.setattr(model, "load", lambda ref, kind: loads.append(ref.path) or load(ref, kind))
    execute(made)
    assert len(loads) == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"task": "fill_mask"}, "first is for classify, ner, zero_shot, and task is 'fill_mask'"),
        ({"first": {"model": "m", "agree": 1.0}}, "tasks.0.first.agree is 1.0; input should be less than 1"),
        ({"first": {"model": "m", "agree": 0}}, "tasks.0.first.agree is 0; input should be greater than 0"),
        ({"first": {"model": "m", "confidence": 1.2}}, "tasks.0.first.confidence is 1.2; input should be less than 1"),
        ({"first": {"agree": 0.9}}, "tasks.0.first.model is missing"),
        ({"first": {"model": "m", "agre": 0.9}}, r"tasks.0.first.agre is not a key; did you mean agree\?"),
        ({"first": {"model": "large"}}, "first.model is 'large', which is also model"),
        ({"device_map": "auto"}, "first and device_map cannot both be given"),
        ({"adapter_column": "id", "adapters": {"a": "base"}}, "first and adapter_column cannot both be given"),
    ],
)
def test_a_first_model_that_cannot_be_is_refused_in_one_sentence(tmp_path, keys, message):
    content = cascades.job(tmp_path, "large", "small", task_keys=keys)
    content["tasks"][0] |= keys
    with pytest.raises(SpecError, match=message) as error:
        spec.parse(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("large", "small", "task", "message"),
    [
        ("sentiment", "topics", "classify", r"tasks.0: first.model has the labels price, size, taste, and model has"),
        ("stars", "spam", "classify", "a regression gives numbers"),
        ("ner", "ner_plain", "ner", "both need the same labels"),
        ("sentiment", "ner", "classify", r"tasks.0: first: classify needs a model with a head"),
        ("nli", "sentiment", "zero_shot", "tasks.0: first: zero_shot needs a model with a label called entailment"),
    ],
)
def test_a_smaller_model_with_other_labels_is_refused_when_the_job_is_planned(
    tmp_path, models, large, small, task, message
):
    cascades.write(tmp_path / "in", n=20, files=1)
    keys = ZERO_SHOT if task == "zero_shot" else {}
    content = cascades.job(tmp_path, models / large, models / small, task, task_keys=keys)
    with pytest.raises(ModelError, match=message):
        planning.make(spec.parse(content))


def test_a_copy_of_the_model_is_no_smaller_model(tmp_path, models):
    cascades.write(tmp_path / "in", n=20, files=1)
    copy = cascades.like(models / "sentiment", tmp_path / "copy", noise=0.0)
    content = cascades.job(tmp_path, models / "sentiment", copy)
    with pytest.raises(SpecError, match=r"tasks.0.first.model .* has the weights of model; give a smaller model"):
        planning.make(spec.parse(content))


def test_a_large_model_whose_smaller_one_is_left_out_is_loaded_once(tmp_path, models, monkeypatch):
    from transforms import model

    cascades.write(tmp_path / "in")
    other = cascades.like(models / "sentiment", tmp_path / "other", noise=3.0)
    loads, load = [], model.load
    monkeypatch.setattr(model, "load", lambda ref, kind: loads.append(ref.path) or load(ref, kind))
    report = execute(cascades.job(tmp_path, models / "sentiment", other))
    assert report.first["found"].answered == 0
    assert sorted(loads) == sorted([str(models / "sentiment"), str(other)])
