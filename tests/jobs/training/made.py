"""Small training files and rows for the tests of training."""

import contextlib
import random
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jobs.execute.stop import StopToken
from jobs.training import child, data, spec, supervise, train
from jobs.training.request import Request
from transforms.errors import Stopped

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ri", "so", "tu") for b in ("ba", "de", "fi", "gol", "hum")]
FAST = {"per_device_train_batch_size": 8, "learning_rate": 1e-3, "num_train_epochs": 1}


def sentences(n, seed=0):
    """Sentences of long-tailed length."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=max(4, min(40, int(rng.lognormvariate(2, 0.8)))))) for _ in range(n)]


def labelled(n=120, labels=("good", "bad"), seed=0):
    """Texts in the words of their label."""
    names = [labels[i % len(labels)] for i in range(n)]
    rng = random.Random(seed)
    share = len(WORDS) // len(labels)
    own = {label: WORDS[i * share : (i + 1) * share] for i, label in enumerate(labels)}
    texts = [" ".join(rng.choices(own[name], k=6 + min(34, int(rng.lognormvariate(1, 1))))) for name in names]
    return pa.table({"text": texts, "label": names})


def entities(n=80, kinds=("PER", "ORG"), seed=0):
    """Texts whose second word is an entity."""
    rows = []
    for i, text in enumerate(sentences(n, seed)):
        start = text.index(" ") + 1
        rows.append([{"label": kinds[i % len(kinds)], "start": start, "end": text.index(" ", start)}])
    return pa.table({"text": sentences(n, seed), "entities": rows})


def pairs(n=60, names=("text", "target")):
    """Texts and their first three words."""
    texts = [text[:80] for text in sentences(n)]
    return pa.table({names[0]: texts, names[1]: [" ".join(text.split()[:3]) for text in texts]})


def file(folder, task, model, rows, **more):
    """A training file with a fifth of the rows as the holdout."""
    folder.mkdir(exist_ok=True)
    pq.write_table(rows, folder / "rows.parquet")
    content = {
        "name": "test",
        "task": task,
        "base": {"model": str(model)},
        "data": {"train": {"path": str(folder / "rows.parquet")}, "holdout": {"fraction": 0.2}},
        "training": FAST,
        "registry": str(folder / "registry"),
    }
    return spec.parse(content | more)


def trained(folder, task, model, rows, **more):
    """The rows and the result of a training."""
    read = file(folder, task, model, rows, **more)
    loaded = data.load(read)
    return loaded, train.train(read, loaded, folder / "work")


@contextlib.contextmanager
def in_this_process():
    """Train here, with one thread: two of them wait for each other at every small product.

    A process of its own imports for eight seconds; test_train.py and test_processes.py have the tests of it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervise, "supervise", lambda folder, watch, stop: child.learn(folder, Request.read(folder)))
        yield
    torch.set_num_threads(threads)


def seconds_to_stop(spec, folder):
    """Ask a training to stop at its first line of progress; the seconds until it has ended."""
    stop, asked = StopToken(str(folder / "stop")), []

    def watch(line):
        if not asked:
            stop.set()
            asked.append(time.monotonic())

    with pytest.raises(Stopped, match="run again to continue"):
        train.train(spec, data.load(spec), folder / "work", watch, stop)
    return time.monotonic() - asked[0]
