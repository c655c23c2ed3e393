"""Versions, the champion and its history, on a disk and on an object store."""

import json
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.registry import Registry, parse, resolve
from jobs.registry.version import Base
from tests import s3
from tests.jobs.registry.versions import about
from transforms.errors import ModelError, RunError, SpecError, UnreadableRegistry


@pytest.fixture(params=["disk", "memory", "hub"])
def registry(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "hub":
        monkeypatch.setenv("HF_TOKEN", request.getfixturevalue("hub").token("ada"))
        return Registry(f"hf://org/{uuid.uuid4().hex}")
    return Registry(str(tmp_path / "registry") if request.param == "disk" else f"memory://{tmp_path.name}-registry")


@pytest.fixture
def add(registry, tmp_path):
    def add(content, **more):
        folder = tmp_path / f"adapter-{content}"
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_text(content)
        (folder / "deep" / "config.json").write_text("{}")
        return registry.add(folder, about(**more)).version

    return add


def test_a_version_keeps_its_files_and_its_origin(registry, add):
    name = add("one")
    version = registry.version(name)
    assert sorted(version.files) == ["deep/config.json", "nightscribe.json", "weights"]
    assert (registry.folder(name) / "weights").read_text() == "one"
    assert version.base == Base("org/base", "c" * 40, "f" * 40)
    assert version.labels == ("bad", "good", "mixed")
    assert "| accuracy | 0.9000 |" in registry.store.get(f"versions/{name}/README.md").decode()


def test_the_same_content_is_the_same_version_and_other_content_another(registry, add):
    assert add("one") == add("one")
    assert add("one") != add("two")
    assert add("one") != add("one", train_hash="other rows")
    assert len(registry.versions()) == 3


def test_a_version_without_its_last_file_does_not_exist(registry, add):
    name = add("one")
    registry.store.delete(f"versions/{name}/version.json")
    assert registry.versions() == []
    with pytest.raises(ModelError, match=f"has no version '{name}'"):
        registry.version(name)


def test_the_champion_moves_and_every_move_is_in_the_history(registry, add):
    one, two = add("one"), add("two")
    assert registry.champion() is None
    registry.promote(one, "gate", "first", expected=None)
    registry.promote(two, "ada", "better", expected=one)
    assert registry.champion().version == two
    assert [(m.number, m.action, m.before, m.version, m.by) for m in registry.history()] == [
        (1, "promote", None, one, "gate"),
        (2, "promote", one, two, "ada"),
    ]


def test_rollbacks_go_back_along_the_chain_and_end_with_the_first_version(registry, add):
    names = [add(content) for content in ("one", "two", "three")]
    for name in names:
        registry.promote(name, "gate", "better")
    assert registry.rollback("ada", "worse on invoices").version == names[1]
    assert registry.rollback("ada", "still worse").version == names[0]
    with pytest.raises(RunError, match=r"has no champion before .*; there is nothing to roll back to"):
        registry.rollback("ada", "again")
    registry.promote(names[2], "gate", "mended")
    assert registry.rollback("ada", "no").version == names[0]
    assert [move.action for move in registry.history()] == ["promote"] * 3 + ["rollback"] * 2 + ["promote", "rollback"]


def test_a_decision_against_an_older_champion_changes_nothing(registry, add):
    one, two, three = add("one"), add("two"), add("three")
    registry.promote(one, "gate", "first")
    registry.promote(two, "gate", "better")
    with pytest.raises(RunError, match=f"is {two} by now, and {one} was expected; decide again"):
        registry.promote(three, "gate", "better", expected=one)
    with pytest.raises(RunError, match=f"is {two} by now, and None was expected"):
        registry.promote(three, "gate", "first", expected=None)
    with pytest.raises(RunError, match=r"is the champion of .* already"):
        registry.promote(two, "gate", "again")
    assert registry.champion().version == two


def test_of_concurrent_moves_one_succeeds(registry, add):
    names = [add(str(i)) for i in range(4)]

    def move(name):
        try:
            registry.promote(name, "gate", "better", expected=None)
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(move, names))
    assert sum(done) == 1
    assert registry.champion().version == names[done.index(True)]
    assert len(registry.history()) == 1


def test_a_move_whose_process_ended_before_the_history_is_in_the_history(registry, add):
    one, two = add("one"), add("two")
    registry.promote(one, "gate", "first")
    registry.store.delete("history/000001.json")
    assert [move.version for move in registry.history()] == [one]
    registry.promote(two, "gate", "better")
    assert [move.version for move in registry.history()] == [one, two]
    assert registry.store.exists("history/000001.json")


def test_a_torn_champion_is_named_and_left_alone(registry, add):
    one = add("one")
    registry.promote(one, "gate", "first")
    registry.store.put("champion.json", b'{"version": "')
    for call in (registry.champion, registry.history, lambda: registry.promote(one, "gate", "x")):
        with pytest.raises(RunError, match=r"champion.json is damaged .*; restore it"):
            call()
    assert registry.store.get("champion.json") == b'{"version": "'


