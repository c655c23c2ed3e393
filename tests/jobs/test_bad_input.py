"""What bad rows, files, models and sinks get: a rejected row or one clear sentence."""

import json
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest

from tests import lake
from tests.lake import execute, make_lake
from transforms.errors import ModelError, SpecError, TooManyRejects, UnreadableSink


def test_rejected_rows_keep_their_columns_and_their_reason(tmp_path, models):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(
        b"id,text\n" + b"".join(b"%d,fine\n" % i for i in range(98)) + b"x,y,z\nq,\xff\n"
    )
    content = lake.job(tmp_path / "in", tmp_path / "out", models, errors={"max_fraction": 0.05})
    report = execute(content)
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (100, 98, 2)
    got = lake.rejected(tmp_path / "out")
    assert got.schema.names == ["id", "text", "_task", "_error_type", "_message", "_raw", "_row", "_column"]
    assert sorted(got["_error_type"].to_pylist()) == ["InvalidUTF8", "RaggedLine"]
    assert set(got["_task"].to_pylist()) == {"source"}
    content["errors"]["max_fraction"] = 0.01
    with pytest.raises(TooManyRejects, match=r"2 of 100 rows were rejected, errors.max_fraction allows 0.01"):
        execute(content)


def test_a_row_that_breaks_a_task_is_rejected_with_its_input(tmp_path, models, monkeypatch):
    from transforms.annotators.classify import Classifier

    source = make_lake(tmp_path / "in", files=1)
    poison = lake.rows(60, start=1000)["text"][7].as_py()
    tokenise = Classifier.tokenise

    def fragile(self, rows):
        if any(row.text == poison for row in rows):
            raise ValueError("unhappy tokenizer")
        return tokenise(self, rows)

    monkeypatch.setattr(Classifier, "tokenise", fragile)
    report = execute(lake.job(source, tmp_path / "out", models, errors={"max_fraction": 0.1}))
    assert (report.rows_out, report.rows_rejected) == (59, 1)
    row = lake.rejected(tmp_path / "out").to_pylist()[0]
    assert row["id"] == "r1007"
    assert row["text"] == poison
    assert (row["_task"], row["_error_type"], row["_message"]) == ("classify", "ValueError", "unhappy tokenizer")
    assert "r1007" not in lake.read(tmp_path / "out")["id"].to_pylist()


def test_models_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)

    def refused(**more):
        content = lake.job(source, tmp_path / "out", models)
        content["tasks"][0] |= more
        with pytest.raises((ModelError, SpecError)) as caught:
            execute(content)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert (
        "tasks.0: classify needs a model with a head (…ForSequenceClassification), and this one is a BertForToken"
        in refused(model=str(models / "ner"))
    )
    assert "is not a folder; give a folder that save_pretrained wrote, org/model, or org/model:subfolder" in refused(
        model=str(models / "nothing")
    )
    assert "has no config.json" in refused(model=str(source))
    assert "does not have it, or it is private; check the name" in refused(model="org/nothing")
    assert "tasks.0: column 'txt' is not in the source; columns: id, text, stars, lang" in refused(column="txt")
    assert "column 'stars' is int8, and classify reads text; text columns: id, text" in refused(column="stars")
    assert "tasks.0.into is 'text', which the source already has" in refused(into="text")
    assert "into is 'Text', and there is a column 'text': SQL takes the two for one" in refused(into="Text")
    assert "tasks.0.into is ''; string should have at least 1 character" in refused(into="")
    assert "has no adapter_config.json" in refused(adapter=str(models / "ner"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"columns": ["id"]}, "tasks.0: column 'text' is not in source.columns; columns: id"),
        ({"columns": ["id"], "where": "text = 'x'"}, "column 'text' is not in source.columns; columns: id"),
        ({"columns": []}, "source.columns is []; list should have at least 1 item"),
    ],
)
def test_a_column_that_source_columns_leaves_out_is_told_as_such(tmp_path, models, source, message):
    content = lake.job({"path": str(make_lake(tmp_path / "in", files=1))} | source, tmp_path / "out", models)
    with pytest.raises(SpecError) as caught:
        execute(content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("header", "said"),
    [("", "it has no columns: its files are empty"), ("id, text\n1,x\n", "columns: id, ' text'")],
)
def test_columns_that_are_there_are_told_so_that_blanks_are_seen(tmp_path, models, header, said):
    (tmp_path / "a.csv").write_text(header)
    with pytest.raises(SpecError, match=f"tasks.0: column 'text' is not in the source; {said}"):
        execute(lake.job(tmp_path / "a.csv", tmp_path / "out", models))


def test_a_part_file_that_was_damaged_by_hand_is_named_where_its_columns_are_needed(tmp_path, models):
    content = lake.job(make_lake(tmp_path / "in", files=2), tmp_path / "out", models)
    execute(content)
    part = lake.parts(tmp_path / "out")[0]
    content["tasks"].append(content["tasks"][0] | {"into": "again", "top_k": 2})
    for damaged in (b"", part.read_bytes()[:100], part.read_bytes()[:100].ljust(part.stat().st_size - 8, b"\xff")):
        part.write_bytes(damaged)
        with pytest.raises(UnreadableSink, match=rf"'lang=de/{part.name}' in the sink is damaged .*delete it and run"):
            execute(content)
    part.unlink()
    execute(content)
    assert lake.read(tmp_path / "out").schema.names == ["id", "text", "stars", "sentiment", "again"]


