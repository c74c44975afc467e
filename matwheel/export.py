"""Trained models as folders that one can carry: `python -m matwheel.export --help`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from matwheel.checkpoint_file import read_checkpoint
from matwheel.command import command
from matwheel.files import write_text_atomically
from matwheel.models.checkpoints import MODEL_CLASS
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.trained import WEIGHTS, TrainedModel
from matwheel.report.model_card import CARD, model_card
from matwheel.writers import VALIDATION_PREDICTIONS

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
        description=f"Write a trained predictor or generator as a folder: {WEIGHTS}, config.yaml and a model card; of "
        "a predictor also the predictions of its validation rows, by which intervals are calibrated.",
    )
    parser.add_argument("checkpoint", type=Path, help="Checkpoint (.ckpt) of a predictor or of a generator's prior.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to write to.")
    parser.add_argument(
        "--config",
        type=Path | None,
        default=None,
        help="config.yaml of the run; found beside the checkpoint by default.",
    )
    with command(parser, args) as options:
        export(options.checkpoint, options.out, options.config)
        print(f"wrote {options.out}")


def export(checkpoint: Path, folder: Path, config: Path | None = None) -> None:
    """Write a trained model as a folder.

    Args:
        checkpoint: Of a predictor, or of a latent prior, which holds the whole generator.
        folder: Where to; created if missing.
        config: `config.yaml` of the run; found beside the checkpoint by default.

    Raises:
        ValueError: If the checkpoint cannot be read, or holds neither.
    """
    made_by = read_checkpoint(checkpoint).get(MODEL_CLASS)
    if made_by not in _KINDS:
        raise ValueError(
            f"{checkpoint} is a checkpoint of {made_by or 'an unknown model'}: give one of {' or of '.join(_KINDS)}"
        )
    trained = TrainedModel.load(checkpoint, _KINDS[made_by], config)
    trained.write(folder)
    validation = trained.validation_predictions
    if validation is not None:
        write_text_atomically(folder / VALIDATION_PREDICTIONS, validation.read_text(encoding="utf-8"))
    write_text_atomically(folder / CARD, model_card(trained, folder))


if __name__ == "__main__":
    main()
