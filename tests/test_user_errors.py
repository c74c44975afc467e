from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser

from matwheel.command import command
from matwheel.data.symbols import atomic_number
from matwheel.evaluate import main as evaluate
from matwheel.files import WriteError
from matwheel.fit import main
from matwheel.flywheel.ledger import Ledger
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.models.saved_generator import SavedGenerator
from matwheel.predict import main as predict
from matwheel.sample import main as sample
from matwheel.user_errors import shown_as_messages
from tests.small_data import write_small_table
from tests.test_cli import PREDICTORS, QUIET, _args


def test_what_the_package_refuses_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, shown_as_messages():
        atomic_number("Qq")
    assert stop.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "Qq" in printed
    assert printed.count("\n") == 2


def test_ctrl_c_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, shown_as_messages():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == "ended by Ctrl-C\n"


def test_a_full_disk_is_a_message_wherever_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), shown_as_messages():
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
    assert "No space left on device: 'metrics.csv'" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_missing_rights_are_a_message_wherever_they_show(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), shown_as_messages():
        raise OSError(number, os.strerror(number), "runs")
    message = f"error: runs cannot be opened ({os.strerror(number)}): change its rights, or give another\n"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("command", [sample, evaluate])
def test_a_folder_that_may_not_be_written_is_refused_before_the_work(
    command: Callable[[list[str]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = "the work is done"

    class Generator:
        model = SimpleNamespace(weights_hash=str)

        def to(self, device: torch.device) -> Generator:
            return self

        def requested(self, *_: object) -> list[list[float]]:
            return [[1.0]]

        def sample_chunks(self, *_: object, **__: object) -> None:
            raise AssertionError(work)

    def fingerprints(*_: object) -> None:
        raise AssertionError(work)

    monkeypatch.setattr(SavedGenerator, "load", lambda _: Generator())
    monkeypatch.setattr(Fingerprints, "cached", fingerprints)
    table = str(write_small_table(tmp_path / "small.xyz", count=2))
    given = ["x.ckpt", "--values", "1"] if command is sample else [table, "--reference", table]
    with pytest.raises(AssertionError, match=work):
        command([*given, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        command([*given, "--out", f"{table}/out"])
    assert f"error: cannot write {table}/out: Not a directory; choose a folder" in capsys.readouterr().err


def test_a_module_that_is_run_as_a_program_speaks_to_users_too(capsys: pytest.CaptureFixture[str]) -> None:
    variables = {"__name__": "__main__", "__spec__": ModuleSpec("matwheel.predict", None)}
    with pytest.raises(SystemExit), shown_as_messages():
        exec("raise ValueError('name a file')", variables)
    assert capsys.readouterr().err.startswith("error: name a file")


def test_programming_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ValueError("of another library"), OSError(errno.ENOENT, "x"), RuntimeError("x"), WriteError("x")):
        with pytest.raises(type(error)), shown_as_messages():
            raise error
    monkeypatch.setenv("MATWHEEL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Qq"), shown_as_messages():
        atomic_number("Qq")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.dataset", "none.csv"], "there is no data set and no file or folder 'none.csv'"),
        (["--data.target", "nothing"], "mp_poly_total has no numeric property 'nothing'"),
        (["--data.split", "RandomSplit", "--data.split.val", "2"], "error: fractions (0.7, 2.0, 0.15) must not be"),
        (["--data.batch_size", "0"], "batch_size must be at least 1, not 0"),
        (["--ckpt_path", "none.ckpt"], "no such checkpoint: none.ckpt"),
        (["--ckpt_path", "random.ckpt"], "random.ckpt is not a checkpoint that can be read"),
        (["--data.dataset", "bomb.csv.gz"], "bomb.csv.gz unpacks to more than 0.001 GB: if you trust it"),
    ],
)
def test_the_command_line_ends_with_a_message(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import gzip

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit"])
    monkeypatch.setenv("MATWHEEL_MAX_UNPACKED_GB", "0.001")
    Path("random.ckpt").write_bytes(bytes(range(256)))
    Path("bomb.csv.gz").write_bytes(gzip.compress(bytes(2_000_000)))
    cache = ["--data.cache_dir", str(tmp_path / "cache"), "--trainer.accelerator", "cpu"]
    with pytest.raises(SystemExit) as stop:
        main([*_args("test", PREDICTORS[0]), *QUIET, *cache, *options])
    assert stop.value.code in (1, 2)  # 2: refused while the options are read
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_paths_may_begin_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells put it in place of `~` at the beginning of a word only, not in `--out=~/x`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = ArgumentParser()
    parser.add_argument("inputs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--config", type=Path | None)
    with command(parser, ["~/a.cif", "b~.cif", "~nobody-of-this-name/c.cif", "--out=~/x/y.csv"]) as options:
        assert options.inputs == [tmp_path / "a.cif", Path("b~.cif"), Path("~nobody-of-this-name/c.cif")]
        assert (options.out, options.config) == (tmp_path / "x" / "y.csv", None)


@pytest.mark.parametrize("value", ["10,20", "VALUE"])
def test_other_commands_say_what_is_wrong_with_an_option_in_a_line(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        sample(["x.ckpt", "--values", value])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: option 'values' must be a number or a list, not '{value}'\n"


def test_other_commands_guess_what_a_misspelt_option_is(capsys: pytest.CaptureFixture[str]) -> None:
    for given, meant in (("--structure-column", "--structure_column"), ("--intervall", "--interval")):
        with pytest.raises(SystemExit):
            predict(["x.ckpt", "my.csv", given, "x"])
        message = f"error: there is no option '{given}'; did you mean '{meant}'? --help lists those there are\n"
        assert capsys.readouterr().err == message


@pytest.mark.parametrize("value", ["-1e30", "-1.5E+3", "-.5", "-2."])
def test_negative_numbers_are_no_options(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sample(["none.ckpt", "--values", value])
    assert capsys.readouterr().err.startswith("error: no such checkpoint: none.ckpt")


def test_a_device_that_is_not_there_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sample(["none.ckpt", "--values", "1", "--device", "cuda:9"])
    assert capsys.readouterr().err.startswith("error: there is no device 'cuda:9' to compute on: give auto or ")


def test_evaluate_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "made.json").write_text(json.dumps([{"structure": ""}]))
    with pytest.raises(SystemExit) as stop:
        evaluate([str(tmp_path / "made.json"), "--reference", "mp_poly_total"])
    assert stop.value.code == 1
    assert "no usable row in" in capsys.readouterr().err


def test_a_run_in_use_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(tmp_path):
        with pytest.raises(SystemExit), shown_as_messages():
            Ledger(tmp_path).__enter__()
        assert "is in use by process" in capsys.readouterr().err
    (tmp_path / "ledger.json").write_text('{"stages": {"a": {"status": "finished"}}}')
    for content in ('{"stages": {"a": {"status": "finished"}}}', "{", "[]"):
        (tmp_path / "ledger.json").write_text(content)
        with pytest.raises(SystemExit), shown_as_messages():
            Ledger(tmp_path).__enter__()
        assert "is damaged or of another version" in capsys.readouterr().err