@pytest.mark.parametrize("blocked", ["file", "proc", "link"])
def test_an_output_folder_that_cannot_be_written_is_reported(tmp_path, models, blocked):
    source = make_lake(tmp_path / "in", files=1)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    sink = {"file": tmp_path / "file" / "out", "proc": "/proc/nightscribe", "link": tmp_path / "link"}[blocked]
    done = lake.command("run", lake.write_job(tmp_path, lake.job(source, sink, models)))
    assert done.returncode == 1
    assert done.stderr.startswith(f"nightscribe: sink.path '{sink}' cannot be written: ")
    assert "choose another sink.path" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_truncated_is_reported_with_exit_1(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    file = source / "lang=de" / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    done = lake.command("run", lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models)))
    assert done.returncode == 1
    assert "part-0.parquet is not a readable parquet file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_damaged_in_the_middle_stops_the_run_by_name(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    file = source / "lang=de" / "part-0.parquet"
    data = bytearray(file.read_bytes())
    data[100:900] = b"\xff" * 800
    file.write_bytes(data)
    done = lake.command("run", lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models)))
    assert done.returncode == 1
    assert "part-0.parquet could not be read as parquet" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 120 kB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_is_reported_and_a_rerun_continues_once_there_is_room(tmp_path, models, full_disk):
    source = tmp_path / "in"
    source.mkdir()
    for i in range(2):
        pq.write_table(lake.rows(60 if i == 0 else 4000, start=10_000 * i, seed=i), source / f"{i}.parquet")
    file = lake.write_job(tmp_path, lake.job(source, full_disk / "out", models))
    done = lake.command("run", file)
    assert done.returncode == 1
    # A slow machine shows its progress before that.
    assert done.stderr.splitlines()[-1] == (
        f"nightscribe: sink.path '{full_disk}/out' cannot be written: the disk is full; free some space and run again, "
        f"finished shards are kept"
    )
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=30m", full_disk], check=True)
    report = json.loads(lake.command("run", file).stdout.splitlines()[-1])
    assert (report["shards"], report["shards_skipped"], report["rows_out"]) == (2, 1, 4060)
    assert len(lake.read(full_disk / "out")) == 4060


def test_a_model_folder_that_is_damaged_is_reported_with_exit_2_and_nothing_is_written(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    broken = tmp_path / "broken"
    shutil.copytree(models / "sentiment", broken)
    (broken / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    content = lake.job(source, tmp_path / "out", models)
    content["tasks"][0]["model"] = str(broken)
    file = lake.write_job(tmp_path, content)
    for word in ("plan", "run"):
        done = lake.command(word, file)
        assert done.returncode == 2
        assert done.stderr == (
            f"nightscribe: tasks.0: {broken}/model.safetensors is a Git LFS pointer, not weights; "
            f"run `git lfs pull` in {broken}\n"
        )
        assert not (tmp_path / "out").exists()


def test_an_error_found_only_while_weights_load_is_reported_with_the_model(tmp_path, models, monkeypatch):
    # A real folder that passes every check and cannot be loaded would need a bug of a library.
    def broken(*_, **__):
        raise ZeroDivisionError("of the library")

    monkeypatch.setattr("transforms.engines.prepare", broken)
    source = make_lake(tmp_path / "in", files=1)
    with pytest.raises(
        ModelError, match=r"^classify: model '.*sentiment' cannot be loaded \(ZeroDivisionError: of the"
    ):
        execute(lake.job(source, tmp_path / "out", models))


REFUSES = """
import pyarrow as pa
from dataclasses import dataclass
from transforms.errors import ModelError
from transforms.options import column_field

ARCHITECTURE, VERSION = None, 1


@dataclass(frozen=True)
class Options:
    column: str = column_field("text column")


def check(options, config):
    pass


def output_type(options, config):
    return pa.string()


def load(options, model, max_tokens=None):
    raise ModelError("the word list is damaged; copy it again")
"""


def test_an_error_in_a_worker_process_is_reported_in_one_sentence_with_exit_2(tmp_path, models):
    (tmp_path / "refuses.py").write_text(REFUSES)
    task = {"task": "refuses", "column": "text", "into": "words"}
    source = make_lake(tmp_path / "in", files=1)
    content = lake.job(source, tmp_path / "out", models, tasks=[task], runner={"workers": 2})
    done = lake.command("run", lake.write_job(tmp_path, content), "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "nightscribe: the word list is damaged; copy it again\n")


@pytest.mark.parametrize(("max_fraction", "fails"), [(0.01, False), (0.0, True)])
def test_one_bad_row_fails_a_run_only_if_none_is_allowed(tmp_path, models, max_fraction, fails):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"id": 1, "text": "fine"}\n{"id": 2, "text"\n{"id": 3, "text": "good"}\n')
    content = lake.job(tmp_path / "in", tmp_path / "out", models, errors={"max_fraction": max_fraction})
    if fails:
        with pytest.raises(
            TooManyRejects, match=r"1 of 3 rows .* allows 0 \(first: 'a.jsonl', record 2, column 'text': InvalidJSON\);"
        ):
            execute(content)
        assert lake.parts(tmp_path / "out") == []
    else:
        report = execute(content)
        assert (report.rows_out, report.rows_rejected) == (2, 1)
        assert lake.read(tmp_path / "out")["id"].to_pylist() == [1, 3]
