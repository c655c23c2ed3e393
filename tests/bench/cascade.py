"""A job whose smaller model is asked first (`tasks[].first`), beside the same job without it.

    python -m tests.bench.cascade [--rows 24000] [--agree 0.99] [--repeats 3] [--quick]

A teacher of 12 layers learns the sentiment of the demo's reviews, and a student of 6 narrower layers what the teacher
says of other reviews; both are trained here, in minutes. The two jobs take turns on new reviews, each into a new sink,
so that the job with `first` also measures its threshold every time. The agreement is that of the student's answers with
the teacher's job, on the rows that were not in the sample of the threshold.

Only two layers of each model are trained. The others are added behind them with output weights of zero, which changes
little of what the model says and nothing of the time it takes (growing a network: Chen et al. 2016, Net2Net,
arXiv:1511.05641).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from flows.demo.fit import fit
from flows.demo.grammar import SENTIMENTS
from flows.demo.head_start import give_head_start
from flows.demo.lake import GOLD_FILE, write_lake
from flows.demo.tokenizer import train_tokenizer
from jobs import run, spec
from jobs.cascade.sample import draw
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from tests.bench import corpus, turns

TRAINED_LAYERS, WINDOW, VOCABULARY = 2, 256, 6000
# Hidden size and layers.
TEACHER, STUDENT = (256, 12), (128, 6)
LENGTHS = (32,) * 5 + (64,) * 5


def reviews(folder: Path, rows: int, seed: int) -> pa.Table:
    """A lake of the demo, and its rows with a text: `id`, `text`, and `sentiment`, the true label."""
    write_lake(folder, rows, seed)
    gold = pq.read_table(folder / GOLD_FILE, columns=["id", "sentiment"])
    table = ds.dataset(folder / "reviews", format="parquet").to_table(["id", "text"])
    table = table.append_column(
        "sentiment", gold["sentiment"].take(pc.index_in(table["id"], gold["id"].combine_chunks()))
    )
    return table.filter(pc.field("sentiment").is_valid())


def trained(
    folder: Path,
    texts: list[str],
    labels: list[str],
    tokenizer: PreTrainedTokenizerFast,
    shape: tuple[int, int],
    lengths: Sequence[int],
) -> Path:
    """A classifier that is trained on labelled texts, then grown to its number of layers."""
    hidden, layers = shape
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=TRAINED_LAYERS,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=WINDOW,
        initializer_range=0.03,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(SENTIMENTS)),
        label2id={label: i for i, label in enumerate(SENTIMENTS)},
    )
    model = BertForSequenceClassification(config)
    give_head_start(model, ((-1, -2, 1),))
    ids = tokenizer(texts, truncation=True)["input_ids"]
    wanted = [[SENTIMENTS.index(label)] for label in labels]
    fit(
        model,
        lambda rng: (ids, wanted),
        lengths=lengths,
        batch_tokens=768,
        learning_rate=1.5e-3 * (128 / hidden) ** 0.5,
        seed=7,
        stop=Event(),
        progress=lambda text: print(f"{folder.name}: {text}", flush=True),
    )
    grown(model, layers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def grown(model: BertForSequenceClassification, layers: int) -> BertForSequenceClassification:
    """The model with more layers behind its own, which only normalise what they get."""
    encoder = model.bert.encoder
    last = encoder.layer[-1]
    for number in range(len(encoder.layer), layers):
        added = copy.deepcopy(last)
        for part in (added.attention.output, added.output):
            torch.nn.init.zeros_(part.dense.weight)
            torch.nn.init.zeros_(part.dense.bias)
            if number < layers - 1 or part is added.attention.output:
                torch.nn.init.ones_(part.LayerNorm.weight)
                torch.nn.init.zeros_(part.LayerNorm.bias)
        encoder.layer.append(added)
    model.config.num_hidden_layers = layers
    return model


def job(source: Path, sink: Path, model: Path, first: Path | None, agree: float = 0.99) -> dict[str, Any]:
    """The job, with or without a model that is asked first."""
    task: dict[str, Any] = {"task": "classify", "column": "text", "model": str(model), "into": "mood"}
    task |= {"dtype": "float32", "device": "cpu"}
    if first is not None:
        task["first"] = {"model": str(first), "dtype": "float32", "agree": agree}
    return {
        "name": "cascade",
        "source": {"path": str(source / "reviews")},
        "tasks": [task],
        "sink": {"path": str(sink)},
        "runner": {"workers": 1},
    }


def labels(sink: Path) -> dict[str, str]:
    """The label of each row with one."""
    table = ds.dataset(sink, format="parquet", exclude_invalid_files=True).to_table(["id", "mood"])
    found = zip(table["id"].to_pylist(), table["mood"].to_pylist(), strict=True)
    return {id_: mood["label"] for id_, mood in found if mood is not None}


def answers(sink: Path, run_id: str, measured: dict[str, Any], rows: pa.Table, exact: dict[str, str]) -> np.ndarray:
    """Whether the teacher agrees with each answer of the student, without the rows that its threshold was measured on.

    Args:
        sink: that of the job with `first`.
        run_id: its run.
        measured: its threshold.
        rows: reviews, `id` and `text`.
        exact: id -> the label of the job without it.
    """
    if measured["threshold"] is None:
        return np.zeros(0, bool)
    plan = Plan.from_json((sink / "_nightscribe/plans" / f"{run_id}.json").read_bytes())
    sampled = set(draw(plan, measured["possible"], int(measured["seed"], 16)).rows["id"].to_pylist())
    small = plan.tasks[0].small
    assert small is not None
    student = ModelPool().annotator(small)
    agreed = []
    for batch in rows.combine_chunks().to_batches(2048):
        found = student(batch)
        assert found.confidence is not None
        for id_, value, sure in zip(batch["id"].to_pylist(), found.values.to_pylist(), found.confidence, strict=True):
            if sure >= measured["threshold"] and id_ not in sampled:
                agreed.append(value["label"] == exact[id_])
    return np.array(agreed, bool)


def measure(folder: Path, rows: int, learnt: int, lengths: Sequence[int], repeats: int, agree: float) -> dict[str, Any]:
    """Train both models, run the jobs in turn, compare their sinks."""
    known = reviews(folder / "known", learnt, seed=7)
    tokenizer = train_tokenizer(known["text"].to_pylist(), VOCABULARY, WINDOW)
    half = len(known) // 3
    order = np.random.default_rng(0).permutation(len(known))
    known = known.take(pa.array(order))
    own, others = known.slice(0, half), known.slice(half)
    teacher = trained(
        folder / "teacher", own["text"].to_pylist(), own["sentiment"].to_pylist(), tokenizer, TEACHER, lengths
    )
    # What the teacher says of reviews that it has not learnt from.
    unlabelled = folder / "unlabelled" / "reviews"
    unlabelled.mkdir(parents=True)
    pq.write_table(others.select(["id", "text"]), unlabelled / "part.parquet")
    run.run(spec.parse(job(folder / "unlabelled", folder / "said", teacher, None)))
    said = labels(folder / "said")
    pairs = [(text, said[id_]) for id_, text in zip(others["id"].to_pylist(), others["text"].to_pylist(), strict=True)]
    student = trained(
        folder / "student", [text for text, _ in pairs], [label for _, label in pairs], tokenizer, STUDENT, lengths
    )
    new = reviews(folder / "new", rows, seed=11)
    reports: dict[str, list[Any]] = {"alone": [], "first": []}

    def arm(name: str, first: Path | None) -> Any:
        def once(repeat: int) -> None:
            sink = folder / f"{name}-{repeat}"
            reports[name].append(run.run(spec.parse(job(folder / "new", sink, teacher, first, agree))))

        return once

    seconds = turns.take({"alone": arm("alone", None), "first": arm("first", student)}, repeats, turns.cpu_seconds)
    turns.show(seconds, rows, "rows/s", "alone")
    ratios = [alone / with_first for alone, with_first in zip(seconds["alone"], seconds["first"], strict=True)]
    report = reports["first"][0]
    found = report.first["mood"]
    content = json.loads((folder / "first-0/_nightscribe/reports" / f"{report.run_id}.json").read_text())
    measured = content["tasks"][0]["first"]["measured"]
    truth = dict(zip(new["id"].to_pylist(), new["sentiment"].to_pylist(), strict=True))
    exact, given = labels(folder / "alone-0"), labels(folder / "first-0")
    different = sum(given[id_] != exact[id_] for id_ in exact)
    agreed = answers(folder / "first-0", report.run_id, measured, new, exact)
    return {
        "cpu_seconds_alone": round(statistics.median(seconds["alone"]), 1),
        "cpu_seconds_first": round(statistics.median(seconds["first"]), 1),
        "times_as_fast": round(statistics.median(ratios), 2),
        "answered_share": round(found.answered / max(1, found.rows), 4),
        "threshold": measured["threshold"],
        "why": measured["why"],
        "sampled": measured["rows"],
        "checked": found.checked,
        "checked_agreement": round(found.agreed / max(1, found.checked), 4),
        "answers_outside_of_the_sample": len(agreed),
        "their_agreement": round(float(np.mean(agreed)), 5) if len(agreed) else None,
        "agreement_of_all_rows": round(1 - different / len(exact), 5),
        "accuracy_alone": round(float(np.mean([exact[id_] == truth[id_] for id_ in exact if id_ in truth])), 4),
        "accuracy_first": round(float(np.mean([given[id_] == truth[id_] for id_ in exact if id_ in truth])), 4),
    }


def main() -> None:
    """Print the table and the last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=24_000, help="reviews to enrich")
    parser.add_argument("--learnt", type=int, default=15_000, help="reviews to train on")
    parser.add_argument("--agree", type=float, default=0.99)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small and once, to see that everything runs")
    given = parser.parse_args()
    sizes = (1_500, 900, (32,), 1) if given.quick else (given.rows, given.learnt, LENGTHS, given.repeats)
    # What models of one short epoch can agree on.
    agree = 0.5 if given.quick else given.agree
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), *sizes, agree)
    print(json.dumps({"bench": "cascade", "rows": sizes[0], "agree": agree, **found, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
