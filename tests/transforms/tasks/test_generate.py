"""generate: the text that model.generate() writes after each row's prompt, whatever rows are beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs import run as jobs_run
from jobs import spec
from tests import lake, tiny_causal
from tests.tiny import HARD
from transforms.errors import ModelError, SpecError
from transforms.generation import causal
from transforms.model import Model, ModelRef, load
from transforms.options import columns_read
from transforms.tasks import generate
from transforms.tasks.generate import Options

TEXTS = [*HARD[:6], None, "", *tiny_causal.sentences(14, 3)]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "fish"]}, "lives": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "lives"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llama(causal_model: Callable[[str], Path]) -> Model:
    return load(ModelRef(str(causal_model("llama"))), AutoModelForCausalLM)


@pytest.fixture(scope="module")
def chat(causal_model: Callable[[str], Path]) -> Model:
    return load(ModelRef(str(causal_model("chat"))), AutoModelForCausalLM)


def batch(texts: list[str | None] = TEXTS, **more: list[str | None]) -> pa.RecordBatch:
    columns = {"text": texts} | more
    return pa.RecordBatch.from_pydict({name: pa.array(values, pa.string()) for name, values in columns.items()})


def write(model: Model, texts: list[str | None] = TEXTS, **options: Any) -> list[str | None]:
    options = {"prompt": "{text} ->", "max_new_tokens": 24} | options
    annotation = generate.load(Options(**options), model)(batch(texts))
    assert not annotation.failures
    assert annotation.values.type == pa.string()
    return annotation.values.to_pylist()


def alone(model: Model, prompt: str, **more: Any) -> str:
    """What one prompt gives through generate()."""
    ids = model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        whole = model.network.generate(ids, max_new_tokens=24, **{"do_sample": False} | more)
    return model.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)


def test_each_text_is_what_generate_writes_after_the_prompt_alone(llama: Model) -> None:
    found = write(llama)
    assert found == [alone(llama, f"{text} ->") if text else None for text in TEXTS]
    assert len(set(found)) > 6


def test_beams_and_a_penalty_are_those_of_generate(llama: Model) -> None:
    expected = [alone(llama, f"{text} ->", num_beams=3, repetition_penalty=1.3) if text else None for text in TEXTS]
    assert write(llama, num_beams=3, repetition_penalty=1.3) == expected


def test_a_chat_template_is_used_where_there_is_one(chat: Model) -> None:
    texts: list[str | None] = ["the cat", "fish soup ->"]
    expected = [alone(chat, f"<|system|>Go on.</s><|user|>{text}</s><|model|>") for text in texts]
    assert write(chat, texts, prompt=None, column="text", system="Go on.") == expected
    assert write(chat, texts, prompt=None, column="text", chat="never") == [alone(chat, str(text)) for text in texts]


def test_a_template_reads_several_columns_and_a_null_or_empty_one_gives_null(llama: Model) -> None:
    options = Options(prompt="{text} and {title} ->", max_new_tokens=24)
    assert columns_read(options) == ["text", "title"]
    rows = batch(["the cat", "the cat", None, "x"], title=["a mat", None, "red", ""])
    annotation = generate.load(options, llama)(rows)
    assert annotation.values.to_pylist() == [alone(llama, "the cat and a mat ->"), None, None, None]
    assert not annotation.failures


@pytest.mark.parametrize("name", ["dc:title", "a.b", "{x}", "0", "naïve text"])
def test_any_column_name_works_in_a_template(llama: Model, name: str) -> None:
    rows = batch(["x"], **{name: ["the cat ->"]})
    annotation = generate.load(Options(column=name, max_new_tokens=24), llama)(rows)
    assert annotation.values.to_pylist() == [alone(llama, "the cat ->")]


def test_no_rows_and_rows_without_text_give_an_empty_and_a_null_column(llama: Model) -> None:
    assert write(llama, []) == []
    assert write(llama, [None, ""]) == [None, None]


def test_a_text_ends_before_a_stop_string_with_and_without_beams(llama: Model) -> None:
    whole = write(llama)
    stop = ["e f", "sh", "שלום", "en b"]
    expected = [text and min((text.split(s)[0] for s in stop), key=len) for text in whole]
    assert write(llama, stop=stop) == expected
    assert expected != whole
    beams = write(llama, num_beams=2)
    assert write(llama, num_beams=2, stop=["sh"]) == [text and text.split("sh")[0] for text in beams]


def test_a_stop_string_saves_the_tokens_after_it(llama: Model) -> None:
    rows = batch(["the"] * 1)
    tokens = [
        generate.load(Options(prompt="{text} ->", max_new_tokens=24, stop=stop), llama)(rows).tokens
        for stop in (None, [" sat"])
    ]
    assert tokens[1] < tokens[0]


def test_equal_prompts_are_computed_once(llama: Model) -> None:
    once, often = (
        generate.load(Options(column="text", max_new_tokens=24, temperature=1.4), llama)(batch(["the cat"] * n))
        for n in (1, 50)
    )
    assert often.values.to_pylist() == once.values.to_pylist() * 50
    assert often.tokens == once.tokens


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(12)), size=st.integers(1, 12), rows=st.integers(1, 5))
def test_a_sampled_text_is_the_same_in_any_batch_and_in_a_rerun(
    llama: Model, monkeypatch: pytest.MonkeyPatch, order: list[int], size: int, rows: int
) -> None:
    texts = [text for text in TEXTS if text][:12]
    how = {"temperature": 1.4, "top_k": 0, "top_p": 0.95}
    expected = write(llama, texts, **how)
    with monkeypatch.context() as patch:
        patch.setattr(causal, "ROWS", {"cpu": rows})
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        found = [text for part in parts for text in write(llama, [texts[i] for i in part], **how)]
    assert found == [expected[i] for i in order]


def test_another_seed_samples_another_text(llama: Model) -> None:
    drawn = [tuple(write(llama, temperature=1.4, seed=seed)) for seed in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize("how", [{}, {"temperature": 1.5}], ids=["greedy", "drawn"])
def test_with_a_schema_every_text_is_valid_json(llama: Model, how: dict[str, Any]) -> None:
    found = write(llama, json_schema=SCHEMA, max_new_tokens=40, **how)
    for text, source in zip(found, TEXTS, strict=True):
        assert (text is None) == (not source)
        if text is not None:
            jsonschema.validate(json.loads(text), SCHEMA)


def test_a_text_of_a_schema_may_be_a_struct_with_its_fields(llama):
    pytest.importorskip("llguidance")
    options = Options(prompt="{text} ->", json_schema=SCHEMA, max_new_tokens=40, json_column="struct")
    type_ = pa.struct([("kind", pa.string()), ("lives", pa.int64())])
    assert generate.output_type(options, None) == type_
    annotation = generate.load(options, llama)(batch())
    assert annotation.values.type == type_
    strings = write(llama, json_schema=SCHEMA, max_new_tokens=40)
    assert annotation.values.to_pylist() == [text and json.loads(text) for text in strings]


def test_with_a_struct_column_only_keys_that_the_schema_names_are_generated(llama):
    pytest.importorskip("llguidance")
    schema = {key: value for key, value in SCHEMA.items() if key != "additionalProperties"}
    options = Options(prompt="{text} ->", json_schema=schema, max_new_tokens=40, json_column="struct")
    generate.check(options, None)
    assert options.schema["additionalProperties"] is False
    assert not generate.load(options, llama)(batch()).failures


def test_json_that_is_incomplete_after_max_new_tokens_rejects_its_row(llama: Model) -> None:
    options = Options(column="text", json_schema=SCHEMA, max_new_tokens=6)
    annotation = generate.load(options, llama)(batch(["the cat", None]))
    assert annotation.values.to_pylist() == [None, None]
    assert [(failure.row, failure.message) for failure in annotation.failures] == [
        (0, "the JSON text was not complete after 6 tokens; raise max_new_tokens")
    ]


def test_a_prompt_past_the_window_is_cut_or_its_row_rejected(llama: Model) -> None:
    rows = batch(["the cat", "fish soup " * 400])
    cut = generate.load(Options(prompt="{text} ->", max_new_tokens=24), llama)(rows)
    assert not cut.failures
    assert None not in cut.values.to_pylist()
    kept = generate.load(Options(prompt="{text} ->", max_new_tokens=24, long_text="reject"), llama)(rows)
    assert kept.values.to_pylist() == [alone(llama, "the cat ->"), None]
    assert [failure.row for failure in kept.failures] == [1]
    assert "the window has room for 232" in kept.failures[0].message


def test_a_model_that_cannot_be_batched_continuously_still_writes_but_takes_no_schema(
    causal_model: Callable[[str], Path],
) -> None:
    bloom = load(ModelRef(str(causal_model("bloom"))), AutoModelForCausalLM)
    assert write(bloom, stop=["sh"]) == [alone(bloom, f"{text} ->").split("sh")[0] if text else None for text in TEXTS]
    how = {"temperature": 1.3, "top_k": 9}
    assert write(bloom, **how) == write(bloom, TEXTS[:9], **how) + write(bloom, TEXTS[9:], **how)
    with pytest.raises(ModelError, match="BloomForCausalLM cannot"):
        generate.load(Options(column="text", max_new_tokens=9, json_schema=SCHEMA), bloom)


def test_a_job_writes_a_column_of_texts(causal_model: Callable[[str], Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    table = lake.rows(60)
    pq.write_table(table, source / "part.parquet", row_group_size=25)
    content = {
        "name": "titles",
        "source": {"path": str(source)},
        "tasks": [
            {
                "task": "generate",
                "prompt": "{text} ({id}) ->",
                "model": str(causal_model("gpt2")),
                "into": "title",
                "dtype": "float32",
                "max_new_tokens": 12,
                "stop": ["fish"],
            }
        ],
        "sink": {"path": str(tmp_path / "sink")},
    }
    report = jobs_run.run(spec.parse(content))
    assert report.rows_out == 60
    assert report.tokens > 0
    found = lake.read(tmp_path / "sink")
    assert found.schema.field("title").type == pa.string()
    gpt2 = load(ModelRef(str(causal_model("gpt2"))), AutoModelForCausalLM)
    tokenizer = AutoTokenizer.from_pretrained(causal_model("gpt2"))
    for row in found.select(["id", "text", "title"]).to_pylist()[::7]:
        if not row["text"]:
            assert row["title"] is None
        elif len(tokenizer(row["text"])["input_ids"]) < 200:
            ids = tokenizer(f"{row['text']} ({row['id']}) ->", return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                new = gpt2.network.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
            assert row["title"] == tokenizer.decode(new, skip_special_tokens=True).split("fish")[0]
    content["tasks"][0]["prompt"] = "{text} by {author}"
    with pytest.raises(SpecError, match=r"column 'author' is not in the source; columns: id, text, stars"):
        jobs_run.run(spec.parse(content))
