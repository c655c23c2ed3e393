"""A dataset of the Hub as a sink: one commit a run, files of other hands are kept, another machine goes on from it."""

from __future__ import annotations

import json
import re

import datasets
import pytest
from huggingface_hub import DatasetCard

from jobs import cli, spec
from jobs.hub.dataset import DatasetRepository
from jobs.plan import planning
from jobs.plan.text import text
from jobs.report import history, page
from jobs.sink import publish
from jobs.store import Store
from tests import cascades, lake
from tests.jobs.sink.dataset.published import data, ids, job, write
from transforms.errors import SinkError, SpecError

pytestmark = pytest.mark.usefixtures("noop_task")


def test_a_run_publishes_its_rows_and_load_dataset_reads_them(tmp_path, hub, name, night):
    write(tmp_path, "lang=de/a", 3)
    write(tmp_path, "lang=en/b", 2)
    report = night()
    repository = hub.repositories["dataset", name]
    assert report.commit == f"{hub.endpoint}/datasets/{name}/commit/{repository.head}"
    assert report.uploaded_bytes == sum(len(night.head()[path]) for path in data(night.head()))
    assert repository.private
    found = datasets.load_dataset(name)
    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 5}
    assert found["train"].column_names == ["id", "text", "lang", "nothing"]
    assert dict(zip(found["train"]["id"], found["train"]["lang"], strict=True))["b-1"] == "en"
    assert len(list(datasets.load_dataset(name, "default", split="train", streaming=True))) == 5
    assert datasets.load_dataset_builder(name).info.splits["train"].num_examples == 5


def test_a_night_without_news_makes_no_commit_and_the_next_adds_only_what_is_new(tmp_path, hub, name, night):
    write(tmp_path, "a", 3)
    first = night()
    before = night.commits()
    second = night()
    assert (second.commit, second.uploaded_bytes, night.commits()) == (first.commit, 0, before)
    write(tmp_path, "b", 2)
    hub.requests.clear()
    night()
    assert len(hub.seen("^PUT ")) == 1
    assert night.commits() == before + 1
    assert ids(name) == ["a-0", "a-1", "a-2", "b-0", "b-1"]


def test_a_changed_file_replaces_its_part_and_one_that_is_gone_takes_it_away(tmp_path, name, night):
    write(tmp_path, "a", 2)
    write(tmp_path, "b", 2)
    night()
    write(tmp_path, "a", 3, first=7)
    (tmp_path / "in" / "b.parquet").unlink()
    night(on_vanished="remove")
    assert ids(name) == ["a-7", "a-8", "a-9"]
    assert len(data(night.head())) == 1


def test_what_a_person_wrote_in_the_card_stays(tmp_path, name, night):
    write(tmp_path, "a", 1)
    night()
    card = night.head()["README.md"].decode()
    card = card.replace("---\nconfigs:", "---\nlicense: cc-by-4.0\npretty_name: Reviews\nconfigs:", 1)
    night.commit(
        {"README.md": f"{card.replace(f'# {name}', '# Reviews of a shop')}\n## Known gaps\nNo June.\n".encode()}
    )
    write(tmp_path, "b", 1)
    night()
    card = night.head()["README.md"].decode()
    assert "license: cc-by-4.0\npretty_name: Reviews\n" in card
    assert "# Reviews of a shop" in card
    assert "## Known gaps\nNo June." in card
    assert "2 rows in 2 files, 0 rejected." in card
    assert "1 row in 1 file" not in card
    assert ids(name) == ["a-0", "b-0"]


def test_a_card_without_front_matter_keeps_its_text(tmp_path, hub, name, night):
    hub.repository("dataset", name, {"README.md": b"# Mine\n\nBy hand.\n", "notes.txt": b"mine"})
    write(tmp_path, "a", 1)
    night()
    assert "\n# Mine\n\nBy hand.\n" in night.head()["README.md"].decode()
    assert night.head()["notes.txt"] == b"mine"
    assert ids(name) == ["a-0"]


def test_a_run_that_could_not_publish_is_published_by_the_next_one(tmp_path, hub, name, night):
    write(tmp_path, "a", 2)
    night()
    write(tmp_path, "b", 1)
    hub.faults.status(503, r"^POST .*/commit/main", times=publish.ATTEMPTS)
    with pytest.raises(SinkError, match=r"HTTP 503.* the enriched rows are in .*, and the next run publishes them"):
        night()
    assert ids(name) == ["a-0", "a-1"]
    report = night()
    assert (report.rows_out, report.attempts) == (1, 2)
    assert ids(name) == ["a-0", "a-1", "b-0"]


