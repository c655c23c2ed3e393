"""The adapter of every task is trained, and the transforms of the nightly job load it."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluation.predict import predict, prepare
from jobs.training import ner
from tests.jobs.training import made

pytestmark = pytest.mark.usefixtures("in_process")


def test_an_adapter_for_entities_is_loaded_with_its_tags(tmp_path, models):
    fast = made.FAST | {"num_train_epochs": 6, "learning_rate": 5e-3}
    rows, result = made.trained(tmp_path, "ner", models / "mlm", made.entities(), training=fast)
    assert result.labels == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    found = predict(prepare("ner", models / "mlm", result.folder, rows.holdout, {"dtype": "float32"}))
    assert found.failed == 0
    assert {entity["label"] for row in found.values.to_pylist() for entity in row} <= {"ORG", "PER"}


@pytest.mark.parametrize(("task", "family"), [("summarize", "t5"), ("translate", "marian")])
def test_an_adapter_of_an_encoder_decoder_is_loaded(tmp_path, writers, task, family):
    options = {"target_language": "deu"} if task == "translate" else {}
    rows, result = made.trained(tmp_path, task, writers(family), made.pairs(30), options=options)
    given = {"dtype": "float32", "max_new_tokens": 8} | options
    found = predict(prepare(task, writers(family), result.folder, rows.holdout.slice(0, 4), given))
    assert found.failed == 0
    assert found.values.null_count == 0


@pytest.mark.parametrize("name", ["llama", "chat"])
def test_an_adapter_of_a_causal_model_learns_the_answers_only(tmp_path, causal_model, name):
    fast = made.FAST | {"learning_rate": 1e-2, "num_train_epochs": 3}
    table = made.pairs(names=("prompt", "completion"))
    rows, result = made.trained(tmp_path, "generate", causal_model(name), table, training=fast)
    losses = [line["loss"] for line in result.curves if "loss" in line]
    assert losses[-1] < losses[0]
    given = {"dtype": "float32", "max_new_tokens": 8}
    found = predict(prepare("generate", causal_model(name), result.folder, rows.holdout.slice(0, 4), given))
    assert found.failed == 0


def test_conversations_are_learnt_with_the_chat_template(tmp_path, causal_model):
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        for prompt, answer in zip(*made.pairs().to_pydict().values(), strict=True)
    ]
    data = {"messages": "messages", "train": {"path": str(tmp_path / "rows.parquet")}, "holdout": {"fraction": 0.2}}
    _, result = made.trained(tmp_path, "generate", causal_model("chat"), pa.table({"messages": turns}), data=data)
    assert (result.folder / "adapter_model.safetensors").is_file()


def test_all_weights_are_trained_to_a_whole_model_that_a_job_loads_as_it_was_trained(tmp_path, models):
    rows, result = made.trained(tmp_path, "classify", models / "mlm", made.labelled(200), method="full")
    assert not (result.folder / "adapter_config.json").exists()
    # The training writes the loss of each validation row: minus the logarithm of what the true label got.
    losses = pq.read_table(result.losses)
    found = predict(prepare("classify", result.folder, None, losses.select(["text"]), {"dtype": "float32", "top_k": 2}))
    scores = [{each["label"]: each["score"] for each in row} for row in found.values.to_pylist()]
    truth = losses["label"].to_pylist()
    assert len(truth) == len(rows.validation) > 5
    given = [row[label] for row, label in zip(scores, truth, strict=True)]
    assert given == pytest.approx([math.exp(-loss) for loss in losses["loss"].to_pylist()], abs=1e-4)


def test_several_labels_of_a_text_are_learnt(tmp_path, models):
    table = made.labelled(80)
    lists = [[label] if i % 3 else ["bad", "good"] for i, label in enumerate(table["label"].to_pylist())]
    rows, result = made.trained(tmp_path, "classify", models / "mlm", table.set_column(1, "label", pa.array(lists)))
    found = predict(prepare("classify", models / "mlm", result.folder, rows.holdout, {"dtype": "float32"}))
    assert (found.failed, result.labels) == (0, ["bad", "good"])


def test_tags_follow_the_scheme_of_the_base():
    entities = [{"label": "PER", "start": 3, "end": 9}]
    offsets = [(0, 2), (2, 5), (5, 9), (9, 12)]

    def tagged(tags):
        number = {tag: i for i, tag in enumerate(tags)}
        return [tags[i] for i in ner.token_tags("to Ada L said", entities, offsets, number)]

    assert tagged(["O", "B-PER", "I-PER"]) == ["O", "B-PER", "I-PER", "O"]
    assert tagged(["O", "B-PER", "I-PER", "E-PER", "S-PER"]) == ["O", "B-PER", "E-PER", "O"]
    assert tagged(["O", "PER"]) == ["O", "PER", "PER", "O"]
    assert ner.tag_order(["PER"], ["PER", "O"]) == ["PER", "O"]
    assert ner.tag_order(["PER", "ORG"], ["O", "B-PER", "I-PER"])[:2] == ["O", "B-PER"]
