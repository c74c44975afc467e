"""The report on a real, small wheel."""

from pathlib import Path

from matwheel.flywheel.results import read_results
from matwheel.flywheel.rounds import best_round
from matwheel.report.report import make_report
from tests.e2e.toy_wheel import spin
from tests.report.hostile import Page


def test_the_report_on_a_wheel_with_two_rounds(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wheel"
    arms = ("S", "S x k", "S+G_S")
    trainer, _ = spin(
        folder, table, rounds=2, reuse=("latents",), labelled_fraction=0.5, arms=arms, baselines=("dummy", "trees")
    )
    data = trainer.datamodule
    (folder / "version_0").mkdir()
    data.split_rows.save(folder / "version_0" / "split.json", data.table)
    report = make_report([folder])
    page = Page.read(report.html)
    page.check()
    mixed = [row for row in read_results(folder / "results.csv") if row.arm == "S+G_S"]
    best = mixed[best_round([row.val_mae for row in mixed])]
    assert f"S+G_S {best.test_mae:.4g}" in report.answer[0]
    names = [picture.name for picture in report.pictures]
    parity = {f"parity wheel {arm}" for arm in ("trees", "trees + latents", *arms)}  # in the order of the best round
    assert set(names[1:-3]) == parity
    assert names[-3:] == ["rounds wheel", "labels wheel", "elements wheel"]
    labels = report.pictures[-2]
    assert all(name in labels.caption for name in ("real training labels", "requested", "synthetic labels"))
    assert f"structures {folder / 'synthetic.extxyz'}" in page.text
    assert len(page.all("canvas")) == min(best.n_synthetic, 24)
