"""What score.py and measure_cost.py write beside a number, whole, so that nothing of it can be lost or renamed."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from diffusion2gan import provenance
from scripts.evaluate import measure_cost, score


class Measured:
    """Scores that need no images."""

    values, intervals, recipe = {"kid": 2.0, "fid": 1.5}, {"kid": 0.2, "fid": 0.1}, {"resolution": 32}
    sample, speed, parts, images, device = {"steps": 4}, {"median": 0.5}, {"fid": 3.0}, range(7), torch.device("cpu")

    def __init__(self, args):
        self.args = args

    def measure(self):
        return self


def test_a_score_is_recorded_with_its_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(score, "Scores", Measured)
    clock = iter([100.0, 107.12345])
    monkeypatch.setattr(score.time, "monotonic", lambda: next(clock))
    out = tmp_path / "new" / "metrics.json"
    score.main(
        score.Arguments(
            run="mine",
            scale="toy",
            out=out,
            images=tmp_path,
            benchmark=tmp_path / "coco2014",
            seed=3,
            resamples=9,
            features="efficientnet-lite0",
            resolution=32,
        )  # fmt: skip
    )
    found = json.loads(out.read_text())
    settings = {"recipe": {"resolution": 32}, "sample": {"steps": 4}, "metrics": ["fid", "kid"]}
    assert found.pop("settings_sha256") == provenance.json_sha256(settings)
    device = found.pop("device")
    assert device.startswith("cpu") and {found.pop(name) is None for name in ("git_commit", "versions", "utc")} == {
        False
    }
    assert found == {
        "run": "mine", "scale": "toy", "seed": 3, "features": "efficientnet-lite0", "benchmark": "coco2014",
        "metrics": {"kid": 2.0, "fid": 1.5}, "intervals": {"kid": 0.2, "fid": 0.1}, "count": 7,
        "recipe": {"resolution": 32}, "sample": {"steps": 4}, "speed": {"median": 0.5}, "resamples": 9,
        "settings": settings, "seconds": 7.123, "parts": {"fid": 3.0},
    }  # fmt: skip


DAY = 86400


@pytest.mark.parametrize("device", ["NVIDIA A100-SXM4-80GB", "an abacus"])
def test_the_cost_of_a_run_is_that_of_its_trainings_and_pairs(tmp_path, device):
    trainings = []
    for name, seconds, processes, images in (("mine", DAY, 2, 360.0), ("before", 2 * DAY, 1, 100.0)):
        counts = {"pairs_forward": 5_000_000, "teacher_forward": 1_000_000}
        counts |= {"student_forward": 1_000_000, "student_backward": 500_000, "target_forward": 0}
        record = {"device": device, "seconds": seconds, "processes": processes, "evaluations": counts}
        trainings.append(tmp_path / f"{name}.json")
        trainings[-1].write_text(json.dumps(record | {"metrics": {"images_per_second": images}}))
    timings = []
    for number, seconds in enumerate((DAY, DAY / 2), 1):
        timings.append(tmp_path / "generate_pairs" / f"{number}.tsv")
        timings[-1].parent.mkdir(exist_ok=True)
        pd.DataFrame({"s": [seconds], "h:m:s": ["0:00:00"]}).to_csv(timings[-1], sep="\t", index=False)
    out = tmp_path / "new" / "cost.json"
    measure_cost.main(measure_cost.Arguments("mine", "paper", out, trainings, timings, seed=2))
    metrics = {
        "images_per_second": 360.0 * 8 / 2, "device_days": 5.5, "nfe_million": 7.0, "nfe_forward_million": 9.0,
        "nfe_backward_million": 1.0, "nfe_total_million": 11.0,
    }  # fmt: skip
    said = f"one device day is one day of one {device}"
    if "A100" in device:
        metrics["a100_days"] = 5.5
    else:
        said += "; there is no conversion to days of an A100, which the paper counts"
    assert json.loads(out.read_text()) == {
        "run": "mine", "benchmark": None, "scale": "paper", "seed": 2, "metrics": metrics,
        "evaluations": {
            "pairs_forward": 5_000_000, "teacher_forward": 2_000_000, "student_forward": 2_000_000,
            "student_backward": 1_000_000, "target_forward": 0, "fake_forward": 0, "fake_backward": 0,
            "discriminator_forward": 0, "discriminator_backward": 0,
        },
        "days": {"training": 4.0, "generate_pairs": 1.5}, "trainings": list(map(str, trainings)), "device": device,
        "gpus": 2,
        "conversion": said,
    }  # fmt: skip
    assert measure_cost.seconds(Path(timings[0])) == DAY
