"""What tests share: tiny models, made once a session, a Hub on this machine, and no network."""

from __future__ import annotations

import functools
import gc
import logging
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import minio as minio_server
from tests import s3
from tests.hub import tokens
from tests.hub.local import HOME, HUB, Hub
from tests.minio import Minio

os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"

from tests import tiny, trained

# A busy machine must not fail a property, and in CI the same commit must give the same verdict.
settings.register_profile("nightscribe", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("nightscribe")

# Most seconds of a test that is marked as long.
LONG_S = 900

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The Hub at HF_ENDPOINT, empty; this program keeps what it learns of it, and its rows, in folders of the test.

    Nothing that the test has written may have a token of the Hub in it; the test fails otherwise.
    """
    from jobs.hub import session

    HUB.reset()
    session.forget()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    yield HUB
    HUB.reset()
    no_file_has_a_token(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def home_has_no_token() -> Iterator[None]:
    """The home folder of the tests has no token of the Hub in it either; the last test fails otherwise."""
    yield
    no_file_has_a_token(Path(HOME.name))


def no_file_has_a_token(folder: Path) -> None:
    """Fail if a file below a folder has a token that a test was given."""
    if found := tokens.files_with(HUB.given, [folder]):
        pytest.fail("files with a token of a user of the Hub:\n" + "\n".join(found))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for minutes have more time than others, since CI runs two of them at once."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test fails if a token of the Hub is printed or logged in it."""
    report = yield
    shown = "".join(text for name, text in report.sections if name.endswith(report.when or ""))
    if report.passed and (found := tokens.in_text(HUB.given, shown)):
        report.outcome = "failed"
        report.longrepr = f"a token of a user of the Hub is printed or logged: {sorted(each[:8] for each in found)}"
    return report


@pytest.fixture
def settings_of_the_process() -> Iterator[None]:
    """The command changes settings of its process; other tests get them back as they were."""
    loggers = [logging.getLogger(name) for name in ("root", "apache_beam")]
    levels, threshold, path, environment = (
        [each.level for each in loggers],
        gc.get_threshold(),
        [*sys.path],
        {**os.environ},
    )
    with warnings.catch_warnings():
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    gc.set_threshold(*threshold)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models: sentiment, topics (multi-label), stars (regression), ner, ner_bioes, ner_plain, ..."""
    root = tmp_path_factory.mktemp("models")
    tiny.bert(root / "sentiment", "classify", ["negative", "neutral", "positive"])
    tiny.bert(root / "topics", "classify", ["price", "size", "taste"], problem_type="multi_label_classification")
    tiny.bert(root / "stars", "classify", ["stars"], problem_type="regression")
    tiny.bert(root / "spam", "classify", ["spam"])
    tiny.bert(root / "ner", "ner", BIO)
    tiny.bert(root / "ner_lower", "ner", BIO, lowercase=True, seed=3)
    tiny.bert(root / "ner_plain", "ner", ["O", "PER", "LOC"])
    tiny.bert(root / "mlm", "mlm", ["x"])
    tiny.roberta(root / "ner_bytes", "ner", BIO)
    tiny.bert(root / "answer", "answer", ["start", "end"])
    tiny.roberta(root / "answer_bytes", "answer", ["start", "end"])
    tiny.bert(root / "nli", "classify", ["contradiction", "neutral", "entailment"])
    tiny.roberta(root / "nli_bytes", "classify", ["entailment", "neutral", "contradiction"])
    return root


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny encoder-decoder of a family, trained when it is first asked for on this machine."""
    from tests import tiny_seq2seq

    root, code = tmp_path_factory.mktemp("writers"), [Path(tiny.__file__), Path(tiny_seq2seq.__file__)]

    def made(family: str) -> Path:
        return trained.kept(family, code, lambda folder: tiny_seq2seq.make(folder, family), root / family)

    return functools.cache(made)


@pytest.fixture(scope="session")
def causal_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny decoder-only model by family, trained as `writers`; `chat` has a chat template."""
    from tests import tiny_causal

    root, code = tmp_path_factory.mktemp("causal_models"), [Path(tiny.__file__), Path(tiny_causal.__file__)]

    def made(name: str) -> Path:
        return trained.kept(name, code, lambda folder: tiny_causal.save(folder, name), root / name)

    return functools.cache(made)


@pytest.fixture
def noop_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks' task that does nothing, beside the real ones."""
    from transforms import tasks

    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(Path(__file__).parent / "bench" / "tasks")])


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """A MinIO server, started when it is first asked for; the libraries are pointed to it by `tests.s3.pointed_to`."""
    with minio_server.running(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def minio_bucket(minio: Minio) -> Iterator[str]:
    """The URL of a new bucket on the MinIO server, to which the S3 libraries are pointed."""
    with s3.pointed_to(minio.address, minio_server.USER, minio_server.PASSWORD):
        yield minio.make_bucket(f"lake-{uuid.uuid4().hex}")
