"""The wheel without a generator, and with teachers that must agree."""

import json
from pathlib import Path

import pandas as pd
import pytest

from matwheel.data.crystal import CrystalTable
from matwheel.flywheel.agreement import LabelAgreement
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.filters import BasicFilter, NoCrystalLeftError
from matwheel.flywheel.labels import PredictorLabels
from matwheel.flywheel.results import read_results
from matwheel.flywheel.sources import StrainJitter
from matwheel.flywheel.substitution import IonSubstitution
from tests.e2e.toy_wheel import attempts, changed, generator, ledger, spin

ARMS = {"arms": ("F", "F+G_F"), "baselines": ()}
COPIES = BasicFilter(composition=False, duplicates=False)


def test_a_source_takes_the_place_of_a_generator(table: Path, tmp_path: Path) -> None:
    options = {**ARMS, "generator": None, "filter": COPIES, "synthetic_ratio": 1.5}
    spin(tmp_path, table, source=StrainJitter(), **options)
    before = attempts(tmp_path)
    assert {"samples", "crystals", "labels", "predictor-F+G_F"} <= set(before)
    assert not {"generator", "prior", "conditions"} & set(before)
    samples = pd.read_parquet(tmp_path / "stages" / "samples" / "samples.parquet")
    assert len(samples) == 36
    assert samples["generator"].unique().tolist() == ["StrainJitter"]
    assert samples["parent"].nunique() == 24
    labels = pd.read_parquet(tmp_path / "stages" / "labels" / "labels.parquet")
    assert labels["label"].tolist() == samples.set_index("id")["condition_poly_total"][labels["id"]].tolist()
    assert [row.n_synthetic for row in read_results(tmp_path / "results.csv")] == [0, 36]
    spin(tmp_path, table, source=StrainJitter(), **options)
    assert attempts(tmp_path) == before
    spin(tmp_path, table, source=StrainJitter(strain=0.01), **options)
    redone = changed(before, attempts(tmp_path))
    assert {"samples", "crystals", "predictor-F+G_F"} <= redone
    assert "predictor-F" not in redone


def test_a_new_filter_leaves_the_samples_and_substitution_turns_for_rounds(table: Path, tmp_path: Path) -> None:
    options = {**ARMS, "source": IonSubstitution(), "labeller": PredictorLabels(), "rounds": 2, "keep_crystals": True}
    spin(tmp_path, table, **options)
    before = attempts(tmp_path)
    folder = tmp_path / "stages"
    first, second = (CrystalTable.load(folder / name / "crystals.npz") for name in ("crystals", "crystals-round-2"))
    assert len(second) > len(first) > 0
    assert second.ids.tolist()[: len(first)] == first.ids.tolist()
    assert {json.loads(origin)["round"] for origin in second.origins} == {1, 2}
    spin(tmp_path, table, **options, filter=BasicFilter(composition=False, min_distance=0.6))
    redone = changed(before, attempts(tmp_path))
    assert {"crystals", "crystals-round-2", "labels"} <= redone
    assert not {"samples", "samples-round-2", "predictor-F"} & redone


def test_teachers_must_agree(table: Path, tmp_path: Path) -> None:
    options = {**ARMS, "source": StrainJitter(), "filter": COPIES, "num_teachers": 2}
    spin(tmp_path, table, **options, agreement=LabelAgreement(max_spread=10.0, max_deviation=1.0))
    stages = ledger(tmp_path)
    assert stages["agreement"]["inputs"]["teacher 2"] == stages["predictor-F-teacher-2"]["key"]
    assert stages["labels"]["inputs"]["crystals"] == stages["agreement"]["key"]
    report = json.loads((tmp_path / "stages" / "agreement" / "filter.json").read_text())
    assert [step["name"] for step in report] == ["spread", "deviation"]
    kept = len(CrystalTable.load(tmp_path / "stages" / "agreement" / "crystals.npz"))
    assert 0 < kept == report[-1]["after"] < 24
    assert read_results(tmp_path / "results.csv")[-1].n_synthetic == kept
    with pytest.raises(NoCrystalLeftError, match="spread 0/24"):
        spin(tmp_path, table, **options, agreement=LabelAgreement(max_spread=1e-9))
    after = json.loads((tmp_path / "ledger.json").read_text())["stages"]
    assert after["crystals"] == stages["crystals"]  # a relaxation would not be repeated


def test_what_does_not_go_together_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a generator, or a source"):
        Flywheel()
    with pytest.raises(ValueError, match="no generator to continue"):
        Flywheel(generator(), source=StrainJitter(), continue_generator=True)
    with pytest.raises(ValueError, match="set num_teachers to 2"):
        spin(tmp_path, table, agreement=LabelAgreement())
