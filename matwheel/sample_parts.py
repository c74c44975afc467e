"""Generated crystals, stored chunk by chunk, so that an interrupted run makes none of them twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from matwheel.data.conditions import SampleRequests
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.files import replaced_when_complete

log = logging.getLogger(__name__)

PARTS = "parts"
"""The folder of the chunks."""


class SampleParts:
    """The chunks of generated crystals in a folder.

    Args:
        folder: They are in its folder `parts`, those of an interrupted run too.

    Raises:
        ValueError: If a chunk is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: dict[int, tuple[dict[str, Any], FloatArray]] = {}
        for part in self._stored():
            conditions = np.stack(list(part.properties.values()), 1)
            for text, values in zip(part.origins, conditions, strict=True):
                origin = json.loads(text)
                self._done[origin["index"]] = origin, values
        self._generator: str | None = next((origin["generator"] for origin, _ in self._done.values()), None)

    def __len__(self) -> int:
        return len(self._done)

    def missing(self, requests: SampleRequests, generator: str | None = None) -> SampleRequests:
        """Requests whose crystals are not there yet.

        Args:
            requests: All that is asked for.
            generator: Hash of the generator that is asked, where it is known already.

        Raises:
            ValueError: If the folder holds crystals that are not asked for.
        """
        self._check_generator(generator)
        if not self._done:
            return requests
        wanted = {int(index): row for row, index in enumerate(requests.index)}
        for index, (origin, values) in self._done.items():
            if index in wanted and not _is_request(origin, values, requests.take([wanted[index]])):
                made = f"number {index} with the seed {origin['seed']} and {origin['conditions'] or 'no conditions'}"
                raise self._others(made)
        if surplus := self._done.keys() - wanted.keys():
            raise ValueError(
                f"{self.folder} holds more of these samples than the {len(wanted)} asked for: ask for at least "
                f"{max(surplus) + 1}, or choose another folder"
            )
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
        with replaced_when_complete(self.folder / PARTS / f"{min(indices):07d}-{max(indices):07d}.npz") as temporary:
            samples.save(temporary)

    def table(self) -> CrystalTable:
        """All crystals that are stored, those of other processes too, each of them once, in order of their index."""
        samples = CrystalTable.concatenate(list(self._stored()))
        _, first = np.unique([json.loads(origin)["index"] for origin in samples.origins], return_index=True)
        return samples.take(first)

    def _stored(self) -> Iterator[CrystalTable]:
        for path in sorted((self.folder / PARTS).glob("[0-9]*.npz")):
            try:
                yield CrystalTable.load(path)
            except ValueError as error:
                raise ValueError(
                    f"{path} is damaged ({error.__cause__}): delete this file and run the same command again, which "
                    "makes its crystals anew"
                ) from error

    def _check_generator(self, generator: str | None) -> None:
        if None not in (generator, self._generator) and generator != self._generator:
            raise self._others("of another generator")

    def _others(self, which: str) -> ValueError:
        return ValueError(f"{self.folder} holds other samples ({which}): choose another folder or delete it")


def _is_request(origin: Mapping[str, Any], values: FloatArray, request: SampleRequests) -> bool:
    """Whether a sample, made for values of all conditions [C], is what one request asks for; NaN is one left open."""
    made, asked = values.astype(np.float32), request.conditions[0].numpy()
    return origin["seed"] == int(request.seed) and np.array_equal(made, asked, equal_nan=True)