def test_references_name_the_champion_or_a_version(registry, add):
    one = add("one")
    with pytest.raises(SpecError, match="the registry has no champion yet; train one, or promote a version"):
        resolve(f"{registry.url}@champion", "tasks.0.adapter")
    registry.promote(one, "gate", "first")
    assert resolve(f"{registry.url}@champion", "tasks.0.adapter")[1].version == one
    assert resolve(f"{registry.url}@{one[:5]}", "tasks.0.adapter")[1].version == one
    with pytest.raises(SpecError, match=r"tasks.0.adapter .*has no version 'zzz'; versions: "):
        resolve(f"{registry.url}@zzz", "tasks.0.adapter")


@pytest.mark.parametrize("text", ["org/model", "folder", "@champion", "folder@", "user@host/folder"])
def test_other_texts_are_no_references(text):
    assert parse(text) is None


def test_a_registry_keeps_plain_json(registry, add):
    add("one")
    assert json.loads(registry.versions()[0].to_json())["metrics"] == {"accuracy": 0.9}


def test_promoting_a_version_again_does_not_make_rollbacks_go_in_circles(registry, add):
    one, two = add("one"), add("two")
    for name in (one, two, one):
        registry.promote(name, "gate", "better")
    assert registry.rollback("ada", "worse").version == two
    assert registry.rollback("ada", "worse").version == one
    with pytest.raises(RunError, match="there is nothing to roll back to"):
        registry.rollback("ada", "worse")


def test_a_champion_that_is_gone_is_named_with_the_way_back_and_no_version_becomes_the_first_one(registry, add):
    first, second = add("one"), add("two")
    registry.promote(first, "ada", "first")
    registry.promote(second, "ada", "better")
    registry.store.delete("champion.json")
    said = r"is missing, and the history has 2 moves; copy .*/000002.json to champion.json"
    for call in (registry.champion, registry.history, lambda: registry.promote(first, "ada", "again")):
        with pytest.raises(UnreadableRegistry, match=said):
            call()
    registry.store.put("champion.json", registry.store.get("history/000002.json"))
    assert registry.champion().version == second


def test_adding_a_damaged_version_again_mends_it(registry, add):
    name = add("one")
    registry.store.put(f"versions/{name}/files/weights", b"torn")
    with pytest.raises(ModelError, match=r"weights of version .* was changed after"):
        registry.folder(name)
    with pytest.raises(ModelError, match="was changed after"):
        registry.promote(name, "gate", "first")
    assert registry.champion() is None
    assert add("one") == name
    assert (registry.folder(name) / "weights").read_text() == "one"


def test_two_writers_of_the_same_content_agree(registry, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "weights").write_text("one")
    with ThreadPoolExecutor(4) as threads:
        days = [f"2026-01-0{i + 1}T00:00:00" for i in range(4)]
        made = list(threads.map(lambda day: registry.add(folder, about(created=day)), days))
    assert len({version.to_json() for version in made}) == 1
    assert len(registry.versions()) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data | {"metrics": None}, "metrics is None"),
        (lambda data: {key: value for key, value in data.items() if key != "base"}, "base is missing"),
        (lambda data: data | {"files": data["files"] | {"../x": "0"}}, "which is outside of the version"),
        (lambda data: data | {"train_hash": "other"}, "are not those that the version was named after"),
        (lambda data: [data], "should be a dict"),
    ],
)
def test_an_edited_version_is_named_with_what_is_wrong(registry, add, change, what):
    name = add("one")
    place = f"versions/{name}/version.json"
    registry.store.put(place, json.dumps(change(json.loads(registry.store.get(place)))).encode())
    with pytest.raises(UnreadableRegistry, match=rf"{place} is damaged \(.*{what}.*\); restore the file"):
        registry.version(name)


def test_an_adapter_keeps_the_fingerprint_of_its_base_and_no_other_is_accepted(registry, add, tmp_path):
    folder = registry.folder(add("one"))
    assert json.loads((folder / "nightscribe.json").read_text()) == {"base_fingerprint": "f" * 40}
    taken = shutil.copytree(folder, tmp_path / "taken")
    with pytest.raises(ModelError, match=r"nightscribe.json names other weights than those of 'org/base'"):
        registry.add(taken, about(base=Base("org/base", "c" * 40, "e" * 40)))


def test_an_empty_folder_is_no_version(registry, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="has no files, so it is no adapter and no model"):
        registry.add(tmp_path / "empty", about())


def test_a_registry_on_s3_has_one_champion_after_concurrent_moves(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3.server():
        registry = Registry("s3://lake/adapters/sentiment")
        names = []
        for text in ("one", "two", "three"):
            (folder := tmp_path / text).mkdir()
            (folder / "weights").write_text(text)
            names.append(registry.add(folder, about()).version)
        registry.promote(names[0], "gate", "first", expected=None)

        def move(name):
            try:
                registry.promote(name, "gate", "better", expected=names[0])
            except RunError:
                return False
            return True

        with ThreadPoolExecutor(2) as threads:
            assert sum(threads.map(move, names[1:])) == 1
        assert registry.rollback("ada", "worse").version == names[0]
        assert len(registry.history()) == 3
        assert (registry.folder(names[1]) / "weights").read_text() == "two"
