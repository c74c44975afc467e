"""The model card of an exported model: what it is, what it learned from, how well it does, and how to load it."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matwheel import __version__
from matwheel.data.catalogue import DATASETS
from matwheel.data.splits import LABELLED_PART, FileSplit
from matwheel.files import STAGE, VALIDATION_PREDICTIONS
from matwheel.flywheel.results import read_results
from matwheel.flywheel.wheel import RESULTS
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import TARGET
from matwheel.models.run_config import RunConfig
from matwheel.models.trained import TrainedModel
from matwheel.predictors.predictor import Fitted
from matwheel.predictors.predictor_file import About
from matwheel.predictors.saved import validation_predictions
from matwheel.report.folders import SPLIT, RunFolder

CARD = "README.md"
_MADE_BY = "matwheel"  # the fact by which a card is told from another README
_ERRORS = ("mae", "rmse", "r2")
_VALIDATION = ("val_", "val/")

_PREDICTOR_USE = """\
Estimating {target} of ordered inorganic crystals like those of the data set: screening, ranking, labelling of
synthetic crystals. Predictions are in the unit above; several models give a spread (`--model`).

Out of scope: compositions and structure types that the training crystals do not cover, disordered crystals, molecules
and surfaces, and any decision that rests on one prediction that was not checked by a calculation or an experiment.
"""
_GENERATOR_USE = """\
Proposing crystals for wanted values of {target}, to be checked before use: augmentation of small data sets, candidates
for relaxation. Values inside the range of the training crystals only.

