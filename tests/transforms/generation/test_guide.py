"""Guides: a stop string ends a text however tokens cut it, a JSON schema leaves only what is valid."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny_causal
from transforms.errors import SpecError
from transforms.generation import guide

tokenizer = tiny_causal.tokenizer()


def ends_at(text: str, stop: list[str]) -> str:
    """What has been said when the guide ends a text, token by token."""
    steering = guide.StopStrings(tokenizer, stop)
    ids = tokenizer(text)["input_ids"]
    for i, token in enumerate(ids):
        assert steering.allowed() is None
        if steering.accept(token):
            return tokenizer.decode(ids[: i + 1])
    return "never"


def test_a_stop_string_is_found_across_tokens_and_inside_one() -> None:
    assert ends_at("the cat sat on", ["at s"]).startswith("the cat s")
    assert ends_at("the cat sat on", ["a"]) == "the cat"
    assert ends_at("the cat sat on", ["dog"]) == "never"
    assert ends_at("e\u0301te\u0301 👩‍👩‍👧 שלום x", ["‍👧", "ום x"]).endswith("👧")


@settings(max_examples=80, deadline=None)
@given(before=st.text(max_size=30), stop=st.text(min_size=1, max_size=8), after=st.text(max_size=10))
def test_any_stop_string_is_found_once_it_is_complete(before: str, stop: str, after: str) -> None:
    said = ends_at(before + stop + after, [stop])
    whole = tokenizer.decode(tokenizer(before + stop + after)["input_ids"])
    assert stop in said
    assert whole.startswith(said)
    assert guide.cut(said, [stop]) == guide.cut(whole, [stop])


def test_a_text_is_cut_before_the_first_of_its_stop_strings() -> None:
    assert guide.cut("a, b. c", [".", ","]) == "a"
    assert guide.cut("a, b. c", [";"]) == "a, b. c"
    assert guide.cut("a, b. c", []) == "a, b. c"


SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["kind", "lives"],
    "additionalProperties": False,
}


def test_a_json_guide_allows_an_end_token_only_after_a_complete_text() -> None:
    start = guide.json_texts(tokenizer, json.dumps(SCHEMA), len(tokenizer) + 12, [2])
    steering = start()
    said: list[int] = []
    for token in tokenizer('{"kind": "dog", "lives": 9}')["input_ids"]:
        allowed = steering.allowed()
        assert allowed.shape == (len(tokenizer) + 12,)
        assert allowed[token]
        assert not allowed[2]
        steering.accept(token)
        said.append(token)
    assert steering.allowed().nonzero()[0].tolist() == [2]
    assert steering.accept(2)
    fresh = start()
    assert not fresh.allowed()[tokenizer("cat")["input_ids"][0]]
    with pytest.raises(ValueError, match="json_schema"):
        fresh.accept(tokenizer("cat")["input_ids"][0])


@pytest.mark.parametrize("schema", [{"type": "strin"}, {"properties": 3}, {"$ref": "#/nowhere"}])
def test_an_invalid_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"json_schema: .*json-schema\.org"):
        guide.check_schema(json.dumps(schema))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "llguidance":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    guide._llguidance.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SpecError, match=r"nightscribe\[json\]"):
        guide.check_schema("{}")
    guide._llguidance.cache_clear()
