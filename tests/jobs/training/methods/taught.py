"""A training in this process, and the held-out rows as the trained network and the nightly job see them."""

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import set_seed

from jobs.evaluation.predict import predict, prepare
from jobs.training import child, data, loop, train
from jobs.training.methods import with_adapter
from tests.jobs.training import made
from tests.jobs.training.made import WORDS
from tests.jobs.training.methods.bases import TOPICS, about

TRUTH = {"classify": "label", "ner": "entities", "summarize": "target", "generate": "completion"}
OPTIONS = {"summarize": {"prefix": "", "num_beams": 1, "max_new_tokens": 3}, "generate": {"max_new_tokens": 3}}


@dataclass
class Taught:
    """A trained version.

    Attributes:
        base: its base.
        method: how it was trained.
        task: its task.
        folder: the adapter, or the model.
        losses: of the steps.
        network: as it was after the training.
        setup: its tokenizer and examples.
        holdout: rows that it never saw.
        before: for classify, the share of the holdout that the base with its new head gets right untrained.
    """

    base: Path
    method: str
    task: str
    folder: Path
    losses: list[float]
    network: Any
    setup: Any
    holdout: pa.Table
    before: float

    def nightly(self, adapted=True) -> list[Any]:
        """What a nightly job gives for the holdout, with the adapter or with the base alone."""
        whole = self.method == "full" and adapted
        adapter = self.folder if adapted and not whole else None
        options = {"dtype": "float32", **OPTIONS.get(self.task, {})} | ({"top_k": 2} if self.task == "classify" else {})
        found = predict(prepare(self.task, self.folder if whole else self.base, adapter, self.holdout, options))
        assert found.failed == 0
        return found.values.to_pylist()

    @torch.inference_mode()
    def own(self) -> list[Any]:
        """What the trained network says of each row of the holdout alone: logits, or the text that it writes."""
        self.network.eval()
        if self.task in ("classify", "ner"):
            examples = self.setup.encode(self.holdout)
            inputs = [{k: torch.tensor([v]) for k, v in row.items() if k != "labels"} for row in examples]
            # PEFT's outputs per token begin with those of virtual tokens.
            return [self.network(**row).logits[0][-len(row["input_ids"][0]) :] for row in inputs]
        return [self._written(row) for row in self.holdout.column(0).to_pylist()]

    def spans(self) -> list[set[tuple[str, int]]]:
        """Kind and first character of each word that the nightly job finds in an entity, by row."""
        rows = zip(self.holdout["text"].to_pylist(), self.nightly(), strict=True)
        return [
            {(each["label"], word.start()) for each in said for word in _words(text) if _inside(each, word)}
            for text, said in rows
        ]

    def tagged(self) -> list[set[tuple[str, int]]]:
        """The same from the trained network's own outputs, one token a word between two special ones."""
        found = []
        for text, logits in zip(self.holdout["text"].to_pylist(), self.own(), strict=True):
            ends = len(logits) - len(_words(text))
            tags = [self.setup.labels[i] for i in logits.argmax(-1)][ends // 2 :]
            pairs = zip(_words(text), tags, strict=False)
            found.append({(tag[2:], word.start()) for word, tag in pairs if tag != "O"})
        return found

    def _written(self, text: str) -> str:
        words = self.setup.tokenizer
        ids = words(text, return_tensors="pt").input_ids
        ids = self.network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False, num_beams=1
        )[0][ids.shape[1] if self.task == "generate" else 0 :]
        return words.decode(ids, skip_special_tokens=True).strip()

    def correct(self, adapted=True) -> float:
        """Share of rows of the holdout that a nightly job gets right; for ner, of the words of entities."""
        truth, said = self.holdout[TRUTH[self.task]].to_pylist(), self.nightly(adapted)
        if self.task == "ner":
            wanted, found = (set(_keys(rows)) for rows in (truth, said))
            return 2 * len(wanted & found) / max(1, len(wanted) + len(found))
        if self.task == "classify":
            said = [row[0]["label"] for row in said]
        return sum(a.strip() == b.strip() for a, b in zip(truth, said, strict=True)) / len(truth)


