"""Small models trained in seconds through the command line."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from matwheel.fit import main
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, TINY, _args

SMALL_NETWORK = ["--model.network.hidden_dim", "8", "--model.network.num_convs", "1", "--model.network.head_dim", "8"]


def train_predictor(
    folder: Path,
    seed: int = 0,
    target: str = "poly_total",
    config: str = "cgcnn.yaml",
    network: Sequence[str] = SMALL_NETWORK,
) -> Path:
    """Checkpoint of a predictor of 24 small crystals."""
    data = _data(folder, target)
    name = f"{target}-{seed}"
    with contextlib.chdir(folder):
        main(
            [
                *_args("fit", CONFIGS / "predictor" / config),
                *data,
                *SHORT,
                *network,
                *("--seed_everything", str(seed), "--name", name),
            ]
        )
    return folder / "runs" / name / "version_0" / "checkpoints" / "best.ckpt"


def train_generator(folder: Path) -> Path:
    """Checkpoint of the prior of a generator of 24 small crystals."""
    configs, small = CONFIGS / "generator", (*SHORT, *_data(folder, "poly_total"))
    latents = [option.replace("--data.", "--data.crystals.") for option in small]
    checkpoints = [folder / "runs" / name / "version_0" / "checkpoints" / "best.ckpt" for name in ("vae", "prior")]
    with contextlib.chdir(folder):
        main([*_args("fit", configs / "con_cdvae.yaml", TINY / "con_cdvae.yaml"), *small, "--name", "vae"])
        vae = ["--model.vae_checkpoint", str(checkpoints[0]), "--name", "prior"]
        main([*_args("fit", configs / "prior.yaml", TINY / "prior.yaml"), *latents, *vae])
    return checkpoints[1]


def _data(folder: Path, target: str) -> list[str]:
    table = folder / "small.xyz"
    if not table.is_file():
        write_small_table(table, count=24)
    options = {"dataset": str(table), "target": target, "cache_dir": str(folder / "cache")}
    return [part for name, value in options.items() for part in (f"--data.{name}", value)]
