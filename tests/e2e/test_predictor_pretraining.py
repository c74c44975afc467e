"""A wheel whose predictors first learn from another data set."""

from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
from lightning.pytorch.callbacks import Callback

from matwheel.flywheel.predictor_pretraining import PredictorPretraining
from matwheel.flywheel.stages import FitSettings
from tests.e2e.toy_wheel import attempts, changed, ledger, spin
from tests.small_data import write_small_table

STAGE = "predictor-pretraining"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """A property of a table that has the wheel's own crystals and others as well."""
    other = write_small_table(tmp_path_factory.mktemp("other") / "other.xyz", count=118)  # every third is of the wheel
    return {str(other): ["band_gap"]}


def options(labels: dict[str, list[str]], epochs: int = 2, **more: Any) -> dict[str, Any]:
    pretraining = PredictorPretraining(
        labels, fit=FitSettings(epochs, 8, gradient_clip_val=None, ema_decay=0.5), **more
    )
    return {"predictor_pretraining": pretraining, "arms": ["F"], "baselines": []}


def test_all_arms_start_from_it_and_it_is_done_once(table: Path, labels: dict[str, list[str]], tmp_path: Path) -> None:
    spin(tmp_path, table, **options(labels))
    record = ledger(tmp_path)[STAGE]
    assert record["metrics"]["formula_test"] >= 8  # the table's own crystals
    assert record["metrics"]["used"] > 50
    assert {"val/loss", "train/loss", "epochs"} <= set(record["metrics"])
    spin(tmp_path / "plain", table, arms=["F"], baselines=[])
    assert ledger(tmp_path / "plain")["predictor-F"]["key"] != ledger(tmp_path)["predictor-F"]["key"]

    before = attempts(tmp_path)
    _, wheel = spin(tmp_path, table, **{**options(labels), "arms": ["F", "G_F"]})
    assert STAGE not in changed(before, attempts(tmp_path))
    assert "predictor-F" not in changed(before, attempts(tmp_path))
    assert [row.arm for row in wheel.results] == ["F", "G_F"]

    before = attempts(tmp_path)
    (tmp_path / "results.csv").unlink()  # of another split
    spin(tmp_path, table, split_seed=1, **options(labels))
    assert STAGE not in changed(before, attempts(tmp_path))  # splits share it
    before = attempts(tmp_path)
    (tmp_path / "results.csv").unlink()
    spin(tmp_path, table, **options(labels, learning_rate=1e-4))
    assert changed(before, attempts(tmp_path)) == {"predictor-F"}


def test_an_interrupted_one_continues_with_the_same_result(
    table: Path, labels: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin(tmp_path / "unbroken", table, **options(labels))
    with monkeypatch.context() as patch:
        patch.setattr("matwheel.flywheel.trainers.SeededEpochs.on_train_batch_end", _interrupt, raising=False)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            spin(tmp_path / "broken", table, **options(labels))
    assert list((tmp_path / "broken").glob(f"stages/{STAGE}.partial-*/last.ckpt"))
    spin(tmp_path / "broken", table, **options(labels))
    one, two = (pd.read_csv(tmp_path / run / "results.csv").drop(columns="seconds") for run in ("unbroken", "broken"))
    pd.testing.assert_frame_equal(one, two)


def _interrupt(self: Callback, trainer: L.Trainer, *args: Any) -> None:
    if trainer.current_epoch == 1:
        raise KeyboardInterrupt
