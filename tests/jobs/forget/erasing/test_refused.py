"""What the command refuses or leaves, and a command that was killed."""

import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.forget import erase
from jobs.gate import decision
from jobs.registry import Registry
from jobs.retraining import state
from jobs.store import Store, lease
from jobs.training import identity
from tests import lake
from tests.jobs.forget.erasing.ada import ADA, WORD, command, contents, files, holding, rows, training

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


def test_labelled_files_that_are_not_parquet_are_named(tmp_path, models, capsys):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.csv").write_text(f"text,label,author\n{WORD} one,good,ada\ntwo,bad,bob\n")
    pq.write_table(pa.table({"text": [f"{WORD} one"], "label": ["good"]}), tmp_path / "labels" / "2.parquet")
    content = training(tmp_path, models / "sentiment") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    (tmp_path / "training.yaml").write_text(json.dumps(content))
    assert command("--where", ADA, "--training", tmp_path / "training.yaml") == 1
    said = capsys.readouterr()
    assert "delete the rows of the person yourself in" in said.err
    assert "1.csv (1)" in said.err
    assert WORD in (tmp_path / "labels" / "1.csv").read_text()
    assert len(pq.read_table(tmp_path / "labels" / "2.parquet")) == 0


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        (
            "auther = 'ada'",
            "column 'auther' is not in any file of the sinks, review folders and labelled rows that are searched",
        ),
        ("author =", "syntax error"),
        ("", "--where is empty"),
        ("true", "names no column"),
        ("author > 5 AND count(*) > 1", "computed over many rows"),
    ],
)
def test_a_wrong_condition_is_one_sentence_and_erases_nothing(lake_of_ada, capsys, where, complaint):
    folder, content = lake_of_ada
    before = contents(folder)
    assert command("--where", where, *files(folder, content)) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    after = contents(folder)
    assert {name: after[name] for name in before if "lock" not in name} == {
        n: before[n] for n in before if "lock" not in n
    }


def test_a_sink_that_is_held_by_a_run_is_one_sentence(lake_of_ada, capsys):
    folder, content = lake_of_ada
    with lease.hold(Store(content["sink"]["path"])):
        assert command("--where", ADA, *files(folder, content)) == 1
    assert "is being written by process" in capsys.readouterr().err


def test_a_job_that_never_ran_and_no_file_at_all_are_refused(lake_of_ada, capsys):
    folder, content = lake_of_ada
    assert command("--where", ADA) == 2
    assert "give --job FILE, --training FILE" in capsys.readouterr().err
    file = lake.write_job(folder, content | {"sink": {"path": str(folder / "nowhere")}})
    assert command("--where", ADA, "--job", file) == 2
    assert "is no sink" in capsys.readouterr().err


def test_an_altered_receipt_stays_recognisable(tmp_path, models):
    registry = Registry(str(tmp_path / "registry"))
    key = identity.key(WORD)
    receipt = decision.sealed({"format": 2, "ring": {"spent": [key]}, "reason": "better"})
    state.keep_decision(registry, "right", receipt)
    state.keep_decision(registry, "altered", receipt | {"reason": "worse"})
    (tmp_path / "labels").mkdir()
    pq.write_table(pa.table({"text": [WORD], "author": ["ada"], "label": ["good"]}), tmp_path / "labels" / "1.parquet")
    content = training(tmp_path, models / "sentiment") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    (tmp_path / "training.yaml").write_text(json.dumps(content))
    assert command("--where", ADA, "--training", tmp_path / "training.yaml") == 0
    found = {name: json.loads(registry.store.get(f"gate/decisions/{name}.json")) for name in ("right", "altered")}
    assert {name: decision.is_sealed(each) for name, each in found.items()} == {"right": True, "altered": False}
    assert all(each["ring"]["spent"][0].startswith("forgotten-") for each in found.values())


@pytest.mark.parametrize("made_before", [1, 3, 6])
def test_a_command_that_was_killed_can_be_run_again(lake_of_ada, tmp_path, monkeypatch, capsys, made_before):
    folder, content = lake_of_ada
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    content = json.loads(json.dumps(content).replace(str(folder), str(tmp_path)))
    (tmp_path / "labels").mkdir()
    for name, columns_ in (("named", ["text", "author", "label"]), ("by_key", ["text", "label"])):
        pq.write_table(rows(9, 1, ada=3).select(columns_), tmp_path / "labels" / f"{name}.parquet")
    file = training(tmp_path, "base") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    arguments = ["--where", ADA, *files(tmp_path, content, file)]
    prepared = erase._changes

    def killed():
        raise KeyboardInterrupt

    def stopping(*given):
        """The changes, of which one ends the process."""
        found = list(prepared(*given))
        return [*found[:made_before], replace(found[made_before], make=killed), *found[made_before + 1 :]]

    with monkeypatch.context() as patch:
        patch.setattr(erase, "_changes", stopping)
        assert command(*arguments) == 1
    assert holding(tmp_path, [WORD])
    assert command(*arguments) == 0
    assert holding(tmp_path, [WORD]) == []
