"""A dataset of the Hub as a sink: one commit a run, files of other hands are kept, another machine goes on from it."""

from __future__ import annotations

import json
import uuid

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from jobs import cli, spec
from jobs.hub.dataset import DatasetRepository
from jobs.plan import planning
from jobs.plan.text import text
from jobs.report import history, page
from jobs.sink import publish
from jobs.store import Store
from tests import lake
from tests.hub.hub import Hub
from transforms.errors import SinkError, SpecError

pytestmark = pytest.mark.usefixtures("noop_task")

LEDGER = "_nightscribe/default/train/ledger.jsonl"


@pytest.fixture
def name(hub: Hub, monkeypatch):
    """A dataset that does not exist, and a token that may create it."""
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    monkeypatch.setattr(publish, "PAUSE_S", 0.01)
    return f"org/{uuid.uuid4().hex}"


@pytest.fixture
def night(tmp_path, hub, name, run_once):
    """Runs the job; the repository as it is then."""

    def call(folder="in", job_name="nightly", into="nothing", tasks=(), **sink):
        return run_once(job(tmp_path, name, folder, job_name, into, tasks, **sink))

    call.head = lambda: hub.repositories["dataset", name].files()
    call.commits = lambda: len(hub.repositories["dataset", name].history("main"))
    call.commit = lambda files: hub.repositories["dataset", name].commit(files)
    return call


def job(root, name, folder="in", job_name="nightly", into="nothing", tasks=(), **sink):
    own = {"task": "noop", "column": "text", "into": into}
    content = {"name": job_name, "source": {"path": str(root / folder)}, "tasks": [own, *tasks]}
    return content | {"sink": {"dataset": name} | sink}


def write(root, file, rows, folder="in", first=0):
    target = root / folder / f"{file}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"{target.stem}-{i}" for i in range(first, first + rows)]
    pq.write_table(pa.table({"id": ids, "text": [f"text {i}" for i in ids]}), target)


def ids(name, split="train", config=None):
    return sorted(datasets.load_dataset(name, config, split=split)["id"])


def data(files):
    return sorted(path for path in files if path.startswith("data/"))


def new_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / uuid.uuid4().hex))


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


def test_a_part_that_somebody_changed_is_refused_until_it_is_deleted(tmp_path, name, night):
    write(tmp_path, "a", 1)
    night()
    [path] = data(night.head())
    published = night.head()[path]
    night.commit({path: b"other rows"})
    write(tmp_path, "b", 1)
    with pytest.raises(SinkError, match=rf"blob/main/{path} was changed after run .*nothing was published"):
        night()
    assert night.head()[path] == b"other rows"
    assert len(data(night.head())) == 1
    night.commit({path: None})
    night()
    assert night.head()[path] == published
    assert ids(name) == ["a-0", "b-0"]


def test_a_file_of_another_hand_is_not_overwritten(tmp_path, hub, name, night):
    write(tmp_path, "a", 1)
    night()
    [path] = data(night.head())
    foreign = hub.repository("dataset", name, {path: b"rows of somebody else"})
    with pytest.raises(SinkError, match=rf"blob/main/{path} is there, and this job did not write it"):
        night()
    assert foreign.files() == {path: b"rows of somebody else"}


def test_two_jobs_share_a_repository_as_splits_and_no_third_takes_one_of_them(tmp_path, name, night):
    write(tmp_path, "a", 2)
    write(tmp_path, "b", 1, folder="held-out")
    night()
    night("held-out", job_name="weekly", split="test")
    night("held-out", job_name="other", config="small", split="test", into="other")
    found = datasets.load_dataset(name)
    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 2, "test": 1}
    assert datasets.load_dataset(name, "small")["test"].column_names == ["id", "text", "other"]
    assert datasets.get_dataset_config_names(name) == ["default", "small"]
    with pytest.raises(SpecError, match=r"belongs to job 'nightly' with the source .*sink.take_over_from=nightly"):
        night(job_name="other", path=str(tmp_path / "out"))
    with pytest.raises(SpecError, match=r"has the columns id, text, nothing in the split 'train'.* own sink.config"):
        night("held-out", job_name="weekly", split="test", into="sentiment")


