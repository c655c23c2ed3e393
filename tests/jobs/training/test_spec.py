"""The training file: what it may say, and the message for each mistake."""

import subprocess
import sys

import pytest
import yaml

from jobs.training import spec
from transforms.errors import SpecError

CONTENT = {
    "name": "sentiment-adapter",
    "task": "classify",
    "base": {"model": "org/model", "revision": "main"},
    "data": {"train": {"path": "lake/labels/**/*.parquet"}, "holdout": {"path": "lake/holdout/*.parquet"}},
    "slices": ["lang"],
    "training": {"num_train_epochs": 3, "learning_rate": 2.0e-4, "per_device_train_batch_size": 16},
    "adapter": {"r": 8, "lora_alpha": 16},
    "registry": "adapters/sentiment",
    "gate": {"metric": "macro_f1", "floor": 0.8},
    "schedule": {"cron": "0 4 * * 0", "timezone": "Europe/Berlin"},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return path


def test_a_training_file_is_read_and_its_values_get_the_types_of_the_library(file):
    read = spec.read(file, ["training.learning_rate=1e-4", "data.holdout={fraction: 0.3}"])
    # YAML reads 1e-4 as text.
    assert read.arguments()["learning_rate"] == 1e-4
    assert read.data.holdout == spec.FractionSpec(fraction=0.3)
    assert (read.method, read.objective, read.approval) == ("lora", "supervised", "none")
    assert spec.parse(read.frozen()) == read


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lerning_rate=3", "training.lerning_rate is not a field of TrainingArguments; did you mean learning"),
        ("training.learning_rate=fast", "training.learning_rate is 'fast'; input should be a valid number"),
        ("training.gradient_accumulation_steps=0", "training.gradient_accumulation_steps is 0; give 1 or more"),
        ("training.per_device_train_batch_size=0", "training.per_device_train_batch_size is 0; give 1 or more"),
        ("training.output_dir=x", "training.output_dir cannot be set here: Nightscribe chooses the folder"),
        ("adapter.rr=3", "adapter.rr is not a field of LoraConfig; did you mean r?"),
        ("adapter.task_type=SEQ_CLS", "adapter.task_type cannot be set here"),
        ("method=dora", "method: dora is no method of its own; write method: lora with adapter: {use_dora: true}"),
        ("method=full", "adapter applies to a method with an adapter, not to full"),
        ("method=lore", "method is 'lore'; choices: 'lora', 'qlora', 'prefix', 'prompt', 'p-tuning', 'ia3' or 'full'"),
        ("method=ia3", "adapter.lora_alpha is not a field of IA3Config"),
        (
            "objective=ppo",
            "train a reward model with objective: reward, and then a policy with objective: rloo or grpo",
        ),
        ("objective=dpo", "objective dpo trains versions for task generate, not for classify"),
        ("training.num_train_epochs=0", "training.num_train_epochs is 0.0, with which nothing is trained"),
        ("objective=distill", "teacher is missing; objective distill needs it"),
        ("reward={model: x}", "reward applies to objective rloo and grpo only, not supervised"),
        ("adaptr=3", "adaptr is not a key; did you mean adapter?"),
        ("base.modl=x", "base.modl is not a key; did you mean model?"),
        ("data.holdout.fraction=0.2", "data.holdout: path cannot be given beside fraction"),
        ("data.holdout={fraction: 3}", "data.holdout: fraction is 3; input should be less than 1"),
        ("data.holdout={pth: x}", "data.holdout: pth is not a key; did you mean path?"),
        ("options.long_txt=window", "options.long_txt is not a key; did you mean long_text?"),
        ("gate.flor=1", "gate.flor is not a key; did you mean floor?"),
        ("slices=[label]", "slices has 'label', which is what the model reads or writes"),
        ("task=embed", "task is 'embed'; choices: 'classify', 'ner', 'summarize', 'translate' or 'generate'"),
        ("name.x.y=3", "the training file has no 'x' in which 'y' could be set"),
        ("nothing", "is not key=value; write for example training.learning_rate=1e-4"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_key_and_the_way_out(file, override, message):
    with pytest.raises(SpecError) as raised:
        spec.read(file, [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_fields_of_the_seq2seq_and_sft_classes_are_known_by_task(file):
    assert spec.read(file, ["task=translate", "gate.metric=null", "training.predict_with_generate=true"]).arguments()
    assert spec.read(file, ["task=generate", "gate.metric=null", "training.packing=false"]).arguments()
    with pytest.raises(SpecError, match="packing is not a field of TrainingArguments"):
        spec.read(file, ["training.packing=false"])


def test_reading_a_training_file_imports_neither_torch_nor_transformers(file):
    program = (
        "import sys; from jobs.training import spec; spec.read(sys.argv[1]); "
        "assert not {'torch', 'transformers', 'peft', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)


def test_a_job_file_in_the_place_of_a_training_file_is_reported_as_one(tmp_path):
    (tmp_path / "job.yaml").write_text("{name: a, source: {path: in}, tasks: [], sink: {path: out}}")
    with pytest.raises(SpecError, match="is a job file, and a training file is needed; `nightscribe run` takes it"):
        spec.read(tmp_path / "job.yaml")
