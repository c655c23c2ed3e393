"""Preferences are learnt with every method, and the version is measured as a job loads it."""

import pytest

from jobs.registry import Registry
from jobs.retraining import scores
from jobs.training import data, train
from tests.jobs.training import made
from tests.jobs.training.objectives import preferred

RATES = {"prefix": 3e-2, "prompt": 0.1, "p-tuning": 1e-2, "ia3": 5e-2, "full": 1e-3}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo"])
@pytest.mark.parametrize("method", list(RATES))
def test_a_method_learns_preferences(tmp_path, causal_model, objective, method):
    rows = preferred.singles(60) if objective == "kto" else preferred.pairs(60)
    # ORPO learns to write the chosen answers first, and beta is the weight of preferring them.
    own = {"num_train_epochs": 4, "beta": 2.0} if objective == "orpo" else {}
    fast = preferred.FAST | {"learning_rate": RATES[method]} | own
    more = {"objective": objective, "method": method, "training": fast, "options": {"max_new_tokens": 8}}
    spec = made.file(tmp_path, "generate", causal_model("llama"), rows, **more)
    loaded = data.load(spec)
    result = train.train(spec, loaded, tmp_path / "work")
    losses = [line["loss"] for line in result.curves if "loss" in line]
    assert losses[-1] < 0.95 * losses[0]
    # Beside the base, held-out answers that are preferred became more probable than the others.
    others = scores.score(spec, result.folder, Registry(spec.registry), loaded).measured.others
    assert others["auc" if objective == "kto" else "implicit_accuracy"] > 0.85
