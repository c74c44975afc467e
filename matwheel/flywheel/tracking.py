"""The stages of a wheel in Weights & Biases: a run for each, and artifacts that tell what was made from what.

It watches the stages from outside, by what the ledger knows of them, so that one that was skipped because it was
finished before has its place, too. All of it works offline; `wandb sync` uploads it later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import pandas as pd
from lightning.pytorch.loggers import WandbLogger

from matwheel.files import read_parquet
from matwheel.flywheel.arms import Scenario
from matwheel.flywheel.fingerprint import Json
from matwheel.flywheel.latest import LAST
from matwheel.flywheel.ledger import StageResult
from matwheel.flywheel.results import ResultRow
from matwheel.models.trained import FITTED_SUFFIX
from matwheel.writers import SAMPLES_TABLE

if TYPE_CHECKING:
    from wandb import Artifact, Run, Settings

_KIND = re.compile("pseudo-labels|[a-z]+")
"""What a stage does, at the beginning of its name."""
_MAX_ROWS = 300
"""Of a table that is logged."""


class Tracker:
    """Follows the stages of a wheel, if the trainer that it is attached to has a `WandbLogger`.

    The runs of stages have the project and group of the logger's own run, which stays open beside them. Only the first
    process tracks.

    Args:
        outer: The trainer; None to track nothing.
    """

    def __init__(self, outer: L.Trainer | None = None) -> None:
        loggers = outer.loggers if outer is not None and outer.is_global_zero else []
        self._logger = next((logger for logger in loggers if isinstance(logger, WandbLogger)), None)
        data = getattr(outer, "datamodule", None)
        self._dataset = {name: str(getattr(data, name)) for name in ("dataset", "target") if hasattr(data, name)}
        self._run: Run | None = None
        self._artifacts: dict[str, Callable[[], Artifact]] = {}

    @contextmanager
    def stage(
        self, name: str, config: Json, inputs: Mapping[str, str], seed: int
    ) -> Iterator[Callable[[StageResult], None]]:
        """Track a stage that is run in a block, which calls what it is given with the result.

        Args:
            name: Name of the stage; its first word is the job type.
            config: Its settings.
            inputs: Keys of the stages, or hashes of the data, that it depends on, by their role.
            seed: Its seed.
        """
        if self._logger is None:
            yield lambda result: None
            return
        import wandb

        # Project, group and the like of the outer run; Lightning keeps them in these private attributes only.
        options = {
            **self._logger._wandb_init,
            "id": None,
            "name": name,
            "job_type": _kind(name),
            "config": {"stage": name, "seed": seed, "inputs": dict(inputs), "settings": config},
            "mode": "offline" if self._logger._offline else None,
            "reinit": "create_new",
            "settings": silent_settings(self._logger),  # 15 lines a stage would hide what the stages say
        }
        run = self._run = wandb.init(**options)  # as a context it would print a traceback of what ends a stage
        exit_code = 1
        try:
            run.define_metric("trainer/global_step")
            run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            yield lambda result: self._conclude(name, inputs, result)
            exit_code = 0
        finally:
            run.finish(exit_code)
            self._run = None

    def loggers(self, folder: Path) -> list[WandbLogger]:
        """The logger of the stage at hand, for its trainers; none where nothing is tracked."""
        return [] if self._run is None else [WandbLogger(experiment=self._run, save_dir=folder)]

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table, its first rows if it is long, to the outer run."""
        if self._logger is not None:
            _log_table(self._logger.experiment, name, table)

    def log_summary(self, figures: Mapping[str, float]) -> None:
        """Log figures to the summary of the outer run."""
        if self._logger is not None:
            self._logger.experiment.summary.update(dict(figures))

    def _conclude(self, name: str, inputs: Mapping[str, str], result: StageResult) -> None:
        """Log what the stage reported and left, and what it was made from."""
        run = self._run
        assert run is not None
        run.config.update({"key": result.key, "skipped": result.skipped})
        run.summary.update(dict(result.metrics))
        for key in dict.fromkeys(inputs.values()):
            _use(run, self._artifacts.get(key, lambda key=key: self._real(key))())
        self._artifacts[result.key] = lambda: self._result(name, inputs, result)
        run.log_artifact(self._artifacts[result.key]())
        if (result.folder / SAMPLES_TABLE).is_file():
            _log_table(run, "crystals", read_parquet(result.folder / SAMPLES_TABLE))

    def _real(self, key: str) -> Artifact:
        """Real crystals as a stage saw them, known by the hash of structures, labels and rows."""
        import wandb

        artifact = wandb.Artifact(f"real-{key[:12]}", "dataset", metadata={"key": key, **self._dataset})
        with artifact.new_file("key.txt") as file:
            file.write(key)
        return artifact

    def _result(self, name: str, inputs: Mapping[str, str], result: StageResult) -> Artifact:
        """What a stage left; a new object each time, with the same content."""
        import wandb

        assert self._logger is not None
        metadata = {"key": result.key, "inputs": dict(inputs)}  # no metrics: it may not hold NaN
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", name), _kind(name), metadata=metadata)
        for path in sorted(path for path in result.folder.iterdir() if path.is_file() and path.name != LAST):
            if path.suffix in (".ckpt", FITTED_SUFFIX) and not self._logger._log_model:
                artifact.add_reference(path.resolve().as_uri())  # weights are uploaded where the logger is told to
            else:
                artifact.add_file(str(path), policy="immutable", skip_cache=True)  # no copies: stages are not changed
        return artifact


def silent_settings(logger: WandbLogger) -> Settings:
    """The settings of a logger for W&B, with no messages."""
    import wandb

    given = logger._wandb_init.get("settings") or {}
    settings: Settings = wandb.Settings(**given) if isinstance(given, dict) else given
    return settings.model_copy(update={"silent": True})


def differences(results: Sequence[ResultRow], scenario: Scenario) -> dict[str, float]:
    """Test error of each arm with synthetic crystals less that of each arm without, by the same predictor.

    All are tested on the same rows. Of several rounds, the last one counts.
    """
    errors = {(row.predictor, row.arm): row.test_mae for row in results}
    return {
        f"test_mae_difference/{predictor} {arm} - {reference}": errors[predictor, arm] - errors[predictor, reference]
        for arm in scenario.arms
        for reference in scenario.arms
        if scenario.source(arm) is not None and scenario.source(reference) is None
        for predictor in dict.fromkeys(row.predictor for row in results)
        if {(predictor, arm), (predictor, reference)} <= set(errors)
    }


def _kind(name: str) -> str:
    found = _KIND.match(name)
    return found[0] if found is not None else name


def _use(run: Run, artifact: Artifact) -> None:
    """Make an artifact an input of a run."""
    if run.offline:
        # Offline `use_artifact` refuses all artifacts, as it wants to ask the server. This is what it does with one it
        # is handed, without the waiting: `wandb sync` sees by the content that it is one that another run logged.
        run._log_artifact(artifact, use_after_commit=True)
    else:
        run.use_artifact(artifact)


def _log_table(run: Run, name: str, table: pd.DataFrame) -> None:
    import wandb

    run.log({name: wandb.Table(dataframe=table.head(_MAX_ROWS).drop(columns="generator"))})
