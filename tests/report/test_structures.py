import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from matwheel.report.__main__ import main
from tests.report.hostile import HOSTILE, Page


def test_all_crystals_of_a_file_are_on_the_page(tmp_path: Path) -> None:
    frames = [
        Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=3 * np.eye(3), pbc=True, info={"id": name})
        for name in ("first", "<b>&amp;second", HOSTILE)
    ]
    frames[0].info["gap"] = 5.25
    path = tmp_path / "<i>crystals.extxyz"
    write(path, frames, format="extxyz")
    with path.open("a") as file:
        file.write("1\nno cell\nH 0 0 0\n")
    out = tmp_path / "viewer.html"
    main(["structures", str(path), "--out", str(out)])
    page = Page.read(out.read_text())
    page.check()
    assert "3 of 4 crystals; not read: 1 x absurd cell." in page.text
    assert "gap 5.25" in page.text
    for text in ("<i>crystals.extxyz", "<b>&amp;second", "NaCl"):
        assert text in page.text
    drawings = json.loads(page.scripts[0])
    assert [canvas["data-crystal"] for canvas in page.all("canvas")] == ["0", "1", "2"]
    assert [len(drawing["atoms"]) for drawing in drawings] == [9, 9, 9]
