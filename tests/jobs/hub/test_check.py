"""`nightscribe hub check` says what a Hub can do, and what does not work with it."""

from __future__ import annotations

import json
import uuid

import pytest

from jobs import cli
from tests.hub.local import Hub

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def name(hub: Hub) -> str:
    made = f"org/{uuid.uuid4().hex[:12]}"
    hub.repository("dataset", made, {"README.md": b"a readme", "data/train.parquet": b"x" * 500})
    return made


def answers(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    code = cli.main(["hub", "check", "--json", *arguments])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, {each["what"]: (each["answer"], each["text"]) for each in found}


def test_a_whole_hub_is_said_to_be_whole(
    hub: Hub, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    token = hub.token("ada")
    monkeypatch.setenv("HF_TOKEN", token)
    hub.limit(500, window_s=300)
    code, found = answers(capsys, "--dataset", name, "--write")
    assert code == 0
    wanted = ("reachable", "token", "repository", "ranges", "commits", "parents", "limits")
    assert {what: found[what][0] for what in wanted} == dict.fromkeys(wanted, "yes")
    assert found["token"][1] == "of ada"
    assert "of 500 left" in found["limits"][1]
    assert not [each for each in hub.repositories if "nightscribe-check" in each[1]]
    assert token not in str(found)


def test_a_hub_that_ignores_parents_and_ranges_is_found_out(
    hub: Hub, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    hub.ignores_parent = True
    hub.faults.ignores_ranges()
    code, found = answers(capsys, "--dataset", name, "--write")
    assert code == 0
    assert found["parents"][0] == "no"
    assert "refused as a registry and as a sink" in found["parents"][1]
    assert found["ranges"] == (
        "no",
        "each file is read as a whole: a job of two columns downloads all columns",
    )


def test_without_a_token_or_the_right_one_it_says_so(
    hub: Hub, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    code, found = answers(capsys, "--dataset", name)
    assert (code, found["token"][0], found["ranges"][0]) == (0, "no", "yes")
    monkeypatch.setenv("HF_TOKEN", f"hf_{'x' * 34}")
    code, found = answers(capsys, "--dataset", name)
    assert (code, found["reachable"][0]) == (1, "no")
    assert "does not accept the token" in found["reachable"][1]


def test_the_table_is_for_people(hub: Hub, name: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["hub", "check", "--model", "org/none"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("repository  NO   org/none: ") for line in lines)


def test_a_gated_repository_is_said_to_be_gated(
    hub: Hub, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    hub.repositories["dataset", name].gated = True
    monkeypatch.setenv("HF_TOKEN", hub.token("bob", organizations=()))
    code, found = answers(capsys, "--dataset", name)
    assert code == 1
    assert f"ask for access on {hub.endpoint}/datasets/{name}" in str(found)


def test_without_the_network_it_says_so_and_asks_nothing(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, found = answers(capsys)
    assert (code, found["online"][0], hub.requests) == (1, "no", [])
    assert "reachable" not in found
