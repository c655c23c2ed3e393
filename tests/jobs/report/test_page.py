"""The report of real runs: what it counts, what it draws, and that one HTML file holds all of it."""

import base64
import html.parser
import io
import json
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from jobs import run, spec
from jobs.execute.progress import Progress, Timeline
from jobs.report import history, page, picture
from jobs.store import Store
from tests import lake
from transforms.errors import SpecError


@pytest.fixture(scope="module")
def nights(tmp_path_factory, models):
    """A sink with three runs: two nights and one that found nothing new; the second has rejected rows."""
    folder = tmp_path_factory.mktemp("nights")
    (folder / "in").mkdir()
    job = lake.job(folder / "in", folder / "out", models, errors={"max_fraction": 0.5})
    ner = {"task": "ner", "column": "text", "model": str(models / "ner"), "into": "entities", "dtype": "float32"}
    job["tasks"].append(ner)
    file = lake.write_job(folder, job)
    pq.write_table(lake.rows(200), folder / "in" / "0.parquet")
    (folder / "in" / "a.jsonl").write_text('{"id": "a", "text": "fine", "stars": 1}\n')
    run.run(spec.read(file))
    pq.write_table(lake.rows(100, start=1000, seed=4), folder / "in" / "1.parquet")
    (folder / "in" / "b.jsonl").write_text('{"id": "b", "text": "cut\n{"id": "c", "text": "fine", "stars": 1}\n')
    run.run(spec.read(file))
    run.run(spec.read(file))
    return file


def store(nights):
    return Store(spec.read(nights).sink.path)


def kept(nights, index):
    return history.read(store(nights), history.run_ids(store(nights))[index])


def images(text):
    return [
        imread(io.BytesIO(base64.b64decode(part.split(")")[0]))) for part in text.split("data:image/png;base64,")[1:]
    ]


def test_findings_count_what_is_in_the_part_files(nights):
    found = kept(nights, 0).findings
    table = lake.read(nights.parent / "out")
    first = [row for row in table.to_pylist() if row["id"] in {f"r{i}" for i in range(200)} | {"a"}]
    assert found.rows == 201
    labels = [row["sentiment"]["label"] for row in first if row["sentiment"]]
    assert found.labels["sentiment"] == {
        label: labels.count(label) for label in sorted(set(labels), key=labels.count)[::-1]
    }
    assert sum(found.labels["entities"].values()) == sum(len(row["entities"] or []) for row in first)
    assert sum(found.scores["sentiment"]) == len(labels)
    assert sum(found.lengths) == sum(row["text"] is not None for row in first)
    assert kept(nights, 1).findings.rejects == {"source: InvalidJSON": 1}


def test_the_page_shows_numbers_pictures_drift_and_places(nights):
    last = kept(nights, 1)
    text = page.markdown(last, history.before(store(nights), last.run_id))
    assert "102 rows enriched" in text or "101 rows enriched" in text
    assert len(images(text)) == 3
    assert all(image.shape[1] > 900 for image in images(text))
    assert "| labels of sentiment |" in text
    assert "| rejected by source: InvalidJSON | 1 |" in text
    assert f"[`{nights.parent}/out/_rejected`](<file://{nights.parent}/out/_rejected>)" in text
    assert f"at {last.numbers['tasks'][0]['model']['commit'][:12]}" in text


def test_a_night_without_news_says_so_and_draws_nothing(nights):
    text = page.markdown(kept(nights, 2), [])
    assert "0 rows enriched" in text
    assert "Nothing was new" in text
    assert images(text) == []


def test_a_night_is_compared_with_those_before_it_that_had_rows(nights):
    ids = history.run_ids(store(nights))
    assert [night.run_id for night in history.before(store(nights), ids[2])] == ids[:2]
    assert history.before(store(nights), ids[0]) == []


def test_one_html_file_needs_nothing_else(nights, tmp_path):
    done = lake.command("report", "latest", "--job", nights, "--out", tmp_path / "report.html")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'report.html'}\n")
    second = history.run_ids(store(nights))[1]
    done = lake.command("report", second, "--sink", nights.parent / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / f"{second}.html").read_text()
    links = []

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            links.extend((tag, value) for name, value in attributes if name in ("src", "href"))

    Links().feed(text)
    assert sum(tag == "img" for tag, _ in links) == 3
    assert all(value.startswith("data:image/png;base64,") for tag, value in links if tag == "img")
    assert all(value.startswith("file:///") for tag, value in links if tag == "a")
    assert "<table>" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none", "--sink", "{out}"], "run 'none' has no report in"),
        (["latest", "--sink", "{tmp}/empty"], "it has no finished run"),
        (["latest", "--sink", "{out}", "--out", "{tmp}/no/such/folder.html"], "cannot be written: No such file"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_sentence_and_exit_2(nights, tmp_path, words, expected):
    done = lake.command("report", *(word.format(out=nights.parent / "out", tmp=tmp_path) for word in words))
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_report_of_an_older_version_is_read(nights):
    sink = store(nights)
    old = {key: value for key, value in kept(nights, 0).numbers.items() if key != "finished"}
    sink.put(
        f"{history.FOLDER}/20200101T000000-aaaaaa.json", json.dumps(old | {"run_id": "20200101T000000-aaaaaa"}).encode()
    )
    try:
        text = page.markdown(history.read(sink, "20200101T000000-aaaaaa"), [])
        assert "201 rows enriched" in text
    finally:
        sink.delete(f"{history.FOLDER}/20200101T000000-aaaaaa.json")


def test_an_unknown_run_names_the_known_ones(nights):
    with pytest.raises(SpecError, match=history.run_ids(store(nights))[-1]):
        history.read(store(nights), "tomorrow")


def test_a_timeline_of_any_length_is_thinned_to_an_even_one():
    timeline = Timeline()
    for i in range(10_000):
        timeline.add(Progress(rows_in=i, tokens=10 * i))
    rows = [rows for _, rows, _ in timeline.samples]
    assert 60 < len(rows) <= Timeline.MAX_SAMPLES + 1
    assert len({b - a for a, b in pairwise(rows)}) == 1


def test_a_run_too_short_for_a_speed_has_no_picture_of_it():
    assert picture.throughput([]) is None
    assert picture.throughput([(0.1, 0, 0), (0.2, 0, 0)]) is None
    assert picture.throughput([(0.0, 0, 0), (1.0, 10, 100)])[:4] == b"\x89PNG"
