"""The report of real runs: what it counts, what it draws, what reaches Prefect, and the HTML page in full."""

import base64
import html.parser
import io
import json
from dataclasses import replace
from itertools import pairwise
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from jobs import run, spec
from jobs.execute.progress import Progress, Timeline
from jobs.report import history, page, picture
from jobs.report.findings import SCORE_EDGES, Findings
from jobs.report.web import web
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
    (folder / "in" / "lang=en").mkdir()
    pq.write_table(lake.rows(200), folder / "in" / "lang=en" / "0.parquet")
    (folder / "in" / "a.jsonl").write_text('{"id": "a", "text": "fine", "stars": 1}\n')
    run.run(spec.read(file))
    pq.write_table(lake.rows(100, start=1000, seed=4), folder / "in" / "lang=en" / "1.parquet")
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


def test_the_page_for_prefect_has_numbers_pictures_drift_and_paths(nights):
    last = kept(nights, 1)
    text = page.markdown(last, history.before(store(nights), last.run_id))
    assert "101 rows enriched, 1 rejected, in " in text
    assert "; 2 of 4 shards were done before." in text
    assert len(images(text)) == 3
    assert all(image.shape[1] > 900 for image in images(text))
    assert "Compared with the previous run." in text
    assert "| labels of sentiment |" in text
    assert "| rejected by source: InvalidJSON | 1 |" in text
    assert "| computation spent on padding | " in text
    assert f"- rejected rows with their reasons: `{nights.parent}/out/_rejected`" in text
    commit = last.numbers["tasks"][0]["model"]["commit"][:12]
    assert f"sentiment, version {commit}, precision float32 |" in text


def test_no_text_of_the_lake_is_in_the_page_for_prefect(nights):
    last = kept(nights, 1)
    text, whole = page.markdown(last, []), web(last, [])
    rows = [*last.findings.examples, *last.findings.least_certain["sentiment"], *last.findings.failures]
    texts = [shown for row in rows if len(shown := row.get("text") or row["message"]) > 9]
    assert len(texts) > 5
    for shown in texts:
        assert shown not in text
        assert shown in Page(whole).text


def test_labels_that_come_from_a_column_are_in_the_html_only():
    found = Findings(rows=2, labels={"topic": {"a secret": 2}, "mood": {"good": 2}})
    tasks = [
        {"spec": {"task": "zero_shot", "into": "topic", "labels_column": "labels"}},
        {"spec": {"task": "classify", "into": "mood"}},
    ]
    assert page.public(found, tasks).labels == {"mood": {"good": 2}}
    tasks[0]["spec"] = {"task": "zero_shot", "into": "topic", "labels": ["a secret"]}
    assert page.public(found, tasks).labels == found.labels


def test_a_report_without_new_rows_states_that_and_has_no_pictures(nights):
    last = kept(nights, 2)
    text = page.markdown(last, [])
    assert "Nothing was new: 4 shards were done before." in text
    assert "tokens/s" not in text
    assert images(text) == []
    assert "<svg" not in web(last, [])


def test_latest_is_the_last_run_that_had_rows(nights):
    assert history.read(store(nights), "latest").run_id == kept(nights, 1).run_id


def test_a_night_is_compared_with_those_before_it_that_had_rows(nights):
    ids = history.run_ids(store(nights))
    assert [night.run_id for night in history.before(store(nights), ids[2])] == ids[:2]
    assert history.before(store(nights), ids[0]) == []