Out of scope: taking a sample for a stable, synthesisable or correctly conditioned crystal. Samples are not relaxed and
a part of them is invalid: judge them first (`python -m matwheel.evaluate`).
"""
_LOAD_PREDICTOR = """\
python -m matwheel.predict {folder} new_crystals.extxyz --out predictions.csv
python -c {python}
"""
_LOAD_GENERATOR = """\
# Put {wanted} in place of 10
python -m matwheel.sample {folder} --values {values} --n 8 --out samples
python -c {python}
"""


def is_card(text: str) -> bool:
    """Whether a text is a card that was written here."""
    return f"\n- {_MADE_BY}: " in text


def card_of_model(trained: TrainedModel[Any], folder: Path) -> str:
    """Text of the card of a network, in Markdown.

    Args:
        trained: The model, at the place where it was trained: figures and split are found beside it.
        folder: Where it is exported to.
    """
    model, target = trained.model, trained.checkpoint.get(TARGET)
    kind, is_generator = type(model).__name__, isinstance(model, LatentPrior)
    if not is_generator:
        kind = f"{type(model.network).__name__} ({kind})"
    facts = {
        "kind": f"{kind}, a {'generator of crystals' if is_generator else 'property predictor'}",
        **({} if is_generator else _trained_on(trained.path)),
        **({} if is_generator else {"intervals": _intervals(trained.validation_predictions is not None)}),
        **({"holds": "its training crystals and their latents"} if isinstance(model, KernelPrior) else {}),
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
    }
    names = model.condition_names if is_generator else [str(target or trained.config.data_options()["target"])]
    figures = _figures(trained.path, lambda: _logged(trained), is_generator)
    note = "Nothing in the weights is executed. The config names classes to build, so use only configs you trust.\n"
    return _card(kind, names, is_generator, facts, figures, note, trained.config, folder)


def card_of_fitted(path: Path, fitted: Fitted, about: About, config: RunConfig, folder: Path) -> str:
    """Text of the card of a predictor that is no network, in Markdown.

    Args:
        path: Its file, where it was fitted: figures are found beside it.
        fitted: The predictor.
        about: What its file says of it.
        config: That of the run.
        folder: Where it is exported to.
    """
    facts = {
        "kind": f"{about.name}, a property predictor ({type(fitted).__name__})",
        **_trained_on(path),
        "intervals": _intervals(validation_predictions(path) is not None),
        "written by": ", ".join(f"{name} {number}" for name, number in about.versions.items()),
    }
    note = (
        "The file can be read with the versions above, as a rule with others near them. Nothing in it is executed. It "
        "names classes to build, so use only files you trust.\n"
    )
    return _card(about.name, [about.target], False, facts, _figures(path, dict), note, config, folder)


def _card(
    kind: str,
    names: Sequence[str],
    is_generator: bool,
    facts: Mapping[str, str],
    figures: str,
    note: str,
    config: RunConfig,
    folder: Path,
) -> str:
    data = config.data_options()
    dataset = Path(data["dataset"]).name
    units = DATASETS[dataset].units if dataset in DATASETS else {}
    target = ", ".join(f"{name} ({units.get(name, 'unit of the data set')})" for name in names)
    use, load = (_GENERATOR_USE, _LOAD_GENERATOR) if is_generator else (_PREDICTOR_USE, _LOAD_PREDICTOR)
    facts = {
        **facts,
        "conditions" if is_generator else "target": target,
        "data set": dataset,
        "split": _split(data["split"]),
        "rows of the split": _rows(config.path.parent / SPLIT),
        _MADE_BY: __version__,
    }
    values = f"[{', '.join('10' for _ in names)}]" if len(names) > 1 else "10"  # one of each condition
    name = json.dumps(folder.resolve().name, ensure_ascii=False)  # in double quotes: the shell's are single ones
    call = (
        f"sample({name}, values=[{values}], n=8, seed=0)" if is_generator else f'predict({name}, "new_crystals.extxyz")'
    )
    command = load.format(
        folder=shlex.quote(folder.resolve().name),
        values=shlex.quote(values),
        wanted=f"the {' and '.join(names)} that you want",
        python=shlex.quote(f"from matwheel import api; print(api.{call})"),
    )
    return "\n".join(
        [
            f"# {names[0]}: {kind}\n",
            *(f"- {name}: {value}" for name, value in facts.items()),
            f"\n## Intended use\n\n{use.format(target=' and '.join(names))}",
            f"## Figures\n\n{figures}\n",
            f"## How to load it\n\n```\n{command}```\n",
            note,
            f"## Licence\n\n{_licence(dataset)}\n",
        ]
    )


def _trained_on(path: Path) -> dict[str, str]:
    """What the arm of a flywheel was trained on, by the results of its run; nothing outside a flywheel."""
    stage = path.resolve().parent
    if not (stage / STAGE).is_file():
        return {}
    results = stage.parents[1] / RESULTS
    run = RunFolder(stage.parents[1], tuple(read_results(results)) if results.is_file() else ())
    row = next((row for row in run.rows if run.predictions(row) == stage), None)
    if row is None:
        return {"trained on": "not recorded"}
    crystals = f"{row.n_real} real crystals (repeats counted) and {row.n_synthetic} synthetic ones"
    return {"trained on": f"{crystals}: arm `{row.arm}`, round {row.round}, seed {row.seed}"}


def _split(split: Any) -> str:
    if split is None:
        return "RandomSplit, seed 0"
    name, options = str(split.class_path).rpartition(".")[2], vars(split.init_args) if "init_args" in split else {}
    if name == FileSplit.__name__:
        return f"{name}, {Path(options['path']).name}, index {options['index']}"
    return ", ".join([name, *(f"{key} {value}" for key, value in options.items() if key != "path")])


def _rows(path: Path) -> str:
    if not path.is_file():
        return "not recorded"
    parts: Mapping[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    counts = {name: f"{name} {len(ids)}" for name, ids in parts.items()}
    if LABELLED_PART in counts:
        counts["train"] += f" (of which {counts.pop(LABELLED_PART)})"
    return ", ".join(counts.values())


def _intervals(calibrated: bool) -> str:
    if calibrated:
        return f"`--interval` calibrates them on the validation rows in `{VALIDATION_PREDICTIONS}`"
    return "none, the predictions of the validation rows were not kept"


def _figures(path: Path, logged: Callable[[], Mapping[str, str]], is_generator: bool = False) -> str:
    """Metrics that were recorded beside the file of a model, by its stage of a flywheel or by its run."""
    stage = path.parent / STAGE
    if stage.is_file():
        found = json.loads(stage.read_text(encoding="utf-8"))
        source, figures = f"stage `{found['name']}` of a flywheel", found["record"]["metrics"]
    else:
        source, figures = "its run, at this checkpoint's epoch", logged()
    endings = "loss" if is_generator else _ERRORS
    shown = {name: f"- {name}: {float(value):.4g}" for name, value in figures.items() if name.endswith(endings)}
    if not shown:
        return "No figures were found beside the model."
    meaning = ["The loss has no unit." if is_generator else "MAE and RMSE are in the unit above, R² has none."]
    if any(name.startswith(_VALIDATION) for name in shown):
        meaning.append(
            "Those named `val` are of the validation rows, which serve choices such as that of the epoch: too good."
        )
    if not all(name.startswith(_VALIDATION) for name in shown):
        meaning.append("Those named `test` hold for crystals drawn like the test crystals, not for others.")
    return "\n".join([f"Recorded by {source}. {' '.join(meaning)}\n", *shown.values()])


def _logged(trained: TrainedModel[Any]) -> dict[str, str]:
    path = trained.config.path.parent / "metrics.csv"
    if not path.is_file():
        return {}
    figures: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["epoch"] == str(trained.checkpoint.get("epoch")):
                figures.update({name: value for name, value in row.items() if value and name.startswith("val/")})
    return figures


def _licence(dataset: str) -> str:
    note = "The licence of the weights is for whoever publishes them to choose; the code is under MIT."
    if dataset not in DATASETS:
        return f"{note} The terms of the data it was trained on apply."
    return f"{note} Trained on: {DATASETS[dataset].licence}; cite {DATASETS[dataset].citation}."
