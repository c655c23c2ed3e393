"""answer with a model that was trained: it finds what is there, and says so where nothing is."""

import random

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertForQuestionAnswering

from tests import tiny
from transforms.annotators.answer import Item
from transforms.batches import padded
from transforms.model import ModelRef, load
from transforms.tasks import answer

NAMES, PLACES = ["Zoë", "John Smith", "Amira", "Ivan"], ["São Paulo", "Kyoto 😀", "Lake Como", "Zürich"]


def story(rng, words):
    """A context, one of two questions, and what answers it: None where nothing does."""
    who, where = (rng.choice(choices) if rng.random() < 0.7 else None for choices in (NAMES, PLACES))
    parts = [rng.choice(tiny.HARD[1:3]), *rng.choices(["a", "the", "of", ",", "and"], k=words)]
    for part in filter(None, (who, where)):
        parts.insert(rng.randint(0, len(parts)), part)
    question, reply = rng.choice([("who is it?", who), ("where is it?", where)])
    return " ".join(parts), question, reply


def reading(folder):
    model = load(ModelRef(str(folder), device="cpu"), answer.ARCHITECTURE)
    return answer.load(answer.Options("text", question_column="ask", null_threshold=0), model)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A tiny model trained for some seconds to find people and places, or to say that there are none."""
    steady = {"initializer_range": 0.1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    folder = tiny.bert(tmp_path_factory.mktemp("reader"), "answer", ["start", "end"], **steady)
    answerer = reading(folder)
    network, rng = BertForQuestionAnswering.from_pretrained(folder).train(), random.Random(0)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, total_iters=200)
    for _ in range(200):
        told = [story(rng, rng.randint(0, 7)) for _ in range(32)]
        windows = [w for c, q, _ in told for _, w in answerer.tokenise([Item(0, c, q)])]
        assert len(windows) == len(told)
        targets = torch.zeros(2, len(told), dtype=torch.long)
        for i, ((context, _, reply), window) in enumerate(zip(told, windows, strict=True)):
            if reply is not None:
                begin = context.index(reply)
                first = np.searchsorted(window.starts, begin)
                last = np.searchsorted(window.ends, begin + len(reply))
                targets[:, i] = window.context.start + torch.tensor([first, last])
        ids = torch.from_numpy(padded([w.ids for w in windows], 0))
        types = torch.from_numpy(padded([w.type_ids for w in windows], 0))
        network(
            input_ids=ids, attention_mask=(ids > 0).long(), token_type_ids=types,
            start_positions=targets[0], end_positions=targets[1],
        ).loss.backward()  # fmt: skip
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    network.save_pretrained(folder)
    return folder


def test_a_trained_model_finds_answers_and_gives_none_if_there_is_none(reader):
    rng = random.Random(1)
    told = [story(rng, rng.choice([3, 6, 12])) for _ in range(200)]
    contexts, questions, replies = map(list, zip(*told, strict=True))
    answerer = reading(reader)
    got = answerer(pa.record_batch({"text": contexts, "ask": questions})).values.to_pylist()
    assert np.mean([g["text"] == reply for g, reply in zip(got, replies, strict=True)]) > 0.7
    assert 40 < replies.count(None) < 160
