"""Labels of rows on which champion and challenger differ, drawn in real nights, decide between the two."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.gate import decision
from jobs.registry import Registry
from jobs.retraining import round as rounds
from jobs.retraining import state
from jobs.review import columns
from jobs.training import data, spec
from tests import lake
from tests.jobs.training import made

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def training(folder, base, epochs=8):
    """The training file; its holdout is too small to be evidence."""
    content = {
        "name": "sentiment",
        "task": "classify",
        "base": {"model": str(base)},
        "data": {
            "train": {"path": str(folder / "labels")},
            "review": str(folder / "review"),
            "holdout": {"path": str(folder / "holdout")},
        },
        "training": {"num_train_epochs": epochs, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        "registry": str(folder / "registry"),
        "gate": {"metric": "accuracy", "floor": 0.1},
    }
    return spec.parse(content)


def night(folder, base, number, truth):
    """A night over rows that nobody has seen, with a review; returns the file with the drawn rows."""
    (folder / "in").mkdir(exist_ok=True)
    rows = made.labelled(300, seed=100 + number)
    truth.update(zip(rows["text"].to_pylist(), rows["label"].to_pylist(), strict=True))
    texts = rows.select(["text"]).append_column("id", pa.array([f"{number}-{i}" for i in range(300)]))
    pq.write_table(texts, folder / "in" / f"{number}.parquet")
    task = {"task": "classify", "column": "text", "model": str(base), "into": "found", "dtype": "float32"}
    content = {
        "name": "nightly",
        "source": {"path": str(folder / "in")},
        "tasks": [task | {"adapter": f"{folder / 'registry'}@champion"}],
        "sink": {"path": str(folder / "out")},
        "review": {"rows": 160, "path": str(folder / "review")},
    }
    return folder / "review" / columns.draw_file("nightly", lake.execute(content).run_id)


def label(folder, file, truth, complete=True):
    """What people answer, as `nightscribe labels` writes it."""
    rows = pq.read_table(file)
    if not complete:
        rows = rows.slice(0, len(rows) - 1)
    rows = rows.append_column("label", pa.array([truth[text] for text in rows["text"].to_pylist()]))
    rows = rows.append_column(columns.SKIPPED, pa.array([0] * len(rows)))
    rows = rows.append_column(columns.COMPLETE, pa.array([complete] * len(rows)))
    target = folder / "review" / columns.labels_file("nightly", file.stem)
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, target)


@pytest.fixture
def folder(tmp_path, models, trainings):
    """A weak champion, and a better challenger that waits because the holdout is too small to decide."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "holdout").mkdir()
    pq.write_table(made.labelled(16, seed=2), tmp_path / "holdout" / "1.parquet")
    pq.write_table(made.labelled(24, seed=1), tmp_path / "labels" / "1.parquet")
    assert rounds.run(training(tmp_path, models / "mlm", epochs=1)).decision == "promoted"
    pq.write_table(made.labelled(240, seed=3), tmp_path / "labels" / "2.parquet")
    return tmp_path


def test_labels_drawn_for_a_waiting_challenger_prove_that_it_is_better(folder, models):
    base, truth = models / "mlm", {}
    waiting = rounds.run(training(folder, base))
    assert (waiting.decision, waiting.evidence) == ("waiting", "none")
    assert waiting.notes[0] == f"data.review '{folder / 'review'}' has no labelled rows yet"

    drawn = night(folder, base, 1, truth)
    label(folder, drawn, truth, complete=False)
    early = rounds.run(training(folder, base))
    assert (early.decision, early.version) == ("waiting", waiting.version), "it stays in the ring"
    assert "1 drawn rows are not labelled yet" in early.evidence

    label(folder, drawn, truth)
    outcome = rounds.run(training(folder, base))
    assert outcome.version == waiting.version
    assert outcome.decision == "promoted", outcome.reason
    assert outcome.evidence.endswith("labels on which the two differ, drawn in 1 runs")
    assert outcome.gain_low > 0
    registry = Registry(str(folder / "registry"))
    assert registry.champion().version == waiting.version
    assert decision.verify(registry.champion().receipt) == []
    (evidence,) = registry.champion().receipt["ring"]["nights"]
    differences = pq.read_table(drawn).filter(pa.compute.equal(pq.read_table(drawn)[columns.DRAWN], "difference"))
    assert sorted(evidence["keys"]) == sorted(differences[columns.KEY].to_pylist())
    assert evidence["draw"]["others"] == differences["review_others"][0].as_py()
    assert state.ring(registry).challenger is None

    after = rounds.run(training(folder, base))
    assert after.version != waiting.version, "the next challenger learns from the labels too"


def test_labels_of_a_review_are_found_under_another_name_of_the_column_than_the_seed_has(tmp_path, models):
    rows = made.labelled(40, seed=3)
    pq.write_table(rows.rename_columns(["text", "feeling"]), tmp_path / "seed.parquet")
    target = tmp_path / "review" / columns.labels_file("nightly", "run")
    target.parent.mkdir(parents=True)
    pq.write_table(made.labelled(30, seed=4), target)
    data_ = {"train": {"path": str(tmp_path / "seed.parquet")}, "review": str(tmp_path / "review"), "label": "feeling"}
    given = {"name": "a", "task": "classify", "base": {"model": str(models / "mlm")}, "registry": str(tmp_path / "r")}
    found = data.load(spec.parse(given | {"data": data_}))
    texts = {*rows["text"].to_pylist(), *made.labelled(30, seed=4)["text"].to_pylist()}
    assert len(found.train) + len(found.validation) + len(found.holdout) == len(texts) - found.leaked


def test_only_uniform_rows_are_held_out_and_rows_with_earlier_labels_are_no_evidence(folder, models):
    base, truth = models / "mlm", {}
    rounds.run(training(folder, base))
    drawn = night(folder, base, 1, truth)
    label(folder, drawn, truth)
    parsed = training(folder, base)
    parsed = parsed.model_copy(
        update={"data": parsed.data.model_copy(update={"holdout": spec.FractionSpec(fraction=0.5)})}
    )
    found = data.load(parsed)
    rows = pq.read_table(drawn)
    kinds = dict(zip(rows[columns.KEY].to_pylist(), rows[columns.DRAWN].to_pylist(), strict=True))
    assert {kinds.get(key) for key in found.holdout["key"].to_pylist()} == {None, columns.UNIFORM}
    assert {kinds.get(key) for key in found.train["key"].to_pylist()} >= {None, columns.UNIFORM, columns.DIFFERENCE}
    differences = {key for key, kind in kinds.items() if kind == columns.DIFFERENCE}
    assert set(found.differences["key"].to_pylist()) == differences
    assert not {name for name in found.train.schema.names if name.startswith("review_")}

    known = rows.filter(pa.compute.equal(rows[columns.KEY], min(differences)))["text"].to_pylist()
    pq.write_table(pa.table({"text": known, "label": ["good"]}), folder / "labels" / "seed.parquet")
    assert set(data.load(parsed).differences["key"].to_pylist()) == differences - {min(differences)}
