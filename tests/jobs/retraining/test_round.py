"""Rounds of the loop with real trainings: promoted, refused, nothing new, and the nightly job that follows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.execute.stop import NEVER
from jobs.gate import decision
from jobs.registry import Registry
from jobs.retraining import approval, report, state
from jobs.retraining import round as rounds
from jobs.retraining.outcome import Outcome
from jobs.store import lease
from jobs.training import spec
from tests import lake
from tests.jobs.training import made
from transforms.errors import RunError, SinkBusy, SpecError


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def folder(tmp_path, trainings):
    (tmp_path / "labels").mkdir()
    (tmp_path / "holdout").mkdir()
    pq.write_table(made.labelled(24, seed=1), tmp_path / "labels" / "1.parquet")
    pq.write_table(made.labelled(160, seed=2), tmp_path / "holdout" / "1.parquet")
    return tmp_path


def read(folder, base, epochs, **gate):
    """The training file; more epochs are another training."""
    content = {
        "name": "sentiment",
        "task": "classify",
        "base": {"model": str(base)},
        "data": {"train": {"path": str(folder / "labels")}, "holdout": {"path": str(folder / "holdout")}},
        "training": {"num_train_epochs": epochs, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        "registry": str(folder / "registry"),
        "gate": {"metric": "accuracy", "floor": 0.1} | gate,
    }
    return spec.parse(content)


def nightly(folder, base, name):
    """The labels that a nightly job writes with the champion."""
    source = folder / "in"
    source.mkdir(exist_ok=True)
    rows = made.labelled(40, seed=9).select(["text"])
    pq.write_table(rows.append_column("id", pa.array([f"{i:02}" for i in range(40)])), source / "a.parquet")
    task = {"task": "classify", "column": "text", "model": str(base), "adapter": f"{folder / 'registry'}@champion"}
    content = {"name": "nightly", "source": {"path": str(source)}, "sink": {"path": str(folder / "out")}}
    lake.execute(content | {"tasks": [task | {"into": name, "dtype": "float32"}]})
    return [row["label"] for row in lake.read(folder / "out")[name].to_pylist()]


def test_the_loop_closes_and_can_be_undone(folder, models):
    """A first version, a better one on more labels, a night that uses it, a shuffled one, and the first one again."""
    base = models / "mlm"
    first = rounds.run(read(folder, base, 1))
    assert (first.decision, first.approved, first.champion_before) == ("promoted", True, None)
    before = nightly(folder, base, "label")

    again = rounds.run(read(folder, base, 1))
    assert (again.decision, again.version) == ("nothing new", first.version)
    assert "was trained on these rows before, and promoted" in again.reason

    pq.write_table(made.labelled(240, seed=3), folder / "labels" / "2.parquet")
    second = rounds.run(read(folder, base, 8))
    assert (second.decision, second.approved, second.champion_before) == ("promoted", True, first.version), (
        second.reason
    )
    assert second.value > first.value
    assert second.gain_low > 0
    assert second.evidence == "160 rows of the holdout, spent for this challenger"
    registry = Registry(str(folder / "registry"))
    assert decision.verify(registry.champion().receipt) == []
    truth = made.labelled(40, seed=9)["label"].to_pylist()
    after = nightly(folder, base, "label")
    assert np.mean(np.array(after) == truth) > np.mean(np.array(before) == truth)

    shuffled = made.labelled(400, seed=4)
    labels = np.random.default_rng(0).permutation(shuffled["label"].to_pylist())
    pq.write_table(shuffled.set_column(1, "label", pa.array(labels)), folder / "labels" / "3.parquet")
    (folder / "labels" / "2.parquet").unlink()
    third = rounds.run(read(folder, base, 8))
    assert third.decision == "refused"
    assert third.reason == "it is worse than the champion on the holdout, which is certain for 160 rows"
    assert third.evidence == "none", "no row of the holdout decides twice"
    assert registry.champion().version == second.version

    registry.rollback("ada", "to see the first one again")
    assert nightly(folder, base, "label") == before


@pytest.mark.usefixtures("in_process")
def test_a_worse_challenger_is_refused_by_the_rows_of_the_holdout(folder, models):
    good = made.labelled(240, seed=3)
    pq.write_table(good, folder / "labels" / "2.parquet")
    champion = rounds.run(read(folder, models / "mlm", 8))
    assert champion.decision == "promoted"
    swapped = {"good": "bad", "bad": "good"}
    wrong = pa.array([swapped[label] for label in good["label"].to_pylist()])
    pq.write_table(good.set_column(1, "label", wrong), folder / "labels" / "2.parquet")
    outcome = rounds.run(read(folder, models / "mlm", 8))
    assert (outcome.decision, outcome.approved) == ("refused", False), outcome.reason
    assert outcome.gain < 0
    assert Registry(str(folder / "registry")).champion().version == champion.version
    assert state.ring(Registry(str(folder / "registry"))).challenger is None
    page = report.markdown(outcome, "registry/reports/x.md")
    assert "answered differently" in page
    assert "data:image/png;base64," in page
    assert not any(text in page for text in made.labelled(160, seed=2)["text"].to_pylist())
    rows = (folder / "registry" / rounds.examples_of(outcome)).read_text()
    assert rows.count("\n") > 10


@pytest.mark.usefixtures("in_process")
def test_a_version_below_the_floor_is_refused(folder, models):
    outcome = rounds.run(read(folder, models / "mlm", 1, floor=0.999))
    assert (outcome.decision, outcome.approved) == ("refused", False)
    assert "below the floor" in outcome.reason
    assert Registry(str(folder / "registry")).champion() is None
    line = json.loads(outcome.to_json())
    keys = "version champion_before metric value champion_value gain gain_low gain_high slices decision reason"
    assert {*keys.split(), "rows_train", "rows_holdout", "seconds"} <= set(line)


@pytest.mark.usefixtures("in_process")
def test_the_report_names_labels_that_the_holdout_lacks_and_a_slow_challenger_is_refused(folder, models):
    labels = folder / "labels" / "1.parquet"
    rows = made.labelled(120, ("good", "bad"), seed=1)
    rare = pa.table({"text": made.sentences(40, seed=5), "label": [f"rare {i}" for i in range(40)]})
    pq.write_table(pa.concat_tables([rows, rare]), labels)
    content = read(folder, models / "mlm", 1).model_dump(exclude_unset=True)
    content["data"] = {"train": {"path": str(folder / "labels")}, "holdout": {"fraction": 0.3}}
    first = rounds.run(spec.parse(content))
    assert first.decision == "promoted"
    lacking, unlearnt = first.notes
    assert lacking.startswith("the holdout has no row of 'rare ")
    assert " more; label more rows of them" in lacking
    assert unlearnt.startswith("the training rows have no row of 'rare ")
    page = report.markdown(first)
    assert all(f"- {note}" in page for note in first.notes)
    assert f"reports/{first.version}-mislabelled.md" in page or first.mislabelled == 0
    assert (folder / "registry" / report.mislabelled_rows(first.version)).is_file()

    content["gate"] |= {"max_latency": 0.01}
    content["training"] |= {"num_train_epochs": 2}
    second = rounds.run(spec.parse(content))
    assert (second.decision, second.approved) == ("refused", False)
    assert "times as long as the champion, and 0.01 is allowed" in second.reason


@pytest.mark.usefixtures("in_process")
def test_a_person_refuses_what_the_gate_has_accepted(folder, models):
    parsed = read(folder, models / "mlm", 1)
    with rounds.holding(parsed) as registry:
        measured = rounds.measure(parsed, registry)
        assert measured.outcome.decision == "promoted"
        assert registry.champion() is None
        refused = approval.answer(registry, measured.outcome.version, approved=False, by="ada", reason="too early")
        assert (refused.decision, refused.reason) == ("refused", "refused by ada: too early")
        assert registry.champion() is None
        assert rounds.measure(parsed, registry).outcome.decision == "nothing new"


@pytest.mark.usefixtures("in_process")
def test_an_approval_is_about_the_version_that_was_shown_and_counts_once(folder, models):
    parsed = read(folder, models / "mlm", 1)
    with rounds.holding(parsed) as registry:
        shown = rounds.measure(parsed, registry).outcome
        # New labels, from which a round would train another version.
        pq.write_table(made.labelled(240, seed=3), folder / "labels" / "2.parquet")
        done = approval.answer(registry, shown.version, approved=True, by="ada", reason="looks right")
        assert (done.version, done.decision, done.approved) == (shown.version, "promoted", True)
        assert (done.value, done.rows_train, done.rows_holdout) == (shown.value, shown.rows_train, shown.rows_holdout)
        assert [version.version for version in registry.versions()] == [shown.version]
        again = approval.answer(registry, shown.version, approved=True, by="ada", reason="looks right")
        assert (again.decision, again.reason) == ("promoted", "approved by ada: looks right")
        (move,) = registry.history()
        assert (move.by, move.reason, decision.verify(move.receipt)) == ("ada", "looks right", [])

        # The same with a champion, so that the gate asks for evidence.
        second = rounds.measure(read(folder, models / "mlm", 8), registry).outcome
        assert second.decision == "promoted", second.reason
        ring = state.ring(registry)
        state.keep_ring(registry, ring.settle(promoted=False).enter("0123456789ab", shown.version, "2026-11-25T04:00Z"))
        with pytest.raises(RunError, match=f"0123456789ab is the challenger in .* now, and not {second.version}"):
            approval.answer(registry, second.version, approved=True, by="ada", reason="better")
        assert registry.champion().version == shown.version
        state.keep_ring(registry, ring)
        done = approval.answer(registry, second.version, approved=True, by="ada", reason="better")
        assert (done.champion_before, done.gain, done.evidence) == (shown.version, second.gain, second.evidence)
        assert (state.ring(registry).challenger, state.ring(registry).promotions) == (None, 1)
        (folder / "registry" / "gate" / "decisions" / f"{second.version}.json").unlink()
        with pytest.raises(RunError, match="the gate does not accept version"):
            approval.answer(registry, second.version, approved=False, by="ada", reason="no")


@pytest.mark.usefixtures("in_process")
def test_an_accepted_version_whose_process_ended_is_promoted_by_the_next_round(folder, models):
    parsed = read(folder, models / "mlm", 1)
    with rounds.holding(parsed) as registry:
        version = rounds.measure(parsed, registry).outcome.version
    outcome = rounds.run(parsed)
    assert (outcome.decision, outcome.approved, outcome.version) == ("promoted", True, version)


@pytest.mark.usefixtures("in_process")
def test_two_rounds_at_once_and_a_holdout_that_lost_rows_are_refused(folder, models):
    parsed = read(folder, models / "mlm", 1)
    with lease.hold(Registry(parsed.registry).store), pytest.raises(SinkBusy, match="is held by another training"):
        rounds.run(parsed, stop=NEVER)
    rounds.run(parsed)
    pq.write_table(made.labelled(80, seed=2), folder / "holdout" / "1.parquet")
    with pytest.raises(SpecError, match=r"data.holdout lacks \d+ of the 160 rows on which the champion was measured"):
        rounds.run(parsed)


def test_an_outcome_survives_json():
    outcome = Outcome("a", None, "accuracy", 0.9, None, None, None, None, {}, "promoted", "first", 10, 5, 1.0)
    assert Outcome(**json.loads(json.dumps(outcome.as_dict()))) == outcome
