"""Trained models as folders that one can carry: `python -m matwheel.export --help`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from matwheel.checkpoint_file import read_checkpoint
from matwheel.command import command
from matwheel.files import VALIDATION_PREDICTIONS, check_no_file, replaced_when_complete, write_text_atomically
from matwheel.models.checkpoints import MODEL_CLASS
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.run_config import CONFIG, RunConfig, find_config
from matwheel.models.trained import FITTED, FITTED_SUFFIX, WEIGHTS, TrainedModel, model_file, what_it_is
from matwheel.predictors.predictor_file import read_predictor
from matwheel.predictors.saved import validation_predictions
from matwheel.report.model_card import CARD, card_of_fitted, card_of_model, is_card

_KINDS: dict[str, type[PropertyPredictor] | type[LatentPrior]] = {
    kind.__name__: kind for kind in (PropertyPredictor, LatentPrior)
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.
    """
    parser = ArgumentParser(
        prog="python -m matwheel.export",
        description=f"Write a trained predictor or generator as a folder: {WEIGHTS} and config.yaml, or {FITTED} of a "
        "predictor that is no network, and a model card; of a predictor also the predictions of its validation rows, "
        "by which intervals are calibrated.",
    )
    parser.add_argument(
        "model",
        type=Path,
        help="Checkpoint (.ckpt) of a predictor or of a generator's prior, or the folder of a flywheel's stage with "
        f"{FITTED}.",
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder to write to: a new one, or an earlier export.")
    parser.add_argument(
        "--config",
        type=Path | None,
        default=None,
        help="config.yaml of the run; found beside the model by default.",
    )
    with command(parser, args) as options:
        export(options.model, options.out, options.config)
        print(f"wrote {options.out}")


def export(model: Path, folder: Path, config: Path | None = None) -> None:
    """Write a trained model as a folder.

    Args:
        model: Checkpoint of a predictor, or of a latent prior, which holds the whole generator; or the stage of a
            flywheel, or its `predictor.skops`, of a predictor that is no network.
        folder: Where to: a new or empty folder, or an earlier export, which is replaced.
        config: `config.yaml` of the run; found beside the model by default.

    Raises:
        ValueError: If the file cannot be read, or holds none of these, or the folder holds something else.
    """
    path = model_file(model)
    if path.parent.resolve() == folder.resolve():
        raise ValueError(f"{folder} holds the model itself: export to another folder")
    _check_folder(folder)
    if path.suffix == FITTED_SUFFIX:
        _export_fitted(path, folder, config)
        return
    made_by = read_checkpoint(path).get(MODEL_CLASS)
    if made_by not in _KINDS:
        what, mend = what_it_is(made_by)
        raise ValueError(f"{path} is {what}, neither a predictor nor a generator: {mend}")
    trained = TrainedModel.load(path, _KINDS[made_by], config)
    trained.write(folder)
    (folder / FITTED).unlink(missing_ok=True)  # of an earlier export
    _copy_validation(trained.validation_predictions, folder)
    write_text_atomically(folder / CARD, card_of_model(trained, folder))


def _check_folder(folder: Path) -> None:
    """Refuse to write among files of something else."""
    check_no_file(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    card = folder / CARD
    if not (card.is_file() and is_card(card.read_text(encoding="utf-8", errors="replace"))):
        raise ValueError(f"{folder} is neither empty nor an earlier export: name a new folder as --out")


def _export_fitted(path: Path, folder: Path, config: Path | None) -> None:
    fitted, about = read_predictor(path)
    card = card_of_fitted(path, fitted, about, RunConfig.read(config or find_config(path)), folder)
    with replaced_when_complete(folder / FITTED) as temporary:
        shutil.copyfile(path, temporary)
    for name in (WEIGHTS, CONFIG):  # of an earlier export
        (folder / name).unlink(missing_ok=True)
    _copy_validation(validation_predictions(path), folder)
    write_text_atomically(folder / CARD, card)


def _copy_validation(path: Path | None, folder: Path) -> None:
    target = folder / VALIDATION_PREDICTIONS
    if path is None:
        target.unlink(missing_ok=True)
    else:
        write_text_atomically(target, path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
