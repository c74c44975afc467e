"""Settings of the predictor, searched by Optuna on the validation rows, without an account.

Run it as `python experiments/sweeps/optuna_sweep.py --trials 30 --data.dataset my.csv --data.target gap`: options that
are not its own go to `python -m matwheel.fit fit`. Needs `pip install "matwheel[sweeps]"`. Trials are kept in
`runs/NAME.db`: the same command adds further ones, and several processes may search together.
"""

import argparse
from collections.abc import Sequence

import optuna
import pandas as pd

from matwheel.files import RUNS
from matwheel.fit import main as fit
from matwheel.report.folders import RunFolder


def settings(trial: optuna.Trial) -> dict[str, float]:
    """Options of one trial; those of `predictor.yaml`, the sweep of Weights & Biases."""
    return {
        "model.learning_rate": trial.suggest_float("model.learning_rate", 1e-3, 2e-2, log=True),
        "model.weight_decay": trial.suggest_float("model.weight_decay", 1e-3, 1e-1, log=True),
        "model.network.dropout": trial.suggest_float("model.network.dropout", 0.0, 0.4),
        "model.network.hidden_dim": trial.suggest_categorical("model.network.hidden_dim", [32, 64, 128]),
        "model.network.num_convs": trial.suggest_categorical("model.network.num_convs", [2, 3, 4]),
        "data.batch_size": trial.suggest_categorical("data.batch_size", [16, 32, 64]),
    }


def validation_error(trial: optuna.Trial, name: str, options: Sequence[str]) -> float:
    """Lowest validation error of a training; test rows have no say."""
    run = f"{name}-{trial.number}"
    chosen = [f"--{option}={value}" for option, value in settings(trial).items()]
    fit(["fit", "-c", "predictor/cgcnn.yaml", "--quiet", "--name", run, *chosen, *options])
    table = pd.read_csv(RunFolder(RUNS / run, ()).versions[-1] / "metrics.csv")
    return float(table["val/mae"].min())


def main(args: Sequence[str] | None = None) -> optuna.Study:
    """Search; prints the best options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--name", default="optuna")
    parser.add_argument("--seed", type=int, default=0, help="Of the search.")
    own, options = parser.parse_known_args(args)
    RUNS.mkdir(exist_ok=True)
    study = optuna.create_study(
        study_name=own.name,
        storage=f"sqlite:///{RUNS / own.name}.db",
        sampler=optuna.samplers.TPESampler(seed=own.seed),
        load_if_exists=True,
    )
    study.optimize(lambda trial: validation_error(trial, own.name, options), n_trials=own.trials)
    print(f"val/mae {study.best_value:.4g} with {' '.join(f'--{k} {v}' for k, v in study.best_params.items())}")
    return study


if __name__ == "__main__":
    main()
