"""Stages: preferences -> reward model -> policy in one file, which goes on where it was killed."""

import itertools
import json
import random
import signal
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.registry import Registry
from jobs.retraining import report, scores
from jobs.retraining import round as rounds
from jobs.training import data, spec, stages
from tests import tiny_talker
from tests.jobs.training.test_train import children, nightly, wait_for
from transforms.errors import RunError, SpecError

STAGES = [
    {"name": "sft", "objective": "sft", "data": "demos", "training": {"learning_rate": 3e-3, "max_steps": 4}},
    {"name": "rewards", "objective": "reward", "data": "pairs", "training": {"learning_rate": 1e-2, "max_steps": 40}},
    {"name": "policy", "objective": "rloo", "data": "prompts", "training": {"learning_rate": 1e-2, "max_steps": 32}},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_talker.save(tmp_path_factory.mktemp("talker"))


def content(folder, base, every=STAGES, **more):
    """A training file with rows for each stage: of two answers the one with fewer clauses is preferred."""
    rng = random.Random(0)
    asked = tiny_talker.prompts(160)
    counts = [sorted(rng.sample(range(1, 6), 2)) for _ in asked]
    tables = {
        "demos": {"prompt": asked, "completion": [tiny_talker.answer(rng) for _ in asked]},
        "pairs": {
            "prompt": asked,
            "chosen": [tiny_talker.answer(rng, few) for few, _ in counts],
            "rejected": [tiny_talker.answer(rng, many) for _, many in counts],
        },
        "prompts": {"prompt": asked},
    }
    folder.mkdir(exist_ok=True)
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")

    def whole(stage):
        rows = {"train": {"path": str(folder / f"{stage['data']}.parquet")}, "validation": 0.05}
        quick = {"use_cpu": True, "per_device_train_batch_size": 16} | stage["training"]
        return stage | {"data": rows, "training": quick}

    return {
        "name": "rlhf",
        "task": "generate",
        "base": {"model": str(base)},
        "options": {"max_new_tokens": tiny_talker.LONGEST},
        "registry": str(folder / "registry"),
        "stages": [whole(stage) for stage in every],
    } | more


def steps_of(folder):
    """Steps of the progress of each stage that is there, repeated ones too."""
    return {
        place.name: [json.loads(line)["step"] for line in (place / "progress.jsonl").read_text().splitlines()]
        for place in sorted(folder.glob("*/[0-9]-*"))
        if (place / "progress.jsonl").is_file()
    }


@pytest.mark.timeout(900)
def test_preferences_for_short_answers_become_a_reward_model_and_a_policy_that_gives_them(base, tmp_path):
    """One file; killed inside its second and its third stage, it repeats no finished stage and no saved step."""
    parsed = spec.parse(content(tmp_path / "files", base))
    registry = Registry(parsed.registry)
    work = tmp_path / "files" / "registry" / "_training"
    outcome, lines = None, []
    for stage in ("1-rewards", "2-policy", None):
        errors = []

        def run(errors=errors):
            nonlocal outcome
            try:
                outcome = rounds.run(parsed, lines.append)
            except RunError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        if stage is not None:
            folder = wait_for(lambda stage=stage, errors=errors: list(work.glob(f"*/{stage}")) or errors, timeout=400)[
                0
            ]
            wait_for(
                lambda folder=folder, errors=errors: errors or list(folder.glob("checkpoints/checkpoint-*/complete")),
                timeout=400,
            )
            assert not errors
            children(folder)[0].send_signal(signal.SIGKILL)
        thread.join()
        assert ("SIGKILL" in str(errors[0])) if stage is not None else not errors
    assert outcome is not None
    # The first stage ran once; the others went on from a checkpoint, and not from their first step.
    finished = steps_of(work)
    assert finished["0-sft"] == sorted(finished["0-sft"])
    for name in ("1-rewards", "2-policy"):
        assert json.loads(next(work.glob(f"*/{name}/result.json")).read_text())["resumed"]
        assert all(after > 1 for before, after in itertools.pairwise(finished[name]) if after < before)
    assert {line["stage"] for line in lines} == {"sft", "rewards", "policy"}
    # The policy is shorter by the reward model, which has learnt from preferences only, and still speaks the language.
    metrics = registry.version(outcome.version).metrics
    assert outcome.decision == "promoted"
    assert metrics["win_rate"] > 0.9
    assert metrics["reward"] > metrics["base_reward"]
    untrained = scores.score(parsed, None, registry, rows := data.load(parsed))
    assert 10 < metrics["length"] < 0.5 * untrained.metrics["length"]
    assert metrics["perplexity"] < 1.5 * untrained.metrics["perplexity"]
    # The record names all stages and their rows, so that the same file makes nothing new.
    version = registry.version(outcome.version)
    assert [stage["name"] for stage in version.training["stages"]] == ["sft", "rewards", "policy"]
    assert version.training["earlier_rows"] == {
        "sft": rows.earlier[0].train_hash,
        "rewards": rows.earlier[1].train_hash,
    }
    assert rounds.run(parsed).decision == "nothing new"
    # The reward model is a version of its own, and the report names it.
    model = next(each for each in registry.versions() if each.task == "classify")
    shown = report.markdown(outcome)
    assert f"reward model {model.version}" in shown
    assert "wins against the base" in shown
    assert [picture.title for picture in report.curves(outcome.curves)][-2:] == [
        "policy: reward",
        "policy: divergence from its start",
    ]
    # In a nightly job it gives the answers that were measured.
    prompts = rows.holdout.select(["prompt"]).slice(0, 20)
    adapter = f"{parsed.registry}@champion"
    task = {"task": "generate", "column": "prompt", "model": str(base), "adapter": adapter, **parsed.options}
    lengths = [len(text) for text in nightly(tmp_path, prompts, task)]
    assert sum(lengths) / len(lengths) == pytest.approx(metrics["length"], rel=0.3)


def test_each_stage_has_the_keys_of_the_file_and_its_own_in_their_place(base, tmp_path):
    parsed = spec.parse(content(tmp_path, base, adapter={"r": 4}))
    assert (parsed.objective, parsed.task, parsed.name) == ("rloo", "generate", "rlhf")
    sft, reward = parsed.earlier
    assert (sft.objective, sft.task, sft.adapter, sft.options) == ("sft", "generate", {"r": 4}, parsed.options)
    # A reward model classifies, so options of generate do not apply to it.
    assert (reward.objective, reward.task, reward.adapter, reward.options) == ("reward", "classify", {"r": 4}, {})
    # What a plan freezes is read as the same file.
    assert spec.parse(parsed.frozen()) == parsed


def test_rows_of_every_stage_are_a_part_of_the_identity(base, tmp_path):
    one = data.load(spec.parse(content(tmp_path, base)))
    pairs = pq.read_table(tmp_path / "pairs.parquet")
    pq.write_table(pairs.slice(0, 140), tmp_path / "pairs.parquet")
    content_of = content(tmp_path / "other", base)
    content_of["stages"][1]["data"]["train"]["path"] = str(tmp_path / "pairs.parquet")
    other = data.load(spec.parse(content_of))
    assert one.train_hash != other.train_hash
    assert one.earlier[0].train_hash == other.earlier[0].train_hash


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: [], "data is missing|stages is"),
        (lambda s: {"sft": {}}, "stages is .*give a list of sections"),
        (lambda s: [s[0], s[0]], r"stages\.1\.name is 'sft'; give each stage a name of its own"),
        (lambda s: [s[0] | {"objektive": "sft"}], r"stages\.0\.objektive does not exist.*did you mean objective"),
        (lambda s: [s[0] | {"objective": "ppo"}], "stage sft: objective: ppo does not exist any more"),
        (lambda s: [s[0], s[2]], "stage policy: reward is missing; objective rloo needs it"),
        (
            lambda s: [s[0] | {"method": "full"}, s[1], s[2]],
            "stages sft and policy have different method, and the second goes on from the weights of the first",
        ),
    ],
)
def test_stages_that_do_not_fit_are_one_sentence(change, said, base, tmp_path):
    file = content(tmp_path, base)
    file["stages"] = change(file["stages"])
    with pytest.raises(SpecError, match=said):
        spec.parse(file)


def test_a_file_without_stages_is_one_training(base, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(stages.train, "train", lambda *given, **named: called.append(given))
    demos = content(tmp_path, base, STAGES[:1])
    whole = {key: value for key, value in demos.items() if key != "stages"} | demos["stages"][0]
    parsed = spec.parse(whole)
    stages.run(parsed, data.load(parsed), tmp_path / "work")
    assert called[0][2] == tmp_path / "work"


def test_the_shipped_example_is_right():
    shipped = spec.read(Path(__file__).resolve().parents[3] / "deploy" / "training" / "rlhf.yaml")
    assert [stage.objective for stage in (*shipped.earlier, shipped)] == ["sft", "reward", "rloo"]
