"""Datasets of the Hub: resolved as `datasets` does, read by this project, one file of a new commit at a time."""

from __future__ import annotations

import io
import json

import datasets
import pyarrow as pa
import pytest

from jobs import source
from jobs.spec import SourceSpec
from tests.jobs.source.repository.reading import CARD, parquet, refused, rows, shards
from transforms.errors import SourceError


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("a.parquet", parquet({"nr": [1, 2], "text": ["a", "b"]}), "parquet"),
        ("a.csv", b"nr,text\n1,a\n2,b\n", "csv"),
        ("a.tsv", b"nr\ttext\n1\ta\n2\tb\n", "csv"),
        ("a.jsonl", b'{"nr": 1, "text": "a"}\n{"nr": 2, "text": "b"}\n', "jsonl"),
        ("a.json", b'[{"nr": 1, "text": "a"},\n{"nr": 2, "text": "b"}]', "dataset"),
    ],
)
def test_files_of_every_format_are_read(dataset, name, content, format_):
    repository = dataset({name: content, "README.md": b"# About"})
    assert rows(repository) == [{"nr": 1, "text": "a"}, {"nr": 2, "text": "b"}]
    _, (shard,) = source.plan(SourceSpec(dataset=repository.name))
    assert (shard.format, shard.key) == (format_, name)


def test_arrow_files_and_text_are_read(dataset):
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, pa.schema([("nr", pa.int64())])) as writer:
        writer.write(pa.record_batch({"nr": [1, 2]}))
    assert rows(dataset({"a.arrow": stream.getvalue()})) == [{"nr": 1}, {"nr": 2}]
    text = dataset({"a.txt": b"one\ntwo\n", "b.txt": b"three\n"})
    assert rows(text) == [{"text": "one"}, {"text": "two"}, {"text": "three"}]
    before = shards(text)
    text.commit({"b.txt": b"four\n"})
    after = shards(text)
    assert before["a.txt"] == after["a.txt"]
    assert before["b.txt"] != after["b.txt"]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("config", ["de", "en", None])
def test_configurations_and_splits_are_those_of_the_library(hub, dataset, config, split):
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  default: {name == 'de'}\n  data_files:\n  - split: train\n    path: {name}/t*.csv\n"
        f"  - split: test\n    path: [{name}/x/*.csv, {name}/u.csv]\n".replace("True", "true").replace("False", "false")
        for name in ("en", "de")
    )
    names = [f"{name}/{file}" for name in ("de", "en") for file in ("t0.csv", "t1.csv", "u.csv", "x/a.csv", "y.csv")]
    repository = dataset({"README.md": f"{card}---\n".encode()} | {name: f"f\n{name}\n".encode() for name in names})
    theirs = datasets.load_dataset(repository.name, config, split=split, revision=repository.head, streaming=True)
    assert rows(repository, config=config, split=split) == list(theirs)


def test_data_files_of_the_job_file_choose_files(dataset):
    repository = dataset({f"{name}.csv": f"nr\n{i}\n".encode() for i, name in enumerate(["a", "b", "c"])})
    assert rows(repository, data_files="b*.csv") == [{"nr": 1}]
    assert rows(repository, data_files=["c.csv", "a.csv"]) == [{"nr": 2}, {"nr": 0}]
    assert rows(repository, data_files={"mine": "a.csv"}, split="mine") == [{"nr": 0}]


def test_the_dialect_of_a_csv_is_that_of_the_dataset_or_of_the_job_file(dataset):
    card = b"---\nconfigs:\n- config_name: default\n  data_files: a.csv\n  sep: '|'\n---\n"
    repository = dataset({"README.md": card, "a.csv": b"nr|text\n1|a,b\n"})
    assert rows(repository) == [{"nr": 1, "text": "a,b"}]
    assert "the delimiter ',' its header 'nr|text' is one column" in refused(repository, SourceError, delimiter=",")
    assert "source.quote applies to CSV files only" in refused(dataset({"a.parquet": parquet({"nr": [1]})}), quote="'")
    skipping = dataset({"README.md": card.replace(b"sep: '|'", b"skiprows: 1"), "a.csv": b"# note\nnr,text\n1,a\n"})
    assert rows(skipping) == [{"nr": 1, "text": "a"}]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_labels_and_types_are_those_that_the_card_states(dataset, name):
    content = {
        "a.parquet": parquet({"nr": [1, 2, 3], "label": [1, -1, 0]}),
        "a.csv": b"nr,label\n1,1\n2,-1\n3,0\n",
        "a.jsonl": b"".join(json.dumps({"nr": i, "label": j}).encode() + b"\n" for i, j in ((1, 1), (2, -1), (3, 0))),
    }
    repository = dataset({name: content[name], "README.md": CARD.encode()})
    assert [row["label"] for row in rows(repository)] == ["good", None, "bad"]
    planned, _ = source.plan(SourceSpec(dataset=repository.name))
    assert planned.schema == pa.schema([("nr", pa.int32()), ("label", pa.string())])
    numbers = {"label": []}
    assert [row["label"] for row in rows(repository, labels=numbers)] == [1, -1, 0]


