"""A fitted predictor as one file, from which nothing but predictors is made."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from matwheel.data.targets import TargetTransform, TransformKind
from matwheel.data.unpacking import UnpackedSizeError, check_archive
from matwheel.files import replaced_when_complete
from matwheel.predictors.features import Features
from matwheel.predictors.predictor import Fitted, NotPortableError
from matwheel.predictors.regressors import Regression

_ABOUT = "matwheel.json"
"""Beside what skops writes in the archive."""
_FAST = 1
"""Level of compression: a forest of 60 MB becomes 17 MB in a second."""
_PACKAGES = ("matwheel", "scikit-learn", "matminer", "pymatgen")
"""Whose versions decide what a predictor says."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """What has to be known of a predictor to use it.

    Attributes:
        name: What it is called in tables of results.
        target: The property.
        reduce_cells: Whether it learned from Niggli-reduced cells.
        transform: Kind of the target transform on whose scale intervals are made.
        numbers: What this transform was fitted to, see `TargetTransform.numbers`.
        versions: Of packages, when the file was written.
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
        NotPortableError: If it has parts that cannot be written, or would not be read again.
    """
    import skops.io

    portable = fitted.portable()
    with replaced_when_complete(path) as temporary:
        try:
            skops.io.dump(portable, temporary, compression=zipfile.ZIP_DEFLATED, compresslevel=_FAST)
            foreign = _foreign(skops.io.get_untrusted_types(file=temporary))
        except OSError:
            raise
        except Exception as error:  # skops has no type for what it cannot write
            raise NotPortableError(f"{type(fitted).__name__} cannot be written ({error})") from error
        if foreign:
            raise NotPortableError(f"{type(fitted).__name__} holds {', '.join(foreign)}, which is not written")
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_ABOUT, json.dumps(asdict(about), indent=1))


def read_predictor(path: Path) -> tuple[Fitted, About]:
    """Read what `write_predictor` wrote.

    Predictors, features, what is scikit-learn's and plain values are made from it, and nothing else. No module is
    imported for that but those of this package and scikit-learn; a network inside names its classes in a config, as
    an exported one does.

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
    except UnpackedSizeError:
        raise
    except Exception as error:  # damaged files fail in many ways: each means unreadable
        raise ValueError(
            f"{path} does not hold a predictor of this program, or is damaged ({type(error).__name__}: {error}): give "
            "a file that a flywheel or 'python -m matwheel.export' wrote"
        ) from error
    here = {name: version(name) for name in _PACKAGES}
    written = f"It was written by {_listed(about.versions)}; here are {_listed(here)}"
    foreign = _foreign(named)
    if foreign:
        raise ValueError(
            f"{path} asks for {', '.join(foreign)}, which is no part of a predictor that is known here. A class of "
            f"your own must be imported before: use matwheel.api. {written}. Else do not trust the file"
        )
    try:
        fitted: Any = skops.io.load(path, trusted=named)
    except Exception as error:  # whatever another version of scikit-learn makes of it
        raise ValueError(
            f"{path} cannot be read with these packages ({type(error).__name__}: {error}). {written}: install the "
            "versions that wrote it"
        ) from error
    if not isinstance(fitted, Fitted):
        raise ValueError(f"{path} holds {type(fitted).__name__}, which is no predictor")
    if here != about.versions:
        log.warning("%s may predict other last digits, or worse. %s", path, written)
    return fitted, about


def _foreign(named: Sequence[str]) -> list[str]:
    """Those of the types that are no part of a predictor."""
    return [name for name in named if not _is_part_of_predictors(name)]


def _is_part_of_predictors(name: str) -> bool:
    """Whether a type may be made, by its full name; modules of others are not imported to find out."""
    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package in ("matwheel", "sklearn"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    found = getattr(sys.modules.get(module), attribute, None)
    if not isinstance(found, type):
        return False
    return found is np.dtype or package == "sklearn" or issubclass(found, (Fitted, Features, Regression, BaseEstimator))


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
