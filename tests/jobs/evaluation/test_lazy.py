"""The libraries of metrics and models are imported when something is measured, not before."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("nltk", "peft", "rouge_score", "sacrebleu", "scipy", "seqeval", "sklearn", "torch", "transformers", "trl")
PROGRAM = f"""
import json, sys
from jobs.evaluation import diff, evaluate, metrics, night, perplexity, slices
print(json.dumps(sorted(name for name in sys.modules if name in {HEAVY})))
"""


def test_importing_the_evaluation_imports_no_library_of_metrics_or_models():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    assert json.loads(ran.stdout) == []
