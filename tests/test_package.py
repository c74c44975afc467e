"""The wheel has all that it needs, and turns outside the repository."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.documents.shortened import FEW, shortened
from tests.small_data import write_small_table
from tests.wheel import ROOT, environment, install_wheel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_what_is_in_the_repository_and_no_tests(site: Path) -> None:
    installed = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    of_package = {path.relative_to(ROOT) for path in (ROOT / "matwheel").rglob("*") if path.is_file()}
    configs = {f"matwheel/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    expected = {path.as_posix() for path in of_package if "__pycache__" not in path.parts} | configs
    ours = {name for name in installed if "__pycache__" not in name and ".dist-info/" not in name}
    assert ours == expected
    assert {"matwheel/py.typed", "matwheel/configs/flywheel/full.yaml", "matwheel/report/templates/viewer.js"} <= ours
    assert "matwheel/data/embedded/mp_poly_total.npz" in ours
    licences = {Path(name).name for name in installed if ".dist-info/" in name}
    assert {"LICENSE", "LICENSE-matminer.txt"} <= licences


def test_the_main_job_runs_from_the_wheel(site: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    write_small_table(tmp_path / FEW, count=24)
    shell = {"cwd": tmp_path, "env": environment(site, tmp_path / "cache")}
    where = subprocess.check_output(["python", "-c", "import matwheel; print(matwheel.__file__)"], text=True, **shell)
    assert Path(where.strip()).is_relative_to(site)
    command = shortened("python -m matwheel.fit fit -c flywheel/full.yaml")
    subprocess.run(["bash", "-euc", command], check=True, **shell)
    results = pd.read_csv(tmp_path / "runs" / "mp_poly_total-flywheel" / "results.csv")
    assert results["arm"].tolist() == ["dummy", "trees", "F", "F x k", "G_F", "F+G_F"]