def test_a_lost_race_is_repeated_on_the_new_commit_without_another_upload(tmp_path, hub, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    night()
    write(tmp_path, "b", 2)
    hub.requests.clear()
    upload, others = DatasetRepository.upload, iter([{"by-hand.txt": b"one"}, {"by-hand.txt": b"two"}])

    def upload_while_others_commit(self, files):
        upload(self, files)
        if (other := next(others, None)) is not None:
            night.commit(other)

    monkeypatch.setattr(DatasetRepository, "upload", upload_while_others_commit)
    night()
    assert [request.status for request in hub.requests if "/commit/main" in request.path] == [412, 200]
    assert len(hub.seen("^PUT ")) == 1
    assert night.head()["by-hand.txt"] == b"one"
    assert len(ids(name)) == 4


def test_a_commit_whose_answer_is_lost_is_not_made_twice(tmp_path, hub, name, night):
    write(tmp_path, "a", 2)
    night()
    before = night.commits()
    write(tmp_path, "b", 1)
    hub.faults.cut(r"^POST .*/commit/main", after=0)
    report = night()
    assert night.commits() == before + 1
    assert report.commit.endswith(hub.repositories["dataset", name].head)
    assert ids(name) == ["a-0", "a-1", "b-0"]


def test_rows_are_published_from_an_object_store(tmp_path, name, night):
    write(tmp_path, "a", 2)
    night(path=f"memory://{name}")
    write(tmp_path, "b", 2)
    report = night(path=f"memory://{name}")
    assert report.rows_in == 2
    assert len(ids(name)) == 4


def test_a_dataset_is_enriched_into_another_under_its_split_and_named_in_the_card(tmp_path, hub, name, run_once):
    write(tmp_path, "a", 2)
    source = hub.repository("dataset", f"{name}-raw", {"validation.parquet": (tmp_path / "in/a.parquet").read_bytes()})
    content = job(tmp_path, name) | {"source": {"dataset": source.name, "split": "validation"}}
    run_once(content)
    assert datasets.load_dataset(name)["validation"].column_names == ["id", "text", "nothing"]
    card = DatasetCard.load(name, repo_type="dataset")
    assert card.data.source_datasets == [source.name]
    assert f"| commit of the source | `{source.head}` |" in card.text
    with pytest.raises(SpecError, match=r"the next run would read what this one wrote; choose another sink.config"):
        spec.parse(content | {"source": {"dataset": name, "split": "validation"}})


def test_the_card_names_the_smaller_model_that_answered_rows(tmp_path, hub, name, run_once, models):
    small = cascades.like(models / "sentiment", tmp_path / "small")
    cascades.write(tmp_path / "in")
    report = run_once(cascades.job(tmp_path, models / "sentiment", small, sink={"dataset": name}))
    assert report.first["found"].answered > 0
    card = DatasetCard.load(name, repo_type="dataset")
    assert re.search(rf"first model `{small}` at `\w+`, whose answers are taken from confidence 0\.\d+ on", card.text)


def test_rejected_rows_are_counted_and_not_published(tmp_path, name, night):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,text\na-0,one\n" + "a-1,two,three\n" + "a-2,four\n")
    report = night()
    assert report.rows_rejected == 1
    assert ids(name) == ["a-0", "a-2"]
    assert "2 rows in 1 file, 1 rejected." in night.head()["README.md"].decode()
    assert b"three" not in b"".join(night.head().values())


def test_a_person_sees_where_the_rows_go(tmp_path, hub, name, capsys, settings_of_the_process):
    write(tmp_path, "a", 2)
    content = job(tmp_path, name)
    planned = planning.make(spec.parse(content))
    place = f"{name} (default/train) on {hub.endpoint}"
    assert f"{place}: 0 shards done, 1 to do" in text(planned)
    assert cli.main(["run", "--quiet", str(lake.write_job(tmp_path, content))]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    commit = f"{hub.endpoint}/datasets/{name}/commit/{hub.repositories['dataset', name].head}"
    assert (line["dataset"], line["commit"]) == (place, commit)
    shown = dict(page.summary(history.read(Store(line["output"]), line["run_id"])))
    assert (shown["dataset"], shown["commit"]) == (place, commit)
    assert shown["uploaded"].endswith("kB")