class Page(html.parser.HTMLParser):
    """Links, everything that a browser would load, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.tags, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        if tag == "a":
            self.links.append(named["href"])
        else:
            loaded = (value for name, value in named.items() if name in ("src", "href", "xlink:href"))
            self.loaded += [value for value in loaded if not value.startswith("#")]

    def handle_data(self, data):
        self.text += data


def test_one_html_file_needs_nothing_else_and_its_links_start_from_where_it_is(nights, tmp_path):
    done = lake.command("report", "latest", "--job", nights, "--out", tmp_path / "report.html")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'report.html'}\n")
    first = history.run_ids(store(nights))[0]
    done = lake.command("report", first, "--sink", nights.parent / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, places in (("report.html", 3), (f"{first}.html", 2)):
        shown = Page((tmp_path / name).read_text())
        assert shown.loaded == []
        assert len(shown.links) == places
        assert all((tmp_path / unquote(link)).exists() for link in shown.links)
    assert shown.tags.count("svg") == 7


def test_the_page_in_the_sink_links_to_the_files_beside_it(nights):
    folder = nights.parent / "out" / history.FOLDER
    links = Page(web(kept(nights, 1), [])).links
    assert links == ["../..", "../../_rejected", f"../../{history.FOLDER}/{kept(nights, 1).run_id}.json"]
    assert all((folder / link).exists() for link in links)


def test_an_address_that_a_browser_cannot_open_is_not_a_link(nights, tmp_path):
    last = kept(nights, 1)
    moved = replace(last, numbers=last.numbers | {"output": "s3://lake/out"})
    assert Page(web(moved, [], tmp_path)).links == []
    assert Page(web(moved, [])).links[0] == "../.."


def test_the_html_shows_rows_labels_by_partition_and_every_rejected_row(nights):
    last = kept(nights, 1)
    shown = Page(web(last, history.before(store(nights), last.run_id)))
    for heading in ("Labels by partition", "Example rows", "Least certain rows", "Rejected rows", "Drift", "Summary"):
        assert heading in shown.text
    assert "lang=en" in shown.text
    assert last.findings.least_certain["sentiment"][0]["text"] in shown.text
    assert last.findings.failures[0]["file"] in shown.text


def test_scores_of_a_single_label_do_not_count_as_uncertainty():
    rows = [{"file": "a", "text": "fine", "found": {"stars": "stars (3.20)"}, "score": 3.2}]
    numbers = {"name": "test", "run_id": "x", "rows_in": 1, "rows_out": 1, "rows_rejected": 0, "shards": 1, "tasks": []}
    numbers |= {"shards_skipped": 0, "tokens": 0, "padded_tokens": 0, "seconds": 1.0, "output": "out"}
    found = Findings(rows=1, labels={"stars": {"stars": 1}}, least_certain={"stars": rows})
    assert "Least certain" not in web(history.Kept(numbers, found, []), [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none", "--sink", "{out}"], "run 'none' has no report in"),
        (["latest", "--sink", "{tmp}/empty"], "no run has written to it yet"),
        (["latest", "--sink", "{out}", "--out", "{tmp}/no/such/folder.html"], "cannot be written: No such file"),
    ],
)
def test_a_report_that_cannot_be_written_is_one_error_sentence_with_exit_2(nights, tmp_path, words, expected):
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


def test_an_error_for_an_unknown_run_names_the_known_ones(nights):
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
    assert picture.throughput([]) == []
    assert picture.throughput([(0.1, 0, 0), (0.2, 0, 0)]) == []
    assert [each.title for each in picture.throughput([(0.0, 0, 0), (1.0, 10, 100)])] == [
        "tokens/s",
        "rows done",
    ]
    # A task without tokens has rows and no speed in tokens.
    assert [each.title for each in picture.throughput([(0.0, 0, 0), (1.0, 10, 0)])] == ["rows done"]


def test_the_last_of_an_odd_number_of_pictures_fills_its_row():
    pictures = picture.throughput([(0.0, 0, 0), (1.0, 10, 100)])
    one, three = (imread(io.BytesIO(picture.sheet(each))) for each in (pictures[:1], [*pictures, pictures[0]]))
    assert three.shape[0] == 2 * one.shape[0]
    # Nothing but white would be a hole in the page.
    right_half = three[three.shape[0] // 2 :, three.shape[1] // 2 :, :3]
    assert right_half.min() < 0.9
    assert picture.sheet([]) is None


def test_ticks_of_a_histogram_do_not_collide():
    counts = [1] * (len(SCORE_EDGES) - 1)
    figure = Figure(figsize=(picture.WIDTH_IN / 2, picture.ROW_IN), layout="constrained")
    axis = figure.subplots()
    picture.labels(Findings(rows=1, scores={"score": counts}), [])[0].draw(axis)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
    assert len(boxes) > 3
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
