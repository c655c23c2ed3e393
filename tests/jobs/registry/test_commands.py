"""`nightscribe adapters`: what it prints, what it refuses, and its exit codes."""

import json
import shutil

import pytest

from jobs import cli
from jobs.gate.decision import Evaluated, decide
from jobs.gate.ring import Ring
from jobs.gate.spec import GateSpec
from jobs.registry import Registry
from tests import lake
from tests.jobs.registry import versions

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def registry(tmp_path):
    return Registry(str(tmp_path / "registry"))


@pytest.fixture
def add(registry, tmp_path):
    def add(content):
        folder = tmp_path / f"adapter-{content}"
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text(content)
        return registry.add(folder, versions.about(created=f"2026-01-0{len(registry.versions()) + 1}T00:00:00")).version

    return add


@pytest.fixture
def call(registry, capsys):
    """Call a command in this process: exit code, stdout, stderr."""

    def call(action, *arguments, url=registry.url):
        code = cli.main(["adapters", action, str(url), *map(str, arguments)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def receipt(version, value):
    evaluated = Evaluated(version, "accuracy", value)
    return decide(GateSpec(metric="accuracy", floor=0.8), evaluated, Ring()).receipt


def test_list_shows_the_versions_the_champion_and_its_moves(call, add, registry):
    one, two = add("one"), add("two")
    assert call("promote", one, "--by", "ada", "--reason", "first")[:2] == (0, f"champion: {one}, before: none\n")
    assert call("promote", two, "--by", "ada", "--reason", "better on\ninvoices")[0] == 0
    code, out, _ = call("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["version", "created", "task", "method", "rows", "on", "the", "holdout"]
    assert lines[1].split()[:2] == [one, "2026-01-01T00:00:00"]
    assert lines[2].split()[:2] == ["champion", two]
    assert lines[-1].endswith("better on invoices")
    found = json.loads(call("list", "--json")[1])
    assert found["champion"] == two
    assert [version["version"] for version in found["versions"]] == [one, two]
    assert [move["version"] for move in found["history"]] == [one, two]


def test_show_prints_the_model_card_of_the_champion_or_of_a_version(call, add, registry):
    one, two = add("one"), add("two")
    registry.promote(one, "gate", "first")
    assert f"# sentiment {one}" in call("show")[1]
    assert f"# sentiment {two}" in call("show", two[:5])[1]
    assert json.loads(call("show", two, "--json")[1])["version"] == two


def test_rollback_says_which_runs_used_the_version_taken_back(call, registry, tmp_path, models):
    source = lake.make_lake(tmp_path / "in", files=1, n=40)
    one, two = (versions.add(registry, models / "sentiment", tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    registry.promote(two, "gate", "better")
    job = lake.job(source, tmp_path / "out", models)
    job["tasks"][0]["adapter"] = f"{registry.url}@champion"
    run_id = lake.execute(job).run_id
    reason = ("--by", "ada", "--reason", "worse on invoices")
    code, _, err = call("rollback", "--sink", tmp_path / "typo", *reason)
    assert (code, registry.champion().version) == (2, two)
    assert "--sink '" in err
    assert "is no sink: no job has written to it" in err
    code, out, _ = call("rollback", "--job", lake.write_job(tmp_path, job), *reason)
    assert (code, registry.champion().version) == (0, one)
    assert out.splitlines()[0] == f"champion: {one}, taken back: {two}"
    assert out.splitlines()[-1].split() == [run_id, "40"]
    code, _, err = call("rollback", *reason)
    assert code == 2
    assert f"has no champion before {one}; there is nothing to roll back to" in err


def test_a_move_against_another_champion_than_expected_is_refused(call, add, registry):
    one, two = add("one"), add("two")
    by = ("--by", "ada", "--reason", "better")
    assert call("promote", one, "--expected", "none", *by)[0] == 0
    code, _, err = call("promote", two, "--expected", "none", *by)
    assert (code, registry.champion().version) == (1, one)
    assert f"is {one} by now, and None was expected; decide again" in err
    assert call("promote", two, "--expected", one, *by)[0] == 0


@pytest.mark.parametrize("action", ["list", "show", "verify", "rollback", "promote", "merge"])
def test_a_path_without_a_registry_is_refused(call, tmp_path, action):
    more = {"rollback": ["--reason", "x"], "promote": ["abc", "--reason", "x"], "merge": ["abc", tmp_path / "m"]}
    code, out, err = call(action, *more.get(action, []), url=tmp_path / "typo")
    assert (code, out) == (2, "")
    assert "typo' is no registry: no version was ever added to it; correct the path" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "typo").exists()


def test_a_torn_champion_is_restored_from_the_history(call, add, registry):
    registry.promote(add("one"), "gate", "first")
    whole = registry.store.get("champion.json")
    registry.store.put("champion.json", whole[:30])
    for action in (["list"], ["show"], ["rollback", "--reason", "x"], ["promote", add("two"), "--reason", "x"]):
        code, _, err = call(*action)
        assert code == 2
        assert "champion.json is damaged (" in err
        assert "restore it; a champion.json has the content of the newest file in the folder history" in err
    registry.store.put("champion.json", registry.store.get("history/000001.json"))
    assert call("list")[0] == 0


def test_a_receipt_gives_the_decision_again_and_a_changed_one_does_not(call, add, registry):
    one = add("one")
    assert call("verify", one)[0] == 2
    registry.promote(one, "gate", "first", receipt=receipt(one, 0.9))
    assert call("verify")[:2] == (0, f"{one}: the evidence gives the same decision, promoted\n")
    two = add("two")
    registry.promote(two, "gate", "better", receipt=receipt(one, 0.9))
    assert f"the receipt is about version {one}, and {two} was promoted with it" in call("verify")[1]
    three = add("three")
    registry.promote(three, "gate", "better", receipt=receipt(three, 0.7))
    assert call("verify")[:2] == (1, f"the decision was refused, and {three} was promoted nevertheless\n")
    four = add("four")
    changed = receipt(four, 0.7) | {"decision": "promoted"}
    registry.promote(four, "gate", "better", receipt=changed)
    assert call("verify")[0] == 1
    assert call("verify", one)[0] == 0
    five = add("five")
    registry.promote(five, "ada", "by hand")
    said = f"{five}: promoted by ada without a receipt (by hand), so there is nothing to verify\n"
    assert call("verify")[:2] == (3, said)


def test_merge_writes_a_model_that_gives_the_rows_of_base_and_adapter(call, registry, tmp_path, models):
    base = shutil.copytree(models / "sentiment", tmp_path / "base")
    one = versions.add(registry, base, tmp_path, 1)
    registry.promote(one, "gate", "first")
    source = lake.make_lake(tmp_path / "in", files=1, n=40)
    job = lake.job(source, tmp_path / "out", models)
    job["tasks"][0]["adapter"] = f"{registry.url}@champion"
    lake.execute(job)
    assert call("merge", "champion", tmp_path / "merged")[:2] == (0, f"{tmp_path / 'merged'}\n")
    merged = lake.job(source, tmp_path / "out-merged", models)
    merged["tasks"][0]["model"] = str(tmp_path / "merged")
    lake.execute(merged)
    rows, same = (lake.read(tmp_path / name) for name in ("out", "out-merged"))
    assert same.drop_columns("sentiment").equals(rows.drop_columns("sentiment"))
    for one_row, other in zip(rows["sentiment"].to_pylist(), same["sentiment"].to_pylist(), strict=True):
        # Matrix products of some processors depend on where in memory the weights lie.
        assert other == (one_row and one_row | {"score": pytest.approx(one_row["score"], abs=1e-5)})

    code, _, err = call("merge", "champion", tmp_path / "merged")
    assert code == 2
    assert "merged' exists and is not empty; give a folder that does not exist" in err
    base.rename(tmp_path / "moved")
    assert call("merge", one, tmp_path / "again")[0] == 2
    assert call("merge", one, tmp_path / "again", "--base", tmp_path / "moved")[0] == 0
    code, _, err = call("merge", one, tmp_path / "wrong", "--base", models / "spam")
    assert code == 2
    assert "was trained on other weights than those of" in err
    assert not (tmp_path / "wrong").exists()
    whole = registry.add(tmp_path / "merged", versions.about(kind="model")).version
    code, _, err = call("merge", whole, tmp_path / "wrong")
    assert code == 2
    assert f"version {whole} is a whole model already; its files are in" in err


def test_a_user_id_without_a_name_has_to_say_who_approves(call, add, monkeypatch):
    def nobody():
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    one = add("one")
    assert call("list")[0] == 0
    code, _, err = call("promote", one, "--reason", "first")
    assert code == 2
    assert "say with --by who approves it" in err
