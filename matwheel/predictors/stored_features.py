"""Features that take long: computed in processes and kept on disk, crystal by crystal."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import abstractmethod
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from matwheel.data.crystal import Crystal, CrystalTable, FloatArray
from matwheel.data.graphs import default_cache_dir
from matwheel.data.unpacking import check_archive
from matwheel.files import WriteError, replaced_when_complete
from matwheel.metrics.pool import Pool, of_the_machine
from matwheel.predictors.features import Features

log = logging.getLogger(__name__)

_FORMAT_VERSION = 2


class StoredFeatures(Features):
    """Features that are computed once per crystal, whatever table it is in.

    A crystal that they cannot be computed for has NaN, and so has one that takes longer than a minute, ends its process
    or lacks memory, disk or a package; those are tried again the next time.

    Attributes:
        packages: The packages whose versions decide the values.
    """

    packages: tuple[str, ...]

    @abstractmethod
    def compute_one(self, crystal: Crystal) -> FloatArray:
        """[f], of one crystal.

        Raises:
            Exception: Whatever says that it cannot be computed.
        """

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        store, keys = _store(self._folder()), [_identity(crystal) for crystal in table]
        missing = {key: row for row, key in enumerate(keys) if key not in store}
        if missing:
            kind, crystals = type(self).__name__, list(table.take(list(missing.values())))
            log.info("computing the features %s of %d crystals", kind, len(crystals))
            outcomes = dict(zip(missing, Pool().map(self.compute_one, crystals, kind), strict=True))
            nothing = np.full(len(self.names), np.nan)
            values = {key: nothing if one.value is None else one.value for key, one in outcomes.items()}
            failures = [one.failure for one in outcomes.values() if one.value is None]
            if failures:
                log.warning("%d crystals have no features %s, such as: %s", len(failures), kind, failures[0])
            store.add(values, {key for key, one in outcomes.items() if not of_the_machine(one.failure)})
        return np.array([store[key] for key in keys]).reshape(len(table), len(self.names))

    def _folder(self) -> Path:
        settings = [_FORMAT_VERSION, vars(self), {name: version(name) for name in self.packages}]
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return default_cache_dir() / f"features-{type(self).__name__}-{key[:8]}"


class _Store:
    """Features by crystal: in memory, and on disk in a file for each time that some were added.

    Args:
        folder: Of the files, which several processes may add to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._values: dict[str, FloatArray] = {}
        self._files: set[Path] = set()

    def __contains__(self, key: str) -> bool:
        if key not in self._values:
            self._read()
        return key in self._values

    def __getitem__(self, key: str) -> FloatArray:
        return self._values[key]

    def add(self, values: dict[str, FloatArray], lasting: set[str]) -> None:
        """Keep features in memory, and those of the crystals in `lasting` on disk."""
        self._values |= values
        keys = sorted(lasting)
        if not keys:
            return
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        path = self._folder / f"{name}.npz"
        try:
            with replaced_when_complete(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, keys=np.array(keys), values=np.stack([values[key] for key in keys]))
        except WriteError as error:  # what needs them can go on
            log.warning("%s: these features are not kept (the variable MATWHEEL_CACHE names the folder)", error)

    def _read(self) -> None:
        """Take what is new on disk."""
        for path in sorted(set(self._folder.glob("*.npz")) - self._files):
            self._files.add(path)
            try:
                check_archive(path)
                with np.load(path, allow_pickle=False) as file:
                    found = dict(zip(file["keys"].tolist(), file["values"], strict=True))
            except Exception as error:  # damaged files fail in many ways: each means unreadable
                log.warning("%s cannot be read (%s): these features are computed again", path, error)
                continue
            self._values |= found


@cache
def _store(folder: Path) -> _Store:
    return _Store(folder)


def _identity(crystal: Crystal) -> str:
    digest = hashlib.sha256()
    for array in (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
