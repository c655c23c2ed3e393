"""Deliberately swapped labels are found among the rows that the model did not learn, and few others."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.retraining import mislabelled, report
from tests.jobs.training import made

SWAP = {"good": "bad", "bad": "good"}


def swapped(rows, share, seed=0):
    """Rows with some labels swapped, and the texts of these."""
    rng = random.Random(seed)
    labels = rows["label"].to_pylist()
    wrong = rng.sample(range(len(rows)), int(share * len(rows)))
    for row in wrong:
        labels[row] = SWAP[labels[row]]
    return rows.set_column(1, "label", pa.array(labels)), {rows["text"][row].as_py() for row in wrong}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("rows", "validation"), [(800, 0.4), (600, 0)])
def test_most_swapped_labels_are_found_and_few_others(tmp_path, models, rows, validation):
    """With validation rows among these, without by a cross-fit over all rows."""
    table, wrong = swapped(made.labelled(rows), 0.08)
    pq.write_table(made.labelled(40, seed=7), tmp_path / "holdout.parquet")
    data = {"train": {"path": str(tmp_path / "rows.parquet")}, "holdout": {"path": str(tmp_path / "holdout.parquet")}}
    steps = {"per_device_train_batch_size": 16, "learning_rate": 5e-3, "num_train_epochs": 8 if validation else 10}
    more = {"training": steps, "method": "full", "data": data | {"validation": validation}}
    _, result = made.trained(tmp_path, "classify", models / "mlm", table, **more)
    asked = pq.read_table(result.losses)
    examined = wrong & set(asked["text"].to_pylist())
    assert len(asked) == (rows if not validation else pytest.approx(validation * rows, rel=0.2))
    found = mislabelled.find(asked, result.labels, most=rows)
    right = sum(row.text in wrong for row in found.rows)
    assert right > 0.6 * len(examined)
    assert right > 0.6 * found.found
    assert all(SWAP[row.given] == row.expected for row in found.rows)
    assert [row.loss for row in found.rows] == sorted((row.loss for row in found.rows), reverse=True)
    assert not list((tmp_path / "work").glob("cross-fit*"))


def table(probabilities, labels):
    losses = [1.0 + i / 100 for i in range(len(labels))]
    texts = [f"text {i}" for i in range(len(labels))]
    return pa.table({"text": texts, "label": labels, "loss": losses, "probabilities": probabilities.tolist()})


def test_a_label_of_which_the_model_is_never_certain_is_no_mistake():
    """Rows of `c` have probability 0.4 for c and 0.45 for a, whose own rows have 0.9."""
    rows = np.array([[0.9, 0.05, 0.05]] * 30 + [[0.05, 0.9, 0.05]] * 30 + [[0.45, 0.15, 0.4]] * 5)
    assert mislabelled.find(table(rows, ["a"] * 30 + ["b"] * 30 + ["c"] * 5), ["a", "b", "c"]).found == 0
    rows[3] = [0.05, 0.95, 0.0]
    found = mislabelled.find(table(rows, ["a"] * 30 + ["b"] * 30 + ["c"] * 5), ["a", "b", "c"])
    assert [(row.text, row.given, row.expected) for row in found.rows] == [("text 3", "a", "b")]


def test_of_several_labels_each_one_can_be_missing_or_too_much():
    rows = np.array([[0.9, 0.1]] * 20 + [[0.1, 0.9]] * 20 + [[0.95, 0.95]])
    given = [["a"]] * 19 + [["a", "b"]] + [["b"]] * 20 + [["a"]]
    found = mislabelled.find(table(rows, given), ["a", "b"])
    assert [(row.given, row.expected) for row in found.rows] == [("a", "a, b"), ("a, b", "a")]


def test_a_model_that_only_guesses_names_no_row():
    rows = np.random.default_rng(0).dirichlet([1, 1], 200)
    labels = np.random.default_rng(1).choice(["a", "b"], 200, p=[0.7, 0.3]).tolist()
    assert mislabelled.find(table(rows, labels), ["a", "b"]).found == 0


def test_the_list_is_short_and_its_texts_are_cut():
    rows = np.array([[0.9, 0.1]] * 150 + [[0.1, 0.9]] * 150)
    found = mislabelled.find(table(rows, ["a"] * 90 + ["b"] * 60 + ["b"] * 150), ["a", "b"])
    assert (found.examined, found.found, len(found.rows)) == (300, 60, 20)
    page = report.mislabelled("v1", mislabelled.Mislabelled(300, 1, (mislabelled.Suspect("x " * 200, "a", "b", 2.0),)))
    assert "| a | b | 0.135 | x x" in page
    assert max(map(len, page.splitlines())) < 250
