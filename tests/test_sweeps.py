"""The recipes for hyperparameter sweeps: their parameters are options, and their metric is one of validation."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matwheel.fit import main
from tests.small_data import write_small_table
from tests.test_cli import ROOT, SHORT

SWEEPS = ROOT / "experiments" / "sweeps"
SWEEP = yaml.safe_load((SWEEPS / "predictor.yaml").read_text())


def _value(parameter: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "values" in parameter:
        return st.sampled_from(parameter["values"])
    return st.floats(parameter["min"], parameter["max"])


def _command(values: dict[str, Any]) -> list[str]:
    """Arguments that the agent of W&B gives to `matwheel.fit` for an assignment of values."""
    command = SWEEP["command"]
    assert command[:4] == ["${env}", "${interpreter}", "-m", SWEEP["program"]]
    assert command[-1] == "${args}"
    return [*command[4:-1], *(f"--{name}={value}" for name, value in values.items())]


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.fixed_dictionaries({name: _value(spec) for name, spec in SWEEP["parameters"].items()}))
def test_any_assignment_of_the_wandb_sweep_is_a_command(
    values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*_command(values), "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    for name, value in values.items():
        part = config
        for key in name.split("."):
            part = part["init_args"][key] if "init_args" in part else part[key]
        assert part == pytest.approx(value), name


def test_sweeps_look_at_validation_only() -> None:
    assert SWEEP["metric"] == {"name": "val/mae", "goal": "minimize"}


def _optuna_sweep() -> ModuleType:
    pytest.importorskip("optuna", reason='optuna is not installed: pip install "matwheel[sweeps]"')
    spec = importlib.util.spec_from_file_location("optuna_sweep", SWEEPS / "optuna_sweep.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_optuna_drives_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = _optuna_sweep()
    monkeypatch.chdir(tmp_path)
    write_small_table(tmp_path / "small.xyz", count=24)
    data = ["--data.dataset", "small.xyz", "--data.target", "poly_total", "--data.cache_dir", "cache"]
    for trials in (2, 3):
        study = sweep.main(["--trials", "1" if trials == 3 else "2", "--name", "search", *data, *SHORT])
        assert len(study.trials) == trials
    assert set(study.best_params) == set(SWEEP["parameters"])
    for trial in study.trials:
        config = yaml.safe_load(Path(f"runs/search-{trial.number}/version_0/config.yaml").read_text())
        assert config["model"]["init_args"]["learning_rate"] == pytest.approx(trial.params["model.learning_rate"])
    assert f"val/mae {study.best_value:.4g} with --model.learning_rate" in capsys.readouterr().out
