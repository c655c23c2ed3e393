"""A run counts the rows that lost tokens at the model's window, and says what would read them whole."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.report import history, page, truncated
from jobs.report.web import web
from jobs.sink import Entry, open_sink
from jobs.spec import SinkSpec
from jobs.store import Store
from tests import lake, tiny
from tests.lake import execute
from transforms.contract import Truncated
from transforms.errors import TooManyRejects

LONG = "a " * 100
# 2 of 5 rows with a text are cut.
TEXTS = [LONG, "a", None, "b", LONG, "", "c"]


def write(folder, name="a", texts=TEXTS):
    folder.mkdir(exist_ok=True)
    ids = [f"{name}{i}" for i in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string())}), folder / f"{name}.parquet")


def shown(sink, run="latest"):
    kept = history.read(Store(str(sink)), run)
    return {what: value for what, value in page.summary(kept) if what.startswith("cut for")}


def test_the_report_counts_rows_and_names_the_option_that_reads_them_whole(tmp_path, models):
    write(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    report = execute(content)
    assert report.truncated == {"sentiment": Truncated(5, 2, (tiny.WINDOW,))}
    assert json.loads(report.to_json())["truncated"] == {"sentiment": {"rows": 5, "cut": 2, "max_lengths": [64]}}
    sentence = "classify cut 2 of 5 rows at 64 tokens; long_text: window reads them whole"
    assert shown(tmp_path / "out") == {"cut for sentiment": sentence}
    kept = history.read(Store(str(tmp_path / "out")), "latest")
    assert sentence in web(kept, [])
    assert f"| cut for sentiment | {sentence} |" in page.markdown(kept, [])


def test_a_run_that_reads_every_text_whole_says_nothing(tmp_path, models):
    write(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    content["tasks"][0]["long_text"] = "window"
    assert execute(content).truncated == {"sentiment": Truncated(5, 0)}
    assert shown(tmp_path / "out") == {}


def test_two_worker_processes_count_as_one_does(tmp_path, models):
    for name in "abcd":
        write(tmp_path / "in", name)
    content = lake.job(tmp_path / "in", tmp_path / "out", models, runner={"workers": 2})
    report = execute(content)
    assert report.shards_done == 4
    assert report.truncated == {"sentiment": Truncated(20, 8, (tiny.WINDOW,))}


def test_every_task_of_a_job_is_counted_alone(tmp_path, models):
    write(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    about = {"column": "text", "dtype": "float32"}
    content["tasks"] += [
        about | {"task": "ner", "model": str(models / "ner"), "into": "names", "long_text": "truncate"},
        about | {"task": "ner", "model": str(models / "ner"), "into": "all_names"},
        about | {"task": "embed", "model": str(models / "mlm"), "into": "vector"},
        about | {"task": "zero_shot", "model": str(models / "nli"), "into": "topic", "labels": ["x", "y"]},
        about | {"task": "answer", "model": str(models / "answer"), "into": "who", "question": "a?"},
    ]
    report = execute(content)
    cut = Truncated(5, 2, (tiny.WINDOW,))
    assert report.truncated == {
        "sentiment": cut,
        "names": cut,
        "all_names": Truncated(5, 0),
        "vector": cut,
        "topic": cut,
    }
    sentences = shown(tmp_path / "out")
    assert list(sentences) == ["cut for sentiment", "cut for names", "cut for vector", "cut for topic"]
    assert sentences["cut for topic"] == "zero_shot cut 2 of 5 rows at 64 tokens"


def test_only_rows_that_are_computed_are_counted(tmp_path, models):
    write(tmp_path / "in")
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    execute(content)
    assert execute(content).truncated == {}
    # Of the changed file, only a new text and one that is long are computed; the others keep their results.
    write(tmp_path / "in", texts=[*TEXTS, "new", "new " * 100])
    report = execute(content)
    assert (report.rows_in, report.rows_reused) == (9, 7)
    assert report.truncated == {"sentiment": Truncated(2, 1, (tiny.WINDOW,))}


def test_a_night_counts_the_rows_of_its_attempts_that_failed(tmp_path, models):
    write(tmp_path / "in", "a")
    content = lake.job(tmp_path / "in", tmp_path / "out", models, errors={"max_fraction": 0})
    about = {"column": "text", "dtype": "float32", "model": str(models / "mlm")}
    # Rejects every row that has a text, because none has a mask.
    content["tasks"].append(about | {"task": "fill_mask", "into": "filled", "strict": True})
    with pytest.raises(TooManyRejects):
        execute(content)
    store = Store(str(tmp_path / "out"))
    (run,) = history.run_ids(store)
    assert history.read(store, run).numbers["truncated"]["sentiment"]["cut"] == 2
    write(tmp_path / "in", "b")
    report = execute(content | {"errors": {"max_fraction": 1}})
    assert (report.attempts, report.shards_skipped) == (2, 1)
    assert report.truncated == {"sentiment": Truncated(10, 4, (tiny.WINDOW,)), "filled": Truncated()}


def test_an_entry_and_a_report_of_an_earlier_version_have_no_numbers(tmp_path, models):
    write(tmp_path / "in")
    execute(lake.job(tmp_path / "in", tmp_path / "out", models))
    (entry,) = open_sink(SinkSpec(path=str(tmp_path / "out"))).entries().values()
    assert Entry.from_json(entry.to_json()) == entry
    older = entry.to_json()
    assert older.pop("truncated")
    assert Entry.from_json(older).truncated == {}
    (file,) = (tmp_path / "out" / "_nightscribe" / "reports").glob("*.json")
    numbers = json.loads(file.read_text())
    del numbers["truncated"]
    file.write_text(json.dumps(numbers))
    assert shown(tmp_path / "out") == {}


@pytest.mark.usefixtures("settings_of_the_process")
def test_the_command_says_it_on_stderr_unless_it_is_quiet(tmp_path, models, capsys):
    write(tmp_path / "in")
    job = lake.write_job(tmp_path, lake.job(tmp_path / "in", tmp_path / "out", models))
    assert cli.main(["run", str(job)]) == 0
    found = capsys.readouterr()
    assert found.err.endswith("sentiment: classify cut 2 of 5 rows at 64 tokens; long_text: window reads them whole.\n")
    assert json.loads(found.out)["truncated"] == {"sentiment": {"rows": 5, "cut": 2, "max_lengths": [64]}}
    write(tmp_path / "in", "b")
    assert cli.main(["run", str(job), "--quiet"]) == 0
    assert "cut" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "long_text", "end"),
    [
        ("embed", "truncate", "; long_text: window reads them whole"),
        ("ner", "truncate", "; long_text: window reads them whole"),
        ("summarize", "truncate", "; long_text: map_reduce reads them whole"),
        ("summarize", "map_reduce", ""),
        ("translate", "truncate", "; long_text: split reads them whole"),
        ("generate", "truncate", "; long_text: reject rejects such rows"),
        ("fill_mask", None, ""),
    ],
)
def test_the_sentence_names_the_task_s_own_alternative(task, long_text, end):
    spec = {"task": task, "into": "x", "long_text": long_text}
    found = {"x": {"rows": 50_000, "cut": 1204, "max_lengths": [256, 2048]}}
    assert truncated.sentences([spec], found) == [("x", f"{task} cut 1,204 of 50,000 rows at 256 or 2,048 tokens{end}")]