def teach(folder, task, base, method, shuffled=False, start=None, **more) -> Taught:
    """Train in this process; with `shuffled` the truth of the training rows is drawn."""
    learnt, holdout = ROWS[task](96, 1), ROWS[task](48, 2)
    if shuffled:
        learnt = _shuffled(learnt, TRUTH[task])
    folder.mkdir(exist_ok=True)
    pq.write_table(holdout, folder / "holdout.parquet")
    options = {"prefix": ""} if task == "summarize" else {}
    source = {"train": {"path": str(folder / "rows.parquet")}, "holdout": {"path": str(folder / "holdout.parquet")}}
    given = {"method": method, "options": options, "data": source | {"validation": 0}} | more
    fast = {"per_device_train_batch_size": 8, "num_train_epochs": 4 if task in OPTIONS else 2}
    given["training"] = fast | given.get("training", {})
    spec = made.file(folder, task, base, learnt, **given)
    rows = data.load(spec)
    request = train.request_of(spec, rows, train.Before(start=start, start_hash=start))
    # A new head may tell the labels apart by chance, as the one of seed 42 does over BERT (0.98): tests measure it.
    set_seed(4 if task == "classify" else 42)
    setup = child._setup(request, rows.train)
    before = _guessed(setup, rows.holdout) if task == "classify" else 0.0
    network = with_adapter(request, setup)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    trainer = loop.trainer(request, setup, network, work, setup.encode(rows.train), [])
    checkpoint = loop.last_checkpoint(work)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    child._save(work, request, setup, trainer)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Taught(base, method, task, work / "result", losses, network, setup, rows.holdout, before)


def labelled(n: int, seed: int) -> pa.Table:
    """Texts of four topics in two groups."""
    rng = random.Random(seed)
    topics = [rng.randrange(4) for _ in range(n)]
    texts = [" ".join(about(rng, topic)) for topic in topics]
    return pa.table({"text": texts, "label": ["good" if topic in (0, 3) else "bad" for topic in topics]})


def tagged(n: int, seed: int) -> pa.Table:
    """Texts in which the words of two topics are entities."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 9))) for _ in range(n)]
    kinds = dict.fromkeys(TOPICS[0], "PER") | dict.fromkeys(TOPICS[3], "ORG")
    return pa.table({"text": texts, "entities": [_entities(text, kinds) for text in texts]})


def asked(n: int, seed: int, names: tuple[str, str]) -> pa.Table:
    """Prompts without a mode word, and the answer of the mode `last`."""
    rng = random.Random(seed)
    topics = [rng.randrange(4) for _ in range(n)]
    space = " " if names[1] == "completion" else ""
    texts = [" ".join(about(rng, topic)) + " ->" for topic in topics]
    return pa.table({names[0]: texts, names[1]: [space + TOPICS[topic][-1] for topic in topics]})


ROWS = {
    "classify": labelled,
    "ner": tagged,
    "summarize": lambda n, seed: asked(n, seed, ("text", "target")),
    "generate": lambda n, seed: asked(n, seed, ("prompt", "completion")),
}


@torch.inference_mode()
def _guessed(setup: Any, holdout: pa.Table) -> float:
    network = setup.network.eval()
    inputs = [{k: torch.tensor([v]) for k, v in row.items() if k != "labels"} for row in setup.encode(holdout)]
    said = [setup.labels[network(**row).logits[0].argmax()] for row in inputs]
    return sum(a == b for a, b in zip(said, holdout["label"].to_pylist(), strict=True)) / len(said)


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\S+", text))


def _inside(entity: dict[str, Any], word: re.Match[str]) -> bool:
    return bool(entity["start"] <= word.start() < entity["end"])


def _entities(text: str, kinds: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"label": kinds[word.group()], "start": word.start(), "end": word.end()}
        for word in _words(text)
        if word.group() in kinds
    ]


def _shuffled(table: pa.Table, name: str) -> pa.Table:
    """The same rows with the truth of others; for entities and written words, drawn ones."""
    rng = random.Random(3)
    place = table.schema.get_field_index(name)
    values = table[name].to_pylist()
    rng.shuffle(values)
    if name in ("target", "completion"):
        # The base knows the topics: from answers about other topics it would still learn which word of one is asked.
        # So the word is drawn too, as often the first one as the base has seen without a mode word.
        drawn = [rng.choice(TOPICS)[rng.choice((0, 0, 0, -1))] for _ in values]
        values = [value.replace(value.strip(), word) for value, word in zip(values, drawn, strict=True)]
    if name == "entities":
        kinds = [dict(zip(WORDS, rng.choices(["PER", "ORG", None, None], k=len(WORDS)), strict=True)) for _ in values]
        kinds = [{word: kind for word, kind in each.items() if kind} for each in kinds]
        values = [_entities(text, each) for text, each in zip(table["text"].to_pylist(), kinds, strict=True)]
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def _keys(rows: list[Any]) -> list[tuple[Any, ...]]:
    return [(i, each["label"], each["start"], each["end"]) for i, row in enumerate(rows) for each in row]
