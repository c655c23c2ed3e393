"""generate: options that contradict each other or the model are refused before any weights load."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from transforms.errors import ModelError, SpecError
from transforms.tasks import generate
from transforms.tasks.generate import Options

SCHEMA = {"type": "object", "properties": {"kind": {"enum": ["cat", "fish"]}}, "required": ["kind"]}


def test_a_schema_in_a_file_equals_the_same_schema_in_the_job(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    assert Options(column="text", json_schema=str(file)) == Options(column="text", json_schema=SCHEMA)
    with pytest.raises(ValueError, match=r"cannot be read: No such file"):
        Options(column="text", json_schema=str(tmp_path / "none.json"))
    file.write_text("[1]")
    with pytest.raises(ValueError, match=r"contains no JSON object; write a schema"):
        Options(column="text", json_schema=str(file))
    file.write_text("{")
    with pytest.raises(ValueError, match=r"is not JSON"):
        Options(column="text", json_schema=str(file))


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        (None, "json_column is 'struct', which needs a json_schema with its fields; set json_schema too"),
        ({"type": "object"}, "json_column is 'struct', and in json_schema $ is an object without properties"),
    ],
)
def test_a_struct_whose_schema_has_no_single_arrow_type_is_refused(schema, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Options(column="text", json_schema=schema, json_column="struct")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "either prompt"),
        ({"prompt": "{a}", "column": "a"}, "not both"),
        ({"prompt": "no column"}, "name a column in it"),
        ({"prompt": "{a"}, "braces|expected"),
        ({"column": "a", "max_new_tokens": 0}, "number from 1"),
        ({"column": "a", "temperature": 0.0}, "above 0"),
        ({"column": "a", "top_k": 5}, "set temperature too"),
        ({"column": "a", "temperature": 1.0, "top_p": 1.5}, "above 0, at most 1"),
        ({"column": "a", "num_beams": 2, "temperature": 1.0}, "cannot be combined with temperature or json_schema"),
        ({"column": "a", "num_beams": 2, "json_schema": {}}, "cannot be combined with temperature or json_schema"),
        ({"column": "a", "stop": [""]}, "not empty"),
        ({"column": "a", "stop": ["x"], "json_schema": {}}, "either stop or json_schema, not both"),
    ],
    ids=str,
)
def test_invalid_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Options(**options)


def test_an_encoder_a_small_window_and_a_wrong_schema_are_refused_before_any_weights_load(
    models: Path, causal_model: Callable[[str], Path]
) -> None:
    with pytest.raises(ModelError, match=r"generate needs a causal language model \(BertLMHeadModel\).*BertFor"):
        generate.check(Options(column="text"), AutoConfig.from_pretrained(models / "mlm"))
    config = AutoConfig.from_pretrained(causal_model("llama"))
    generate.check(Options(column="text", max_new_tokens=255), config)
    with pytest.raises(SpecError, match="the model's window has 256 tokens"):
        generate.check(Options(column="text", max_new_tokens=256), config)
    with pytest.raises(SpecError, match="json_schema"):
        generate.check(Options(column="text", max_new_tokens=9, json_schema={"type": "text"}), config)