def test_labels_are_found_in_what_the_library_writes_into_parquet_files_and_folders(dataset, tmp_path):
    label = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features(
        {"label": label, "many": [{"label": label}], "text": datasets.Translation(languages=["de", "en"])}
    )
    content = {"label": [1], "many": [[{"label": 0}]], "text": [{"de": "ja", "en": "yes"}]}
    made, stream = datasets.Dataset.from_dict(content, features=features), io.BytesIO()
    made.to_parquet(stream)
    made.save_to_disk(str(tmp_path / "saved"))
    wanted = {"label": "good", "many": [{"label": "bad"}], "text": {"de": "ja", "en": "yes"}}
    assert rows(dataset({"a.parquet": stream.getvalue()})) == [wanted]
    planned, (shard,) = source.plan(SourceSpec(dataset=str(tmp_path / "saved")))
    assert [row for batch in source.read(planned, shard, 10) for row in batch.to_pylist()] == [wanted]


def test_new_names_of_labels_and_a_new_text_of_the_card_change_only_what_they_mean(dataset):
    repository = dataset({"a.csv": b"nr,label\n1,1\n", "README.md": CARD.encode()})
    spec = SourceSpec(dataset=repository.name)
    before, old = source.plan(spec)
    repository.commit({"README.md": f"{CARD}More about it.\n".encode(), "notes.md": b"notes"})
    after, new = source.plan(spec)
    assert (after.identity, new[0].id) == (before.identity, old[0].id)
    repository.commit({"README.md": CARD.replace("good", "great").encode()})
    later, newest = source.plan(spec)
    assert later.identity != before.identity
    assert newest[0].id == old[0].id


def test_a_part_of_a_split_is_refused_with_the_alternative(dataset):
    with pytest.raises(ValueError, match=r"'train\[:10%\]' is not the name of one split; give source.split: train and"):
        SourceSpec(dataset="org/name", split="train[:10%]")
    with pytest.raises(ValueError, match="'train\\+test' is not the name of one split; give one split, and another"):
        SourceSpec(dataset="org/name", split="train+test")
    with pytest.raises(ValueError, match=r"names a split; give dataset: org/name and split: train, and source\.limit"):
        SourceSpec(dataset="org/name:train[:10%]")


def test_what_is_missing_is_named_in_one_sentence(hub, dataset):
    repository = dataset({"train.csv": b"nr\n1\n"})
    assert "source.split 'dev' is not in" in (told := refused(repository, split="dev"))
    assert told.endswith("splits: train")
    assert "BuilderConfig 'de' not found. Available: ['default']" in refused(repository, config="de")
    assert "at revision 'v9' cannot be read: it has no such revision" in refused(repository, revision="v9")
    assert "source.columns: 'no' is not in" in refused(repository, columns=["no"])
    assert "doesn't contain any data files" in refused(dataset({"README.md": b"# About"}))
    program = dataset({"a.csv": b"nr\n1\n"})
    program.commit({f"{program.name.split('/')[1]}.py": b"class Builder: ..."})
    assert "is a program" in refused(program)
    hub.repositories.clear()
    assert "is not a folder here, and" in refused(dataset({}, private=True))


def test_private_and_gated_datasets_need_a_token_that_may_read_them(hub, dataset, monkeypatch):
    private = dataset({"a.csv": b"nr\n1\n"}, private=True)
    gated = dataset({"a.csv": b"nr\n1\n"}, gated=True)
    assert "set HF_TOKEN" in refused(private)
    said = f"cannot be read: it is gated; ask for access on {hub.endpoint}/datasets/{gated.name}"
    assert said in refused(gated, SourceError)
    # Of some Hubs the listing is gated too.
    hub.hides_gated = True
    gated.commit({"b.csv": b"nr\n1\n"})
    assert said in refused(gated)
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    assert rows(private) == [{"nr": 1}]
    assert rows(gated) == [{"nr": 1}] * 2


def test_revisions_are_branches_tags_and_commits(dataset):
    repository = dataset({"a.csv": b"nr\n1\n"})
    first = repository.head
    repository.tags["v1"] = first
    repository.commit({"a.csv": b"nr\n2\n"})
    assert rows(repository) == [{"nr": 2}]
    assert rows(repository, revision="v1") == rows(repository, revision=first) == [{"nr": 1}]
