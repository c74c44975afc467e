import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import std

from matwheel.command import command
from matwheel.metrics.pool import Pool
from matwheel.progress import Steps, hidden_progress, progress_bar


def _count(steps: int = 5) -> None:
    with progress_bar("counting", steps, "step") as bar:
        for number in range(steps):
            bar.set_postfix(number=number, refresh=False)
            bar.update()


@pytest.fixture
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show progress without waiting."""
    monkeypatch.setattr("matwheel.progress._LINES_EVERY", 0.0)
    monkeypatch.setattr("matwheel.progress._BAR_AFTER", 0.0)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)


@pytest.mark.usefixtures("_always")
def test_a_log_file_gets_lines(capfd: pytest.CaptureFixture[str]) -> None:
    _count()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 5
    assert all("\r" not in line and line.startswith("  counting: ") for line in lines)
    assert lines[-1].startswith("  counting: 5 of 5, 00:00 since its start, 00:00 left, ")
    assert lines[-1].endswith(" step/s, number=4")


@pytest.mark.usefixtures("_always")
def test_a_terminal_gets_one_line_that_goes_away(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _count()
    printed = capfd.readouterr().err
    assert "counting: " in printed
    assert printed.count("\n") == 0
    assert printed.split("\r")[-2].strip() == ""


def test_what_is_soon_over_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _count()
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("_always")
def test_all_of_it_can_be_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    with hidden_progress():
        _count()
        with hidden_progress(False):
            _count()
        with progress_bar("x", None, "step") as bar:
            bar.update(3 - bar.n)
            bar.set_postfix(a=1)
    with progress_bar("not shown", 3, "step", shown=False) as bar:
        bar.update()
    assert capfd.readouterr().err == ""
    _count()
    assert "counting" in capfd.readouterr().err


@pytest.mark.usefixtures("_always")
@pytest.mark.parametrize("quiet", [True, False])
def test_commands_are_quiet_when_told(quiet: bool, capfd: pytest.CaptureFixture[str]) -> None:
    from jsonargparse import ArgumentParser

    with command(ArgumentParser(), ["--quiet"] if quiet else []):
        outcomes = Pool(processes=1, progress=True).map(str, [1, 2], "naming")
    assert [outcome.value for outcome in outcomes] == ["1", "2"]
    assert ("naming: 2 of 2" in capfd.readouterr().err) == (not quiet)


def test_missing_options_are_named_as_one_types_them(capsys: pytest.CaptureFixture[str]) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("model", type=str)
    parser.add_argument("--values", type=float, nargs="+", required=True)
    with pytest.raises(SystemExit), command(parser, []):
        pass
    assert capsys.readouterr().err == "error: the following arguments are required: model, --values\n"


@given(st.lists(st.sampled_from("abcdef"), min_size=1), st.lists(st.sampled_from("abcdefgh")))
def test_steps_are_numbered_in_the_order_they_are_reached(planned: list[str], names: list[str]) -> None:
    steps = Steps(planned)
    labels = {name: steps.reach(name) for name in names}
    numbers = [int(label[1:].partition("/")[0]) for label in labels.values()]
    assert numbers == list(range(1, len(labels) + 1))
    total = len({*planned, *names})
    assert Steps().reach("a") == "a"
    assert all(int(steps.reach(name).partition("]")[0].partition("/")[2]) == total for name in names)
    assert std.tqdm.format_interval(0) == steps.elapsed
