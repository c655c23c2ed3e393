"""From the labels of a real night to its accuracy, in the command, in the review folder and in the report."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.evaluation.night import accuracy as of_night
from jobs.report import accuracy as reported
from jobs.report import history, page
from jobs.report.web import web
from jobs.review import accuracy, columns, labels
from jobs.store import Store
from tests import lake
from tests.jobs.review import draws
from transforms.errors import SpecError

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def night(tmp_path, models):
    """A night of two files of 60 rows, of which about 40 are drawn."""
    source = lake.make_lake(tmp_path / "in", files=2)
    job = lake.job(source, tmp_path / "out", models, review={"rows": 40, "path": str(tmp_path / "review")})
    return lake.execute(job).run_id


def export(folder, run, wrong=3, count=None):
    """What Label Studio exports once somebody has answered; every third prediction was wrong."""
    file = folder / "review" / "draws" / "test" / f"{run}.labelstudio.json"
    answered = json.loads(file.read_text())[:count]
    for i, task in enumerate(answered):
        result = task["predictions"][0]["result"]
        if i % wrong == 0:
            said = result[0]["value"]["choices"][0]
            result = [result[0] | {"value": {"choices": ["positive" if said != "positive" else "negative"]}}]
        task["annotations"] = [{"completed_by": 1, "was_cancelled": False, "result": result}]
    (folder / "export.json").write_text(json.dumps(answered))
    return str(folder / "export.json")


def test_labels_of_a_night_say_how_good_it_was(tmp_path, night, capsys):
    assert cli.main(["labels", str(tmp_path / "review"), export(tmp_path, night)]) == 0
    line, measured, last = capsys.readouterr().out.splitlines()
    rows = draws.labelled(tmp_path / "review", night, "test")
    drawn = pq.read_table(tmp_path / "review" / columns.draw_file("test", night))
    assert len(rows) == len(drawn) > 20
    assert line == f"test {night}: {len(rows)} rows drawn, {len(rows)} labelled, 0 skipped"
    assert "rows are right (95% interval" in measured
    scores = pq.read_table(tmp_path / "review" / columns.scores_file("test", night))["score"].to_numpy()
    said = np.array([value["label"] for value in rows["sentiment"].to_pylist()])
    expected = of_night(
        scores,
        rows["review_position"].to_numpy(),
        (said == np.array(rows["label"].to_pylist())).astype(float),
        rows["review_probability"].to_numpy(),
    )
    assert 0.4 < expected.estimate.value < 0.9
    assert json.loads(last)["runs"][0]["accuracy"] == json.loads(json.dumps(expected.to_json()))
    (kept,) = accuracy.read(Store(str(tmp_path / "review")), "test")
    assert kept.night == expected


def test_rows_without_a_label_yet_widen_the_interval(tmp_path, night):
    store = Store(str(tmp_path / "review"))
    labels.take(store.url, [export(tmp_path, night, count=12)])
    few = accuracy.estimate(store, "test", night).night
    labels.take(store.url, [export(tmp_path, night)])
    all_ = accuracy.estimate(store, "test", night).night
    assert few.share < all_.share == 1
    assert few.classical.high - few.classical.low > all_.classical.high - all_.classical.low


def test_the_reports_of_a_job_show_the_accuracy_of_its_nights(tmp_path, night, capsys):
    labels.take(str(tmp_path / "review"), [export(tmp_path, night)])
    store = Store(str(tmp_path / "review"))
    measured = accuracy.estimate(store, "test", night)
    other = store.path(f"{accuracy.FOLDER}/test/later.json")
    content = json.loads(store.get(f"{accuracy.FOLDER}/test/{night}.json"))
    with open(other, "w") as stream:
        json.dump(content | {"run": "later", "at": "2099-01-01T00:00:00+00:00"}, stream)
    kept = history.read(Store(str(tmp_path / "out")), night)
    nights = reported.earlier(kept.numbers)
    assert [each.run for each in nights] == [night, "later"]
    low, high = measured.night.estimate.low, measured.night.estimate.high
    for text in (page.markdown(kept, [], nights), web(kept, [], measured=nights)):
        assert reported.TITLE in text
        assert f"{low:.1%} to {high:.1%}" in text
        assert "accuracy of each night" in text
    assert reported.TITLE not in page.markdown(kept, [])
    assert cli.main(["report", night, "--sink", str(tmp_path / "out"), "--out", str(tmp_path / "a.html")]) == 0
    assert reported.TITLE in (tmp_path / "a.html").read_text()


def scored(folder, rows):
    draws.save(folder, rows)
    file = folder / columns.scores_file(draws.JOB, draws.RUN)
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"score": pa.array([0.9] * 20, pa.float32())}), file)
    return Store(str(folder))


def test_a_night_of_entities_counts_the_f1_of_each_row_even_if_no_row_has_an_entity(tmp_path):
    store = scored(tmp_path, draws.entities())
    rows = [{"review_key": key, "entities": []} for key in draws.KEYS]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    labels.take(str(tmp_path), [str(tmp_path / "a.json")])
    found = accuracy.estimate(store, draws.JOB, draws.RUN)
    # The model found entities in three of the four rows.
    assert found.night.classical.value == 0.25
    assert found.measure == "F1 of a row's entities"


def test_rows_drawn_because_two_versions_differ_do_not_count(tmp_path, capsys):
    store = scored(tmp_path, draws.single(review_drawn=["difference"] * 4))
    (tmp_path / "a.json").write_text(json.dumps([{"review_key": draws.KEYS[0], "label": "new"}]))
    labels.take(str(tmp_path), [str(tmp_path / "a.json")])
    with pytest.raises(SpecError, match="no row of the night has been corrected yet"):
        accuracy.estimate(store, draws.JOB, draws.RUN)
    assert cli.main(["labels", str(tmp_path), str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "labels that the model does not know: 'new' (1)" in out
    assert "how good the night was is not known: no row of the night" in out


def test_a_wrong_export_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    draws.save(tmp_path, draws.single())
    assert cli.main(["labels", str(tmp_path), str(tmp_path / "nothing.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
