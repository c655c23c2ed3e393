"""Predictions for an evaluation are those of a job on the same rows."""

import pyarrow as pa
import pytest

from jobs.evaluation import metrics
from jobs.evaluation.predict import predict, prepare
from tests import lake, tiny
from transforms.errors import ModelError, SpecError

FLOAT = {"dtype": "float32", "device": "cpu"}


def adapter_over(base, folder, seed=5):
    """A LoRA adapter with random weights over a tiny classifier, its head included."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base)
    config = LoraConfig(
        r=4, target_modules=["query", "value"], modules_to_save=["classifier"], init_lora_weights=False,
        task_type="SEQ_CLS",
    )  # fmt: skip
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def job_column(tmp_path, source, task, into):
    """The column that a job writes for the same rows."""
    lake.execute(
        {"name": "test", "source": {"path": str(source)}, "tasks": [task], "sink": {"path": str(tmp_path / "out")}}
    )
    return lake.read(tmp_path / "out").column(into).to_pylist()


def written(tmp_path, table):
    import pyarrow.parquet as pq

    source = tmp_path / "in" / "rows.parquet"
    source.parent.mkdir()
    pq.write_table(table, source)
    return source


def labelled(n):
    return pa.table({"id": [f"r{i:04}" for i in range(n)], "text": tiny.texts(n), "label": ["positive"] * n})


def test_predictions_of_an_adapter_equal_the_column_of_a_job(tmp_path, models):
    # More rows than a chunk has.
    table = labelled(1100)
    adapter = adapter_over(models / "sentiment", tmp_path / "adapter")
    found = predict(prepare("classify", models / "sentiment", adapter, table, FLOAT))
    task = {"task": "classify", "column": "text", "model": str(models / "sentiment"), "adapter": str(adapter)}
    assert found.values.to_pylist() == job_column(tmp_path, written(tmp_path, table), task | FLOAT | {"into": "x"}, "x")
    assert (
        found.values.to_pylist()
        != predict(prepare("classify", models / "sentiment", None, table, FLOAT)).values.to_pylist()
    )
    assert found.tokens > 0
    assert found.rows_per_s > 0


def test_predicted_entities_equal_the_column_of_a_job(tmp_path, models):
    table = labelled(60)
    found = predict(prepare("ner", models / "ner", None, table, FLOAT | {"aggregation": "first"}))
    task = {"task": "ner", "column": "text", "model": str(models / "ner"), "aggregation": "first", "into": "x"}
    assert found.values.to_pylist() == job_column(tmp_path, written(tmp_path, table), task | FLOAT, "x")


def test_a_null_or_empty_text_has_a_null_prediction(models):
    table = pa.table({"text": pa.array(["good", None, ""], pa.string()), "label": ["positive"] * 3})
    found = predict(prepare("classify", models / "sentiment", None, table, FLOAT))
    assert [value is None for value in found.values.to_pylist()] == [False, True, True]
    assert found.failed == 0


def test_a_row_that_fails_is_null_and_counted_at_its_own_place(causal_model):
    prompts = ["the cat ->"] * 1030 + ["rain " * 300] + ["the mat ->"]
    table = pa.table({"prompt": prompts})
    options = FLOAT | {"max_new_tokens": 2, "long_text": "reject"}
    found = predict(prepare("generate", causal_model("llama"), None, table, options))
    assert [row for row, value in enumerate(found.values.to_pylist()) if value is None] == [1030]
    assert [failure.row for failure in found.failures] == [1030]
    assert "the window has room for" in found.failures[0].message


@pytest.mark.parametrize(
    ("task", "family", "options"),
    [("summarize", "t5", {"max_new_tokens": 8}), ("translate", "marian", {"target_language": "deu"})],
)
def test_texts_are_written_by_encoder_decoders(writers, task, family, options):
    table = pa.table({"text": ["a cat sat", "birds"], "target": ["a cat", "birds"]})
    found = predict(prepare(task, writers(family), None, table, FLOAT | options))
    assert all(isinstance(text, str) for text in found.values.to_pylist())
    assert 0 <= metrics.measure(task, table, found.values, "chrf").value <= 1


def test_a_conversation_is_answered_as_its_first_question(causal_model):
    messages = [[{"role": "user", "content": text}, {"role": "assistant", "content": "x"}] for text in ("cat", "rain")]
    options = FLOAT | {"max_new_tokens": 5}
    folder = causal_model("chat")
    one = predict(prepare("generate", folder, None, pa.table({"messages": messages}), options))
    other = predict(prepare("generate", folder, None, pa.table({"prompt": ["cat", "rain"]}), options))
    assert one.values.to_pylist() == other.values.to_pylist()


def test_a_system_message_of_all_rows_is_the_task_s_own(causal_model):
    messages = [[{"role": "system", "content": "Birds."}, {"role": "user", "content": text}] for text in ("cat", "on")]
    found = predict(
        prepare("generate", causal_model("chat"), None, pa.table({"messages": messages}), FLOAT | {"max_new_tokens": 3})
    )
    assert found.plan.spec.options.system == "Birds."
    messages[0][0]["content"] = "Fish."
    found = predict(
        prepare("generate", causal_model("chat"), None, pa.table({"messages": messages}), FLOAT | {"max_new_tokens": 3})
    )
    assert found.plan.spec.options.system is None


def test_no_rows_give_no_predictions_of_the_task_s_type(models):
    found = predict(prepare("classify", models / "sentiment", None, labelled(1).slice(1), FLOAT))
    assert len(found.values) == 0
    assert pa.types.is_struct(found.values.type)


def test_an_adapter_for_another_base_is_refused(tmp_path, models):
    adapter = adapter_over(models / "sentiment", tmp_path / "adapter")
    with pytest.raises(ModelError, match="was trained on"):
        predict(prepare("classify", models / "topics", adapter, labelled(2), FLOAT))


@pytest.mark.parametrize(
    ("task", "table", "options", "said"),
    [
        ("classify", pa.table({"body": ["a"]}), {}, "column 'text' is not in the rows; columns: body"),
        ("classify", pa.table({"text": ["a"]}), {"top_n": 2}, "top_n is not a key"),
        ("embed", pa.table({"text": ["a"]}), {}, "task is 'embed', which cannot be evaluated; choices: classify, ner"),
        ("generate", pa.table({"messages": [[{"role": "assistant", "content": "a"}]]}), {}, "do not begin with a mess"),
    ],
)
def test_wrong_rows_and_options_are_refused_in_one_sentence(models, task, table, options, said):
    with pytest.raises(SpecError) as raised:
        predict(prepare(task, models / "sentiment", None, table, FLOAT | options))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
