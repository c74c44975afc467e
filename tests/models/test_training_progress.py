from collections.abc import Sequence
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from matwheel.models.training_progress import TrainingProgress


class Failing(BoringModel):
    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("as told")


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> L.Trainer:
    monkeypatch.setattr("matwheel.progress._LINES_EVERY", 0.0)
    return L.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=2,
        limit_train_batches=4,
        limit_val_batches=3,
        limit_test_batches=3,
        limit_predict_batches=3,
        accumulate_grad_batches=2,
        num_sanity_val_steps=1,
        callbacks=[TrainingProgress("toy")],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def _lines(text: str, label: str = "toy") -> list[str]:
    return [line.split(",")[0].strip() for line in text.splitlines() if line.startswith(f"  {label}:")]


def _counts(numbers: Sequence[int], total: int) -> list[str]:
    return [f"toy: {number} of {total}" for number in numbers]


def test_a_training_is_one_count_of_its_steps(trainer: L.Trainer, capfd: pytest.CaptureFixture[str]) -> None:
    trainer.fit(BoringModel())
    lines = _lines(capfd.readouterr().err)
    assert list(dict.fromkeys(lines)) == _counts(range(5), 4)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_evaluation_is_a_count_of_its_batches(
    command: str, trainer: L.Trainer, capfd: pytest.CaptureFixture[str]
) -> None:
    getattr(trainer, command)(BoringModel())
    assert list(dict.fromkeys(_lines(capfd.readouterr().err))) == _counts(range(4), 3)


def test_it_is_gone_after_an_error_and_silent_where_disabled(
    trainer: L.Trainer, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="as told"):
        trainer.fit(Failing())
    progress = trainer.progress_bar_callback
    assert isinstance(progress, TrainingProgress)
    assert progress._bar.disable  # closed
    capfd.readouterr()
    progress.disable()
    trainer.test(BoringModel())
    assert _lines(capfd.readouterr().err) == []
