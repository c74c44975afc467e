import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import matwheel.flywheel.ledger as ledger_module
from matwheel.flywheel.ledger import Ledger, RunLockedError, derive_seed

Work = Callable[[Path], Mapping[str, float]]


class Chain:
    """data -> generator -> samples, and a baseline that depends on the data only; counts how often each one runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []

    def turn(self, data: str = "d", generator: int = 1, samples: int = 1, baseline: int = 1) -> list[str]:
        self.ran = []
        with Ledger(self.folder) as ledger:
            first = ledger.run("generator", self._work("generator", generator), generator, {"data": data}, seed=0)
            assert json.loads((first.folder / "out.json").read_text()) == generator
            ledger.run("samples", self._work("samples", samples), samples, {"generator": first.key}, seed=0)
            last = ledger.run("baseline", self._work("baseline", baseline), baseline, {"data": data}, seed=0)
            assert last.metrics == {"value": baseline}
        return self.ran

    def _work(self, name: str, value: int) -> Work:
        def work(folder: Path) -> dict[str, float]:
            self.ran.append(name)
            (folder / "out.json").write_text(json.dumps(value))
            return {"value": value}

        return work


def test_finished_stages_are_skipped(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    assert chain.turn() == ["generator", "samples", "baseline"]
    assert chain.turn() == []


def test_a_change_redoes_exactly_what_depends_on_it(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.turn()
    assert chain.turn(samples=2) == ["samples"]
    assert chain.turn(samples=2, generator=2) == ["generator", "samples"]
    assert chain.turn(samples=2, generator=2, baseline=2) == ["baseline"]
    assert chain.turn("other data", samples=2, generator=2, baseline=2) == ["generator", "samples", "baseline"]


def test_stages_of_code_that_gave_other_results_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(tmp_path)
    chain.turn()
    monkeypatch.setattr(ledger_module, "RESULTS_REVISION", ledger_module.RESULTS_REVISION + 1)
    assert chain.turn() == ["generator", "samples", "baseline"]
    assert chain.turn() == []


def test_a_stage_whose_folder_is_gone_runs_again(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.turn()
    (tmp_path / "stages" / "samples" / "out.json").unlink()
    for file in (tmp_path / "stages" / "samples").iterdir():
        file.unlink()
    (tmp_path / "stages" / "samples").rmdir()
    assert chain.turn() == ["samples"]


@pytest.mark.parametrize("content", ["", "{}", '{"record": {"colour": 1}}', "[]"])
def test_a_stage_with_a_damaged_record_runs_again(tmp_path: Path, content: str) -> None:
    chain = Chain(tmp_path)
    chain.turn()
    (tmp_path / "stages" / "baseline" / "stage.json").write_text(content)
    assert chain.turn() == ["baseline"]
    assert chain.turn() == []


def test_the_ledger_records_what_was_done(tmp_path: Path) -> None:
    Chain(tmp_path).turn()
    stages = json.loads((tmp_path / "ledger.json").read_text())["stages"]
    assert list(stages) == ["generator", "samples", "baseline"]
    assert stages["samples"]["inputs"] == {"generator": stages["generator"]["key"]}
    for record in stages.values():
        assert record["status"] == "finished"
        assert record["seconds"] > 0
        assert "torch" in record["versions"]


def test_an_interrupted_stage_continues_where_it_was(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> dict[str, float]:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    def resumed(folder: Path) -> dict[str, float]:
        assert (folder / "half").read_text() == "half"
        return {}

    def from_scratch(folder: Path) -> dict[str, float]:
        assert not list(folder.iterdir())
        return {}

    with pytest.raises(KeyboardInterrupt), Ledger(tmp_path) as ledger:
        ledger.run("stage", interrupted, config=1, inputs={}, seed=0)
    record = json.loads((tmp_path / "ledger.json").read_text())["stages"]["stage"]
    assert (record["status"], record["error"]) == ("failed", "KeyboardInterrupt: ")
    assert not (tmp_path / "stages" / "stage").exists()
    with Ledger(tmp_path) as ledger:
        ledger.run("stage", resumed, config=1, inputs={}, seed=0)

    with pytest.raises(KeyboardInterrupt), Ledger(tmp_path) as ledger:
        ledger.run("stage", interrupted, config=2, inputs={}, seed=0)
    with Ledger(tmp_path) as ledger:  # other settings must not see what was left
        ledger.run("stage", from_scratch, config=3, inputs={}, seed=0)
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["stage"]


def test_a_failed_rerun_keeps_the_last_good_result(tmp_path: Path) -> None:
    def fails(folder: Path) -> dict[str, float]:
        raise ValueError("no")

    chain = Chain(tmp_path)
    chain.turn()
    with pytest.raises(ValueError, match="no"), Ledger(tmp_path) as ledger:
        ledger.run("samples", fails, config=2, inputs={}, seed=0)
    assert (tmp_path / "stages" / "samples" / "out.json").exists()
    assert chain.turn() == []


@pytest.mark.parametrize("moment", ["stage.json", "rename 1", "rename 2", "rmtree", "ledger.json"])
@pytest.mark.parametrize("before", [True, False])
def test_a_finished_stage_is_not_repeated_whenever_it_was_killed(
    moment: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before or after one of the steps by which the result of a stage takes the place of an older one."""

    class Kill(BaseException):
        pass

    chain = Chain(tmp_path)
    chain.turn(samples=1)
    calls: list[str] = []

    def killing(original: Callable[..., object], name: Callable[..., str]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            calls.append(name(*args))
            now = calls[-1] == moment and "samples" in chain.ran
            if now and before:
                raise Kill
            result = original(*args, **options)
            if now:
                raise Kill
            return result

        return call

    def rename(*_: object) -> str:
        return f"rename {sum(name.startswith('rename') for name in calls) + 1}"

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing(Path.rename, rename))
        patch.setattr(ledger_module.shutil, "rmtree", killing(shutil.rmtree, lambda *_: "rmtree"))
        write = killing(ledger_module.write_text_atomically, lambda path, _: path.name)
        patch.setattr(ledger_module, "write_text_atomically", write)
        with pytest.raises(Kill):
            chain.turn(samples=2)
    assert chain.turn(samples=2) == (["samples"] if (moment, before) == ("stage.json", True) else [])
    assert [path.name for path in sorted((tmp_path / "stages").iterdir())] == ["baseline", "generator", "samples"]
    assert json.loads((tmp_path / "stages" / "samples" / "out.json").read_text()) == 2
    assert chain.turn(samples=2) == []


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from matwheel.flywheel.ledger import Ledger; "
        f"Ledger(Path({str(tmp_path)!r})).__enter__()"
    )
    with Ledger(tmp_path):
        with pytest.raises(RunLockedError, match="is in use by process"), Ledger(tmp_path):
            pass
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "RunLockedError" in other.stderr
    with Ledger(tmp_path):
        pass


def test_seeds_differ_between_purposes_and_seeds() -> None:
    seeds = {derive_seed(seed, purpose) for seed in range(20) for purpose in ("generator", "prior", "samples")}
    assert len(seeds) == 60
    assert derive_seed(3, "prior") == derive_seed(3, "prior")
