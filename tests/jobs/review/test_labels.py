"""Exports of label tools as rows for training: joined, counted, corrected, refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.review import columns, labels
from tests.jobs.review import draws
from transforms.errors import SpecError

EXPORTS = Path(__file__).parent / "exports"
DRAWS = {"classify": draws.single, "topics": draws.several, "ner": draws.entities, "summarize": draws.texts}

MARKED = [
    [("PER", 0, 3), ("LOC", 9, 15), ("PER", 18, 21), ("PER", 22, 26), ("LOC", 30, 34)],
    [("PER", 15, 18), ("PER", 33, 38)],
    [("PER", 10, 15), ("PER", 16, 20)],
    [("PER", 3, 9)],
]
SUGGESTED = [[("PER", 0, 3), ("LOC", 9, 15), ("PER", 22, 26)], [("LOC", 0, 3)], []]
WRITTEN = ['short, "quoted"\nand two lines', "two"]


def spans(rows):
    return [[tuple(entity.values()) for entity in row] for row in rows]


def taken(folder, name, *files):
    draws.save(folder, DRAWS[name]())
    return labels.take(str(folder), [str(file) for file in files]).runs[0], draws.labelled(folder)


def plain(folder, rows, name="labels.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize(
    ("file", "column", "truth"),
    [
        ("label_studio/topics.json", "label", [["price"], ["size", "taste"], []]),
        ("label_studio/topics.min.json", "label", [["price"], ["size", "taste"], []]),
        ("label_studio/topics.csv", "label", [["price"], ["size", "taste"], []]),
        ("label_studio/ner.json", "entities", MARKED),
        ("label_studio/ner.csv", "entities", MARKED),
        ("label_studio/summarize.json", "target", WRITTEN),
        ("label_studio/summarize.csv", "target", WRITTEN),
        ("argilla/classify.jsonl", "label", ["good", "mixed & more", "good"]),
        ("argilla/topics.jsonl", "label", [["price"], ["size", "taste"], ["size"]]),
        ("argilla/ner.jsonl", "entities", SUGGESTED),
        ("argilla/ner.parquet", "entities", SUGGESTED),
        ("argilla/summarize.jsonl", "target", ["a", "b\nc", "d"]),
    ],
)
def test_an_export_of_a_tool_becomes_the_truth_of_its_rows(tmp_path, file, column, truth):
    found, rows = taken(tmp_path, Path(file).name.split(".")[0], EXPORTS / file)
    values = rows[column].to_pylist()
    assert (spans(values) if column == "entities" else values) == truth
    assert rows[columns.KEY].to_pylist() == draws.KEYS[: len(truth)]
    assert (found.drawn, found.labelled, found.unknown) == (4, len(truth), {})


@pytest.mark.parametrize(("file", "skipped"), [("classify.json", 2), ("classify.min.json", 1), ("classify.csv", 1)])
def test_the_latest_answer_of_each_person_counts_and_a_tie_is_left_out(tmp_path, file, skipped):
    # One person said good twice, another bad; only JSON has the third row, which was skipped.
    found, rows = taken(tmp_path, "classify", EXPORTS / "label_studio" / file)
    assert rows["label"].to_pylist() == ["mixed & more"]
    assert (found.labelled, found.skipped, found.tied) == (1, skipped, 1)


def test_records_of_argilla_without_states_count_only_if_the_record_is_completed(tmp_path):
    found, rows = taken(tmp_path, "ner", EXPORTS / "argilla" / "ner.json")
    # The draft of the second row cannot be told from the answer beside it.
    assert (found.labelled, found.tied) == (1, 1)
    assert spans(rows["entities"].to_pylist()) == SUGGESTED[:1]


def test_the_same_export_again_changes_nothing(tmp_path):
    _, rows = taken(tmp_path, "topics", EXPORTS / "label_studio/topics.json")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    again, _ = taken(tmp_path, "topics", EXPORTS / "label_studio/topics.json")
    assert {file: file.read_bytes() for file in before} == before
    assert again.labelled == len(rows)


def test_more_labels_add_and_a_corrected_one_replaces(tmp_path):
    draws.save(tmp_path, draws.single())
    take = lambda *rows: labels.take(str(tmp_path), [plain(tmp_path, rows)]).runs[0]  # noqa: E731
    take({"review_key": draws.KEYS[0], "label": "good"}, {"review_key": draws.KEYS[1], "label": "good"})
    found = take({"review_key": draws.KEYS[1], "label": "bad"}, {"review_key": draws.KEYS[3], "label": None})
    assert draws.labelled(tmp_path)["label"].to_pylist() == ["good", "bad"]
    assert (found.labelled, found.skipped) == (2, 0)


def test_a_file_without_names_settles_what_people_disagreed_about(tmp_path):
    taken(tmp_path, "classify", EXPORTS / "label_studio/classify.json")
    settled = plain(tmp_path, [{"review_key": draws.KEYS[0], "label": "bad"}])
    found, rows = taken(tmp_path, "classify", settled)
    assert rows["label"].to_pylist() == ["bad", "mixed & more"]
    assert found.tied == 0
    # The export of the tool is older than that.
    _, rows = taken(tmp_path, "classify", EXPORTS / "label_studio/classify.json")
    assert rows["label"].to_pylist() == ["bad", "mixed & more"]


def test_a_csv_of_a_spreadsheet_is_read(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(f"\ufeffreview_key;label\n{draws.KEYS[0]};bad\n{draws.KEYS[1]};\n", encoding="utf-8")
    _, rows = taken(tmp_path, "classify", file)
    assert rows["label"].to_pylist() == ["bad"]


def test_the_truth_replaces_a_column_of_the_source_and_the_text_has_its_usual_name(tmp_path):
    rows = draws.texts("generate").rename_columns({"text": "question"})
    rows = rows.append_column("completion", pa.array([1, 2, 3, 4]))
    draws.save(tmp_path, rows)
    labels.take(str(tmp_path), [plain(tmp_path, [{"review_key": draws.KEYS[2], "completion": "better"}])])
    found = draws.labelled(tmp_path)
    assert found["completion"].to_pylist() == ["better"]
    assert found["prompt"].to_pylist() == [draws.TEXTS[2]]
    assert found["question"].to_pylist() == [draws.TEXTS[2]]


def test_the_rows_of_a_difference_say_how_many_were_skipped_and_whether_all_are_answered(tmp_path):
    draws.save(tmp_path, draws.single(review_drawn=["uniform", "difference", "difference", "difference"]))
    rows = [{"review_key": key, "label": "good"} for key in draws.KEYS[:2]]
    labels.take(str(tmp_path), [plain(tmp_path, rows)])
    found = draws.labelled(tmp_path)
    assert found[columns.SKIPPED].to_pylist() == [None, 0]
    assert found[columns.COMPLETE].to_pylist() == [None, False]
    rest = [{"review_key": draws.KEYS[3], "label": "bad"}]
    skipped = [
        {
            "data": {"review_key": draws.KEYS[2]},
            "annotations": [{"was_cancelled": True, "result": [], "completed_by": 1}],
        }
    ]
    (tmp_path / "skipped.json").write_text(json.dumps(skipped))
    labels.take(str(tmp_path), [plain(tmp_path, rest), str(tmp_path / "skipped.json")])
    found = draws.labelled(tmp_path)
    assert found[columns.SKIPPED].to_pylist() == [None, 1, 1]
    assert found[columns.COMPLETE].to_pylist() == [None, True, True]


def test_a_label_that_the_model_does_not_know_is_counted_and_named(tmp_path):
    rows = [{"review_key": key, "label": label} for key, label in zip(draws.KEYS, ("good", "new", "new"), strict=False)]
    found, _ = taken(tmp_path, "classify", plain(tmp_path, rows))
    assert found.unknown == {"new": 2}


def test_rows_that_were_never_drawn_are_left_out_and_counted(tmp_path):
    draws.save(tmp_path, draws.single())
    rows = [{"review_key": key, "label": "good"} for key in (draws.KEYS[0], "other")]
    found = labels.take(str(tmp_path), [plain(tmp_path, rows)])
    assert (found.answers, found.strangers, found.stranger) == (2, 1, "other")
    assert found.runs[0].labelled == 1


def test_entities_that_an_old_label_studio_counted_in_code_units_are_placed_by_their_text(tmp_path):
    region = {"start": 23, "end": 27, "text": "Anna", "labels": ["PER"]}
    _, rows = taken(tmp_path, "ner", plain(tmp_path, [{"review_key": draws.KEYS[0], "entities": [region]}]))
    assert spans(rows["entities"].to_pylist()) == [[("PER", 22, 26)]]


KEY = {"review_key": draws.KEYS[0]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classify", b"", "has no rows"),
        ("classify", b"[1, 2]", "is no list of rows; give the JSON"),
        ("classify", b'{"review_key": "a"', "is damaged or of an unknown kind"),
        ("classify", b"\xff\xfe\x00", "is damaged or of an unknown kind"),
        ("classify", b"PAR1 and no more", "is damaged or of an unknown kind"),
        ("classify", b'[{"text": "a", "label": "good"}]', "has no column review_key; columns: label, text"),
        ("classify", json.dumps([KEY]).encode(), "has no column label or entities"),
        ("classify", b'[{"review_key": "x", "label": "good"}]', "has no answer about a row that was drawn"),
        ("classify", json.dumps([KEY | {"label": ["a", "b"]}]).encode(), "has 2 labels (a, b), and one fits"),
        ("classify", json.dumps([KEY | {"target": "a"}]).encode(), "answers 'target', and classify needs 'label'"),
        ("classify", json.dumps([KEY | {"label": {"a": 1}}]).encode(), "has the label {'a': 1}, which is no name"),
        ("ner", json.dumps([KEY | {"entities": "PER"}]).encode(), "has the entity 'PER'; give label, start and end"),
        (
            "ner",
            json.dumps([KEY | {"entities": [{"label": "PER", "start": 30, "end": 99}]}]).encode(),
            "has the entity 'PER' at 30 to 99, and its text has 34 characters",
        ),
        (
            "ner",
            json.dumps([KEY | {"entities": [{"label": "PER", "start": 0, "end": 3, "text": "Ann"}]}]).encode(),
            "where its text reads 'Zoë' and not 'Ann'",
        ),
        (
            "ner",
            json.dumps([KEY | {"entities": [{"labels": ["A", "B"], "start": 0, "end": 3}]}]).encode(),
            "has 2 labels for its text from 0 to 3",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence_and_nothing_is_written(tmp_path, name, content, message):
    good, bad = EXPORTS / f"label_studio/{name}.json", tmp_path / "bad"
    bad.write_bytes(content)
    with pytest.raises(SpecError) as raised:
        taken(tmp_path, name, good, bad)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "labels").exists()
    assert not (tmp_path / "_nightscribe").exists()


def test_a_folder_without_draws_and_a_row_of_two_jobs_are_refused(tmp_path):
    file = plain(tmp_path, [KEY | {"label": "good"}])
    with pytest.raises(SpecError, match="has no drawn rows in draws/"):
        labels.take(str(tmp_path), [file])
    draws.save(tmp_path, draws.single())
    draws.save(tmp_path, draws.single(), job="other")
    with pytest.raises(SpecError, match="was drawn in 2 runs"):
        labels.take(str(tmp_path), [file])
    named = plain(tmp_path, [KEY | {"label": "good", "review_job": "other"}])
    assert labels.take(str(tmp_path), [named]).runs[0].job == "other"


def test_an_export_before_anybody_has_answered_is_refused(tmp_path):
    draws.save(tmp_path, draws.single())
    file = tmp_path / "early.json"
    file.write_text(json.dumps([{"data": KEY, "annotations": []}]))
    with pytest.raises(SpecError, match="no row has an answer yet"):
        labels.take(str(tmp_path), [str(file)])


def test_labels_of_a_later_run_stand_in_a_file_of_their_own(tmp_path):
    later = "20261127T020000-bb"
    draws.save(tmp_path, draws.single())
    texts = ["another text", "one more"]
    draws.save(tmp_path, draws.single(["good", "bad"], review_text=texts, review_run=[later] * 2), run=later)
    key = pq.read_table(tmp_path / columns.draw_file(draws.JOB, later))[columns.KEY][1].as_py()
    found = labels.take(
        str(tmp_path), [plain(tmp_path, [KEY | {"label": "good"}, {"review_key": key, "label": "good"}])]
    )
    assert [run.run for run in found.runs] == [draws.RUN, later]
    assert draws.labelled(tmp_path, later)["text"].to_pylist() == ["one more"]


def test_a_label_that_looks_misspelt_is_refused_and_can_be_accepted(tmp_path):
    draws.save(tmp_path, draws.single())
    rows = [{"review_key": draws.KEYS[0], "label": "Good"}, {"review_key": draws.KEYS[1], "label": " bad "}]
    with pytest.raises(SpecError, match=r"the label 'Good' in 1 answer, .* did you mean 'good'\? .*--new-label"):
        labels.take(str(tmp_path), [plain(tmp_path, rows)])
    assert not (tmp_path / "labels").exists()
    found = labels.take(str(tmp_path), [plain(tmp_path, rows)], ["Good"]).runs[0]
    assert draws.labelled(tmp_path)["label"].to_pylist() == ["Good", "bad"]
    assert found.unknown == {"Good": 1}
    # It is known from then on.
    again = [{"review_key": draws.KEYS[2], "label": "Good"}]
    assert labels.take(str(tmp_path), [plain(tmp_path, again)]).runs[0].labelled == 3


def test_a_label_that_is_close_to_none_may_be_a_new_class(tmp_path):
    draws.save(tmp_path, draws.single())
    rows = [{"review_key": draws.KEYS[0], "label": "sarcastic"}]
    assert labels.take(str(tmp_path), [plain(tmp_path, rows)]).runs[0].unknown == {"sarcastic": 1}


def test_a_file_that_contradicts_itself_is_refused(tmp_path):
    draws.save(tmp_path, draws.single())
    rows = [{"review_key": draws.KEYS[0], "label": label} for label in ("good", "bad")]
    with pytest.raises(SpecError, match=f"two answers about the row with review_key {draws.KEYS[0]}: 'good' and 'bad'"):
        labels.take(str(tmp_path), [plain(tmp_path, rows)])


def test_a_file_for_the_import_into_a_tool_and_one_that_is_not_there_are_refused(tmp_path):
    draws.save(tmp_path, draws.single())
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([{"data": {"review_key": draws.KEYS[0]}, "predictions": []}]))
    with pytest.raises(SpecError, match="is a file for the import into Label Studio"):
        labels.take(str(tmp_path), [str(tasks)])
    with pytest.raises(SpecError, match=r"nowhere.csv does not exist"):
        labels.take(str(tmp_path), [str(tmp_path / "nowhere.csv")])
