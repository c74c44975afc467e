"""Generated crystals, stored chunk by chunk, so that an interrupted run makes none of them twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from matwheel.data.conditions import SampleRequests
from matwheel.data.crystal import CrystalTable
from matwheel.files import replaced_when_complete

log = logging.getLogger(__name__)

_PARTS = "parts"


class SampleParts:
    """The chunks of generated crystals in a folder.

    Args:
        folder: They are in its folder `parts`, those of an interrupted run too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        origins = [json.loads(origin) for part in self._files() for origin in CrystalTable.load(part).origins]
        self._done = {int(origin["index"]): origin for origin in origins}
        self._generator: str | None = next((origin["generator"] for origin in origins), None)

    def __len__(self) -> int:
        return len(self._done)

    def missing(self, requests: SampleRequests, generator: str | None = None) -> SampleRequests:
        """Requests whose crystals are not there yet.

        Args:
            requests: All that is asked for.
            generator: Hash of the generator that is asked, where it is known already.

        Raises:
            ValueError: If the folder holds a crystal that is not asked for.
        """
        self._check_generator(generator)
        if not self._done:
            return requests
        wanted = {int(index): row for row, index in enumerate(requests.index)}
        for index, origin in self._done.items():
            if index not in wanted or not _is_request(origin, requests.take([wanted[index]])):
                made = f"number {index} with the seed {origin['seed']} and {origin['conditions'] or 'no conditions'}"
                raise self._others(made)
        log.info("%d of %d samples exist already", len(self._done), len(wanted))
        return requests.take([row for index, row in wanted.items() if index not in self._done])

    def add(self, samples: CrystalTable) -> None:
        """Store a chunk.

        Args:
            samples: Its crystals, whose origins have their index and the hash of their generator.

        Raises:
            ValueError: If the folder holds crystals of another generator.
        """
        origins = [json.loads(origin) for origin in samples.origins]
        self._check_generator(origins[0]["generator"])
        indices = [origin["index"] for origin in origins]
        with replaced_when_complete(self.folder / _PARTS / f"{min(indices):07d}-{max(indices):07d}.npz") as temporary:
            samples.save(temporary)

    def table(self) -> CrystalTable:
        """All crystals that are stored, those that other processes have added too, in order of their index."""
        samples = CrystalTable.concatenate([CrystalTable.load(part) for part in self._files()])
        index = [json.loads(origin)["index"] for origin in samples.origins]
        return samples.take(np.argsort(index, kind="stable"))

    def _files(self) -> list[Path]:
        return sorted((self.folder / _PARTS).glob("[0-9]*.npz"))

    def _check_generator(self, generator: str | None) -> None:
        if None not in (generator, self._generator) and generator != self._generator:
            raise self._others("of another generator")

    def _others(self, which: str) -> ValueError:
        return ValueError(f"{self.folder} holds other samples ({which}): choose another folder or delete it")


def _is_request(origin: Mapping[str, Any], request: SampleRequests) -> bool:
    """Whether a sample is what one request asks for."""
    asked = request.conditions[0][~request.conditions[0].isnan()].numpy()
    made = np.array(list(origin["conditions"].values()), dtype=np.float32)
    return origin["seed"] == int(request.seed) and np.array_equal(made, asked)