def test_another_machine_does_only_what_is_new(tmp_path, hub, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    write(tmp_path, "b", 2)
    night()
    new_machine(monkeypatch, tmp_path)
    write(tmp_path, "c", 2)
    planned = planning.make(spec.parse(job(tmp_path, name)))
    assert [shard.key for shard in planned.shards_todo] == ["c.parquet"]
    hub.requests.clear()
    report = night()
    assert (report.rows_in, report.shards_done) == (2, 1)
    assert len(hub.seen("^PUT ")) == 1
    assert not hub.seen(r"^GET .*/resolve/.*\.parquet")
    assert len(ids(name)) == 6


def test_another_machine_reads_the_columns_that_stay_from_the_repository(tmp_path, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    night()
    new_machine(monkeypatch, tmp_path)
    report = night(tasks=[{"task": "noop", "column": "text", "into": "more"}])
    assert (report.rows_reused, report.rows_out) == (2, 2)
    assert datasets.load_dataset(name, split="train").column_names == ["id", "text", "nothing", "more"]


def test_machines_that_take_turns_follow_each_other(tmp_path, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    homes = [str(tmp_path / "one"), str(tmp_path / "other")]
    reports = []
    for turn in range(4):
        monkeypatch.setenv("XDG_DATA_HOME", homes[turn % 2])
        write(tmp_path, "a", 2, first=10 * turn)
        write(tmp_path, f"b{turn}", 1)
        reports.append(night())
    assert [report.rows_in for report in reports] == [3, 3, 3, 3]
    assert ids(name) == ["a-30", "a-31", "b0-0", "b1-0", "b2-0", "b3-0"]


def test_a_deleted_repository_is_published_again_from_the_folder(tmp_path, hub, name, night):
    write(tmp_path, "a", 2)
    night()
    del hub.repositories["dataset", name]
    report = night()
    assert report.rows_in == 0
    assert ids(name) == ["a-0", "a-1"]


def test_a_hub_that_keeps_parts_in_git_and_names_them_its_own_way_is_published_to_again(
    tmp_path, hub, name, night, monkeypatch
):
    hub.lfs = "regular"
    monkeypatch.setattr("tests.hub.repositories.Blob.oid", property(lambda blob: blob.sha256[:40]))
    write(tmp_path, "a", 2)
    night()
    write(tmp_path, "b", 1)
    night()
    assert ids(name) == ["a-0", "a-1", "b-0"]
    [path, _] = data(night.head())
    night.commit({path: b"other rows"})
    with pytest.raises(SinkError, match=rf"blob/main/{path} was changed"):
        night()


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


def test_rejected_rows_are_counted_and_not_published(tmp_path, name, night):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,text\na-0,one\n" + "a-1,two,three\n" + "a-2,four\n")
    report = night()
    assert report.rows_rejected == 1
    assert ids(name) == ["a-0", "a-2"]
    assert "2 rows in 1 file, 1 rejected." in night.head()["README.md"].decode()
    assert b"three" not in b"".join(night.head().values())


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ({}, r"needs a token that may write"),
        ({"token": "read"}, r"the token may not write to it on http://.*; set HF_TOKEN to one that may"),
        ({"token": "read", "exists": True}, r"the token may not write to it"),
        ({"token": "write", "offline": True}, r"HF_HUB_OFFLINE is set; unset it, or write to a folder"),
        ({"token": "write", "ignores": True, "exists": True}, r"although its parent is not the newest"),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_enriched(
    tmp_path, hub, name, run_once, monkeypatch, sink, message
):
    write(tmp_path, "a", 1)
    monkeypatch.delenv("HF_TOKEN")
    if token := sink.get("token"):
        monkeypatch.setenv("HF_TOKEN", hub.token("eve", write=token == "write"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", sink.get("offline", False))
    hub.ignores_parent = sink.get("ignores", False)
    if sink.get("exists"):
        hub.repository("dataset", name, {"a.txt": b"a"})
    executed = []
    with pytest.raises(SpecError, match=message) as caught:
        run_once(job(tmp_path, name), lambda: executed.append(1))
    assert "hf_" not in str(caught.value)
    assert not executed


def test_columns_that_load_dataset_cannot_read_are_refused(tmp_path, hub, name):
    write(tmp_path, "a", 1)
    table = pq.read_table(tmp_path / "in" / "a.parquet", partitioning=None)
    tags = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))
    pq.write_table(table.append_column("tags", tags), tmp_path / "in" / "a.parquet")
    with pytest.raises(SpecError, match=r"cannot read 'tags' \(map<string, int8>\); leave such columns out"):
        planning.make(spec.parse(job(tmp_path, name)))


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


def test_a_hub_that_gives_no_reasons_for_a_404_takes_the_rows_of_two_nights(tmp_path, hub, name, night):
    hub.states_codes = False
    write(tmp_path, "a", 3)
    night()
    write(tmp_path, "b", 2)
    night()
    hub.states_codes = True
    assert len(ids(name)) == 5
