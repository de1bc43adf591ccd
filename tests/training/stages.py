"""The scripts of both stages and their options."""

from scripts.distill import train_gan, train_regression

STEPS = 12


def arguments(stage, files, folder, **changes):
    """The script of a stage and its options."""
    options = {
        "loss": "e_latent_lpips", "iterations": STEPS, "batch_size": 4, "learning_rate": 1e-3, "warmup": 2,
        "ema_decay": 0.9, "seed": 3, "checkpoints": folder / "checkpoints", "out": folder / "student",
        "history": folder / "history.csv", "metrics": folder / "metrics" / "training.json",
        "samples": folder / "samples",
    }  # fmt: skip
    options |= files
    if stage == "gan":
        options |= dict.fromkeys(("z_conditioning", "r1", "multi_scale", "mix_and_match"), True) | {"r1_every": 4}
        return train_gan.main, train_gan.Arguments(**options | changes)
    del options["init"]
    return train_regression.main, train_regression.Arguments(**options | changes)
