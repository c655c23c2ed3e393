"""A loaded task computes batches of several sizes; which of them is chosen is tested with made-up seconds."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from tests.tiny_adapters import lora
from transforms import calibration, registry
from transforms.batches import cut, usual
from transforms.by_row.annotator import RowAnnotator
from transforms.calibration import CLOSE, choose, explore, fastest_threads, measure
from transforms.calibration.trial import Trial
from transforms.model import load
from transforms.reference import ModelRef

BUDGETS = (512, 1024, 2048, 4096, 8192)
# Tokens a second of DistilBERT's shape on a CPU with AMX, in bfloat16 and int8.
AMX = {1024: 9911, 2048: 13860, 4096: 13707, 8192: 12087}
AMX_INT8 = {512: 8747, 1024: 10890, 2048: 11573, 4096: 9715}
TEXTS = [text for text in tiny.texts(200) if text.strip()]
BATCH = pa.record_batch({"text": TEXTS, "who": ["default"] * len(TEXTS)})


class Machine:
    """A machine with given speeds, on which every batch is written down."""

    def __init__(self, speeds, memory=10**9):
        self.speeds, self.memory, self.computed = speeds, memory, []

    def once(self, budget):
        if budget > self.memory:
            raise torch.OutOfMemoryError("full")
        self.computed.append(budget)
        return budget / self.speeds[budget]

    def explore(self, seconds, start=None):
        start = start or min(self.speeds)
        return explore(self.once, {budget: budget for budget in self.speeds}, start, 1 / self.speeds[start], seconds)


def loaded(models, task="classify", name="sentiment", **options):
    module = registry.get(task)
    return module.load(module.Options("text", **options), load(ModelRef(str(models / name)), module.ARCHITECTURE))


@pytest.mark.parametrize(("speeds", "default", "best"), [(AMX, 1024, 2048), (AMX_INT8, 512, 2048)])
def test_the_best_budget_of_a_fast_processor_is_found(speeds, default, best):
    costs, complete, _ = Machine(speeds).explore(60)
    assert complete
    assert choose(costs, default) == best


def test_the_default_stays_if_it_is_about_as_fast_as_the_best():
    assert choose({512: 1.0, 1024: 1.02, 2048: 1.2}, 1024) == 1024
    assert choose({512: 1.0, 1024: 1.04, 2048: 1.2}, 1024) == 512


@given(st.dictionaries(st.sampled_from(BUDGETS), st.floats(1e-6, 1e-3), min_size=1), st.sampled_from(BUDGETS))
def test_the_chosen_budget_is_never_much_slower_than_the_best(costs, default):
    assert costs[choose(costs, default)] <= CLOSE * min(costs.values())


@given(st.lists(st.floats(100, 100_000), min_size=5, max_size=5), st.floats(1, 100))
def test_exploring_takes_no_longer_than_allowed(speeds, seconds):
    machine = Machine(dict(zip(BUDGETS, speeds, strict=True)))
    costs, complete, spent = machine.explore(seconds)
    assert spent == pytest.approx(sum(budget / machine.speeds[budget] for budget in machine.computed))
    # The speed of a budget is not known before its first batch, which may be slower than all before.
    unknown = max(budget / machine.speeds[budget] for budget in costs)
    assert spent <= seconds + 2 * unknown + 1024 / machine.speeds[512]
    assert complete or len(costs) < len(BUDGETS)


def test_larger_budgets_are_not_tried_after_one_that_is_no_faster():
    machine = Machine({512: 3000, 1024: 3020, 2048: 9000})
    costs, complete, _ = machine.explore(60)
    assert sorted(costs) == [512, 1024]
    assert complete


def test_larger_budgets_than_the_default_are_tried_before_smaller_ones():
    machine = Machine({512: 8000} | AMX)
    costs, complete, _ = machine.explore(0.5, start=1024)
    assert machine.computed[:2] == [2048, 2048]
    assert sorted(costs) == [1024, 2048]
    assert not complete
    costs, complete, _ = Machine({512: 8000} | AMX).explore(60, start=1024)
    assert sorted(costs) == [1024, 2048, 4096]
    assert complete


def test_smaller_budgets_are_found_where_they_are_faster():
    machine = Machine({512: 3000, 1024: 2500, 2048: 2000, 4096: 1500, 8192: 1000})
    costs, complete, _ = machine.explore(60, start=1024)
    assert sorted(costs) == [512, 1024, 2048]
    assert complete
    assert choose(costs, 1024) == 512


def test_a_default_that_stays_is_not_computed_again():
    machine = Machine({512: 2900, 1024: 3000, 2048: 2950})
    assert machine.explore(60, start=1024)[1:] == (True, pytest.approx(2 * (512 / 2900 + 2048 / 2950)))
    machine = Machine({1024: 3000, 2048: 3200})
    machine.explore(60)
    assert [machine.computed.count(budget) for budget in (1024, 2048)] == [3, 5]


@pytest.mark.parametrize(
    ("amx", "dtype", "budget"),
    [
        (False, "float32", 1024),
        (False, "bfloat16", 1024),
        (False, "int8", 512),
        (True, "float32", 1024),
        (True, "bfloat16", 2048),
        (True, "int8", 2048),
    ],
)
def test_the_default_depends_on_the_instructions_of_the_processor(monkeypatch, amx, dtype, budget):
    # A machine has one processor; the others are told.
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert usual("cpu", dtype) == budget
    assert usual("cuda", dtype) == 32_768


def test_budgets_for_which_there_is_no_time_are_left_out_and_it_says_so():
    machine = Machine({budget: float(budget) for budget in BUDGETS})
    costs, complete, spent = machine.explore(6)
    assert sorted(costs) == [512, 1024, 2048]
    assert not complete
    assert spent <= 6


def test_every_candidate_is_computed_at_least_twice():
    """The first time of a size includes what is made when it is first needed."""
    machine = Machine({budget: float(budget) for budget in BUDGETS})
    costs, *_ = machine.explore(60)
    assert sorted(costs) == list(BUDGETS)
    assert all(machine.computed.count(budget) >= 2 for budget in BUDGETS[1:])


def test_a_full_memory_ends_the_candidates():
    costs, complete, _ = Machine(AMX, memory=2048).explore(60)
    assert sorted(costs) == [1024, 2048]
    assert complete


def test_another_error_than_a_full_memory_is_raised():
    def once(budget):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        explore(once, {1024: 1024, 2048: 2048}, 1024, 1e-4, 60)


def test_a_trial_batch_is_within_its_budget_and_of_the_lengths_that_most_tokens_are_in(models):
    trial = Trial.of(loaded(models), BATCH)
    assert trial.longest == trial.lengths[np.cumsum(np.sort(trial.lengths)) >= trial.lengths.sum() / 2].max()
    for budget in BUDGETS:
        assert trial.slots(budget) == trial.rows_of(budget) * trial.longest <= budget
        assert trial.slots(budget) > budget - trial.longest
        assert trial.once(budget) > 0
    assert trial.tokens_per_row == pytest.approx(trial.lengths.sum() / len(BATCH))


def test_padding_is_that_of_a_chunk_of_a_job(models):
    trial = Trial.of(loaded(models), BATCH)
    every = np.repeat(trial.lengths, 1024 // len(BATCH))
    positions = sum(len(batch) * every[batch].max() for batch in cut(every, 2048))
    assert trial.padding(2048, 1024) == positions / every.sum()
    assert 1 <= trial.padding(512, 1024) <= trial.padding(8192, 1024)


@pytest.mark.parametrize(
    ("task", "name", "options"),
    [
        ("classify", "topics", {}),
        ("ner", "ner", {}),
        ("zero_shot", "nli", {"labels": ["price", "size"]}),
        ("embed", "mlm", {"pooling": "mean"}),
        ("answer", "answer", {"question": "who?"}),
        ("fill_mask", "mlm", {}),
    ],
)
def test_every_encoder_task_can_be_measured(models, task, name, options):
    batch = BATCH
    if task == "fill_mask":
        batch = pa.record_batch({"text": [f"{text[:40]} [MASK] {text[40:80]}" for text in TEXTS]})
    annotator = loaded(models, task, name, **options)
    found = measure(Trial.of(annotator, batch), 1024, 1024, lambda rows: 1.0)
    assert found.budget in found.speeds
    assert found.gain(1024) >= 1 / CLOSE
    assert 1024 in found.speeds


def test_rows_with_adapters_of_their_own_are_measured_with_the_first(models, tmp_path):
    folder = lora(models / "sentiment", tmp_path / "adapter", seed=1)
    module = registry.get("classify")
    model = load(ModelRef(str(models / "sentiment"), adapters=(str(folder), None)), module.ARCHITECTURE)
    annotator = RowAnnotator(module, module.Options("text"), model, None, "who", {"default": 0, "base": 1})
    assert Trial.of(annotator, BATCH).once(512) > 0
    annotator.max_tokens = 2048
    assert {each.max_tokens for each in annotator.annotators} == {2048}


def test_a_sample_without_texts_and_code_without_batches_are_not_measured(models):
    assert Trial.of(loaded(models), pa.record_batch({"text": pa.array([None, ""], pa.string())})) is None
    assert Trial.of(lambda batch: None, BATCH) is None


def test_a_writer_of_text_is_not_measured(writers):
    module = registry.get("summarize")
    annotator = module.load(module.Options("text"), load(ModelRef(str(writers("t5"))), module.ARCHITECTURE))
    assert Trial.of(annotator, BATCH) is None


def test_without_time_for_two_budgets_nothing_is_found(models):
    assert measure(Trial.of(loaded(models), BATCH), 1024, 1024, lambda rows: 0.0) is None


def test_the_speed_in_rows_says_how_long_the_job_takes(models):
    trial, seen = Trial.of(loaded(models), BATCH), []
    measure(trial, 1024, 1024, lambda rows: seen.append(rows) or 0.0)
    assert seen[0] > 0


def test_one_network_gives_the_same_labels_with_every_budget(models):
    annotator = loaded(models)
    found = []
    for budget in calibration.BUDGETS["cpu"]:
        annotator.max_tokens = budget
        found.append(annotator(BATCH).values)
    for values in found[1:]:
        assert values.field("label").equals(found[0].field("label"))
        scores = [np.asarray(each.field("score")) for each in (values, found[0])]
        np.testing.assert_allclose(*scores, atol=1e-5)


def test_the_fewest_threads_of_those_that_are_about_as_fast_are_taken(models):
    """Two equal candidates: torch's number of threads is as it was afterwards."""
    before = torch.get_num_threads()
    trial = Trial.of(loaded(models), BATCH)
    assert fastest_threads(trial, 512, [1, 1], seconds=60.0) == 1
    assert fastest_threads(trial, 512, [1, 2], seconds=60.0) in (1, 2)
    assert fastest_threads(trial, 512, [1, 2], seconds=0.0) is None, "there is no time to compare them"
    assert torch.get_num_threads() == before
