"""The script that times scoring runs; how fast it is does not matter here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_scoring_computes_features_once_however_many_metrics_ask():
    command = [sys.executable, "speed/score.py", "--count", "40", "--resamples", "2"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    first, every, alone = [line for line in ran.stdout.splitlines() if "images through" in line]
    assert first == "the first time: 80 images through efficientnet-lite0, generated and real"
    assert all(line.endswith(" 40 images through efficientnet-lite0") for line in (every, alone))
