"""A fitted predictor as one file, from which nothing that is not a predictor can be made."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matwheel.data.targets import TargetTransform, TransformKind
from matwheel.data.unpacking import check_archive
from matwheel.files import replaced_when_complete
from matwheel.predictors.features import Features
from matwheel.predictors.predictor import Fitted

_ABOUT = "matwheel.json"
"""Beside what skops writes in the archive."""
_FAST = 1
"""Level of compression: a forest of 60 MB becomes 17 MB in a second."""
_PACKAGES = ("matwheel", "scikit-learn", "numpy", "skops")


@dataclass(frozen=True)
class About:
    """What has to be known of a predictor to use it.

    Attributes:
        name: What it is called in tables of results.
        target: The property.
        reduce_cells: Whether it learned from Niggli-reduced cells.
        transform: Kind of the target transform of its training.
        numbers: What this transform was fitted to, see `TargetTransform.numbers`: the scale of intervals.
        versions: Of the packages that wrote the file.
    """

    name: str
    target: str
    reduce_cells: bool
    transform: TransformKind
    numbers: Mapping[str, float]
    versions: Mapping[str, str]

    @classmethod
    def here(cls, name: str, target: str, reduce_cells: bool, transform: TargetTransform) -> About:
        """With the versions of the packages that are installed."""
        versions = {package: version(package) for package in _PACKAGES}
        return cls(name, target, reduce_cells, transform.kind, transform.numbers(), versions)


def write_predictor(path: Path, fitted: Fitted, about: About) -> None:
    """Write a predictor.

    Args:
        path: The file.
        fitted: The predictor.
        about: What is told of it.

    Raises:
        NotPortableError: If it has parts that cannot be written.
    """
    import skops.io

    with replaced_when_complete(path) as temporary:
        skops.io.dump(fitted.portable(), temporary, compression=zipfile.ZIP_DEFLATED, compresslevel=_FAST)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_ABOUT, json.dumps(asdict(about), indent=1))


def read_predictor(path: Path) -> tuple[Fitted, About]:
    """Read what `write_predictor` wrote.

    Only predictors, features, estimators of scikit-learn and plain values are made from it.

    Raises:
        ValueError: If it is damaged, or names something else, or was written with packages of other versions.
    """
    import skops.io

    if not path.is_file():
        raise ValueError(f"no such predictor: {path}")
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            about = About(**json.loads(archive.read(_ABOUT)))
        named = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # damaged files fail in many ways: each means unreadable
        raise ValueError(
            f"{path} does not hold a predictor of this program, or is damaged ({type(error).__name__}: {error}): give "
            "a file that a flywheel or 'python -m matwheel.export' wrote"
        ) from error
    foreign = [name for name in named if not _is_part_of_predictors(name)]
    if foreign:
        raise ValueError(
            f"{path} asks for {', '.join(foreign)}, which is no part of a predictor: do not trust the file"
        )
    try:
        fitted: Any = skops.io.load(path, trusted=named)
    except Exception as error:  # whatever another version of scikit-learn makes of it
        here = About.here(about.name, about.target, about.reduce_cells, TargetTransform()).versions
        raise ValueError(
            f"{path} cannot be read with these packages ({type(error).__name__}: {error}). It was written by "
            f"{_listed(about.versions)}; here are {_listed(here)}: install the versions that wrote it"
        ) from error
    if not isinstance(fitted, Fitted):
        raise ValueError(f"{path} holds {type(fitted).__name__}, which is no predictor")
    return fitted, about


def _is_part_of_predictors(name: str) -> bool:
    """Whether a class may be made, by its full name. Its module is imported, as is one that a config names."""
    from sklearn.base import BaseEstimator
    from sklearn.gaussian_process.kernels import Kernel
    from sklearn.tree._tree import Tree

    from matwheel.predictors.regressors import Regression

    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    if name == "numpy.dtype":
        return True
    return isinstance(found, type) and issubclass(found, (Fitted, Features, Regression, BaseEstimator, Kernel, Tree))


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
