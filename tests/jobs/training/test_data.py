"""Rows for training: splits that never change sides, leaks, and the message for each bad row."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training import data, duplicates, identity, spec
from transforms.errors import SpecError

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ri", "so", "tu") for b in ("ba", "de", "fi", "gol", "hum")]


def sentences(n, seed=0, words=12):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(n)]


def table(n, seed=0, labels=("good", "bad")):
    return pa.table({"text": sentences(n, seed), "label": [labels[i % len(labels)] for i in range(n)]})


def training(tmp_path, train, holdout=None, task="classify", **more):
    pq.write_table(train, tmp_path / "train.parquet")
    section = {"train": {"path": str(tmp_path / "train.parquet")}} | more.pop("data", {})
    if holdout is not None:
        pq.write_table(holdout, tmp_path / "holdout.parquet")
        section["holdout"] = {"path": str(tmp_path / "holdout.parquet")}
    content = {"name": "t", "task": task, "base": {"model": "x"}, "registry": "r", "data": section}
    return spec.parse(content | more)


def test_a_row_stays_on_its_side_when_rows_are_added(tmp_path):
    rows = table(400)
    before = data.load(training(tmp_path, rows.slice(0, 200)))
    after = data.load(training(tmp_path, rows))
    for side in ("train", "validation", "holdout"):
        assert set(getattr(before, side)["key"].to_pylist()) <= set(getattr(after, side)["key"].to_pylist())
    assert len(after.train) + len(after.validation) + len(after.holdout) == 400
    assert 50 < len(after.holdout) < 110


def test_the_order_of_rows_and_files_changes_nothing(tmp_path):
    rows = table(60)
    first = data.load(training(tmp_path, rows))
    again = data.load(training(tmp_path, rows.take(list(reversed(range(60))))))
    assert (first.train_hash, first.holdout_hash) == (again.train_hash, again.holdout_hash)
    assert first.train.equals(again.train)


def test_exact_and_near_duplicates_of_the_holdout_are_taken_out_of_the_training_rows(tmp_path):
    rows, holdout = table(40), table(20, seed=1)
    texts = rows["text"].to_pylist()
    held = holdout["text"].to_pylist()
    texts[0] = held[0].upper() + " !!"
    long = sentences(1, seed=5, words=60)[0]
    texts[1], held[1] = f"{long} order 17", f"{long} order 4711"
    rows = rows.set_column(0, "text", pa.array(texts))
    holdout = holdout.set_column(0, "text", pa.array(held))
    found = data.load(training(tmp_path, rows, holdout))
    assert found.leaked == 2
    assert not set(found.train["key"].to_pylist()) & set(found.holdout["key"].to_pylist())
    assert len(found.train) + len(found.validation) == 38


def test_rows_repeated_with_the_same_truth_count_once(tmp_path):
    rows = pa.concat_tables([table(30), table(30).slice(0, 5)])
    assert data.load(training(tmp_path, rows, table(10, seed=1))).duplicates == 5


@given(st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12), min_size=1, max_size=8))
def test_near_duplicates_are_those_of_a_comparison_of_every_pair(made):
    texts = [" ".join(words) for words in made]
    others = texts[::2]
    sets = [duplicates.shingles(text) for text in others]

    def alike(text):
        mine = duplicates.shingles(text)
        return any(len(mine & each) / len(mine | each) >= duplicates.THRESHOLD for each in sets)

    assert duplicates.near(texts, others) == [alike(text) for text in texts]


@given(st.text(max_size=40))
def test_case_and_white_space_do_not_change_the_identity_of_a_text(text):
    assert identity.key(f"  {text}\n") == identity.key(text)
    assert identity.key("Good  DAY, folks!") == identity.key("good day folks")
    assert identity.key(":)") != identity.key(":(")


def test_a_label_is_never_in_the_validation_rows_only(tmp_path):
    rows = table(40, labels=[f"l{i}" for i in range(20)])
    found = data.load(training(tmp_path, rows, table(40, seed=1, labels=[f"l{i}" for i in range(20)])))
    assert set(found.validation["label"].to_pylist()) <= set(found.train["label"].to_pylist())
    assert found.labels == tuple(sorted(f"l{i}" for i in range(20)))


def test_a_rare_label_stops_no_training_when_the_holdout_is_split_off(tmp_path):
    """Two rows of a label are both in the training rows, both in the holdout, or one in each."""
    found = set()
    for seed in range(20):
        rows = pa.concat_tables([table(200), pa.table({"text": sentences(2, 100 + seed), "label": ["rare"] * 2})])
        loaded = data.load(training(tmp_path, rows, data={"holdout": {"fraction": 0.5}}))
        assert loaded.labels == ("bad", "good", "rare")
        held = loaded.holdout["label"].to_pylist().count("rare")
        assert loaded.unlearnt == (("rare",) if held == 2 else ())
        found.add(held)
    assert found == {0, 1, 2}


def test_where_and_numbers_as_labels_work_and_rows_without_text_are_counted(tmp_path):
    rows = pa.table({"text": [*sentences(40), "", None], "label": [*[i % 2 for i in range(40)], 0, 1]})
    where = {"train": {"path": str(tmp_path / "train.parquet"), "where": "label < 5"}}
    found = data.load(training(tmp_path, rows, data=where | {"holdout": {"fraction": 0.3}}))
    assert found.labels == ("0", "1")
    assert found.without_text == 2


def changed(rows, column, values):
    return rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("train", "holdout", "message"),
    [
        (
            table(30).drop_columns("label"),
            table(9, 1),
            "column 'label' (data.label) is not in data.train; columns",
        ),
        (changed(table(30), "label", ["a", None] * 15), table(9, 1), "has no label (15 of 30 rows have none)"),
        (changed(table(30), "label", ["a", " "] * 15), table(9, 1), "has an empty label (15 of 30 rows have)"),
        (changed(table(30), "label", ["a"] * 30), table(9, 1), "have 1 label in column 'label' (a)"),
        (
            table(30),
            table(9, 1, labels=("good", "bda")),
            "label 'bda' in data.holdout (4 rows) has no training row",
        ),
        (table(30), table(9, 1, labels=("good",)), "label 'bad' has 15 training rows and none in data.holdout"),
        (table(30), table(9, 1).slice(0, 0), "the holdout has no rows"),
        (table(4), table(9, 1), "a training needs 8 or more"),
        (changed(table(30), "label", [0.5] * 30), table(9, 1), "column 'label' of data.train is double, and label"),
    ],
)
def test_bad_rows_are_one_sentence(tmp_path, train, holdout, message):
    with pytest.raises(SpecError) as raised:
        data.load(training(tmp_path, train, holdout))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        ({"label": "PER", "start": 0, "end": 999}, "characters; start and end count characters"),
        ({"label": "PER", "start": 5, "end": 5}, "characters; start and end count characters"),
        ({"label": None, "start": 0, "end": 3}, "give label, start and end"),
        ({"label": "LOC", "start": 2, "end": 6}, "overlaps the entity before it"),
    ],
)
def test_entities_that_do_not_fit_their_text_are_refused(tmp_path, entity, message):
    first = {"label": "PER", "start": 0, "end": 4}
    entities = [[first] for _ in range(20)]
    entities[3] = [first, entity] if entity["label"] == "LOC" else [entity]
    rows = pa.table({"text": sentences(20), "entities": entities})
    with pytest.raises(SpecError) as raised:
        data.load(training(tmp_path, rows, task="ner"))
    assert message in str(raised.value)


def test_rows_with_conversations_and_no_prompt_are_told_of_the_key(tmp_path):
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = pa.table({"messages": [talk] * 4})
    with pytest.raises(SpecError, match=r"'prompt' \(data.prompt\) is not in .*write data.messages: messages"):
        data.load(training(tmp_path, rows, task="generate", objective="sft"))
    with pytest.raises(SpecError, match=r"\(data.chosen\) is not in data.train; columns: messages$"):
        data.load(training(tmp_path, rows, task="generate", objective="dpo"))


def test_seed_labels_and_labels_of_reviews_are_read_together(tmp_path):
    review = tmp_path / "review"
    section = {"review": str(review), "holdout": {"fraction": 0.5}}
    first = data.load(training(tmp_path, table(40), data=section))
    texts = sentences(60, seed=3)
    found = pa.table(
        {
            "id": list(range(60)),
            "text": texts,
            "mood": [{"label": "bad", "score": 0.5}] * 60,
            "label": ["good", "bad"] * 30,
            "review_drawn": ["uniform"] * 30 + ["uncertain"] * 30,
        }
    )
    (review / "labels" / "job").mkdir(parents=True)
    pq.write_table(found, review / "labels" / "job" / "run.parquet")
    both = data.load(training(tmp_path, table(40), data=section))
    assert len(both.train) + len(both.validation) + len(both.holdout) == 100
    added = set(both.holdout["text"].to_pylist()) - set(first.holdout["text"].to_pylist())
    assert added
    assert added <= set(texts[:30])


def test_a_list_of_files_with_different_columns_is_read(tmp_path):
    pq.write_table(table(30, seed=4).append_column("id", pa.array(range(30))), tmp_path / "more.parquet")
    paths = [str(tmp_path / "train.parquet"), str(tmp_path / "more.parquet")]
    found = data.load(training(tmp_path, table(30), data={"train": {"path": paths}, "holdout": {"fraction": 0.2}}))
    assert len(found.train) + len(found.validation) + len(found.holdout) == 60
