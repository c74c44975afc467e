import json
import shlex
from pathlib import Path

import pandas as pd
import pytest

from matwheel.fit import main
from matwheel.flywheel.end_screen import wanted_values
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, SMALL_FILTER, _args


@pytest.mark.parametrize("without_crystals", [False, True])
def test_it_names_what_is_there(
    without_crystals: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_table(Path("small.xyz"), count=24)
    name = "my run (a)"
    data = ["--data.dataset", "small.xyz", "--data.target", "poly_total", "--data.cache_dir", "cache", "--name", name]
    filters = [part for name, value in SMALL_FILTER.items() for part in (f"--trainer.callbacks.{name}", str(value))]
    arms = "[F, G_F]" if not without_crystals else "[F]"
    options = ["--trainer.callbacks.arms", arms, "--trainer.callbacks.baselines", "[dummy]"]
    quiet = ["--quiet"] if without_crystals else []
    main([*_args("fit", CONFIGS / "flywheel" / "jitter.yaml"), *data, *SHORT, *filters, *options, *quiet])
    assert ("[1/8] baseline-dummy: started" in caplog.text) == (not without_crystals)
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("results "))
    end = lines.index("next:")
    paths = {name.strip(): path for name, _, path in (line.rpartition("  ") for line in lines[start:end])}
    assert all(Path(path).exists() for path in paths.values())
    names = {"results", "best predictor", "log and config"}
    assert set(paths) == (names if without_crystals else names | {"rounds", "synthetic crystals"})
    commands = {line.split()[0]: shlex.split(line)[1:] for line in lines[end + 1 :] if line}
    assert set(commands) == {"report", "predict"}
    assert commands["predict"][3] == paths["best predictor"]
    stage = json.loads(Path(paths["best predictor"]).with_name("stage.json").read_text())
    lowest = pd.read_csv(f"runs/{name}/results.csv")["val_mae"].min()
    assert stage["record"]["metrics"]["val_mae"] == pytest.approx(lowest)
    assert commands["report"][:4] == ["python", "-m", "matwheel.report", f"runs/{name}"]


def test_several_conditions_are_wanted_together() -> None:
    assert wanted_values(["gap"]) == "VALUE"
    assert wanted_values(["gap", "density"]) == "[GAP, DENSITY]"
