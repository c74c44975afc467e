from pathlib import Path

import numpy as np
import pytest

from matwheel.data.catalogue import load
from matwheel.report.crystals import real_crystals, synthetic_crystals
from matwheel.report.folders import RunFolder
from tests.report.written_runs import ROW, full_rows, write_run


def written(folder: Path) -> RunFolder:
    return RunFolder(write_run(folder, full_rows()), tuple(full_rows()))


def test_real_crystals_are_the_labelled_training_crystals(tmp_path: Path) -> None:
    found = real_crystals(written(tmp_path / "run"))
    expected = load("mp_poly_total").table.take(range(8))
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_array_equal(found.properties["poly_total"], expected.properties["poly_total"])


def test_a_changed_data_set_is_noticed(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    split = run.path / "version_0" / "split.json"
    split.write_text(split.read_text().replace('"labelled": [', '"labelled": ["gone-1", '))
    with pytest.raises(ValueError, match="has only 8 of the 9 training crystals"):
        real_crystals(run)


def test_a_run_without_a_split_has_no_real_crystals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no version_\*/split\.json"):
        real_crystals(RunFolder(tmp_path, (ROW,)))


def test_synthetic_crystals_have_labels_and_requests(tmp_path: Path) -> None:
    found = synthetic_crystals(written(tmp_path / "run"), "poly_total", 1)
    assert found is not None
    assert found.labels.tolist() == [4, 5, 6, 7, 8]
    assert found.requested.tolist() == [12.5] * 5
    assert synthetic_crystals(written(tmp_path / "other"), "poly_total", 2) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    (run.stage("crystals") / "crystals.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"crystals\.npz is not a table of crystals that can be read"):
        synthetic_crystals(run, "poly_total", 1)
