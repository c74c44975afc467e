"""Pages on runs, studies and crystals: `python -m matwheel.report --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from matwheel.command import command
from matwheel.files import write_text_atomically

_STRUCTURES = "structures"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.
    """
    given = list(sys.argv[1:] if args is None else args)
    if given[:1] == [_STRUCTURES]:
        with command(_structures_parser(), given[1:]) as options:
            _check_page(options.out)
            _write_structures(options)
    else:
        with command(_report_parser(), given) as options:
            _check_page(options.out)
            _write_report(options)


def _report_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m matwheel.report",
        description="Make one self-contained page on runs of the flywheel or on studies: did synthetic crystals help? "
        f"python -m matwheel.report {_STRUCTURES} FILE makes a page to look at crystals.",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="Folders of runs or studies, such as runs/NAME.")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="The page to write, .html.")
    parser.add_argument(
        "--figures", type=Path | None, default=None, help="Folder for all figures as PNG (300 dpi) and SVG."
    )
    return parser


def _structures_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"python -m matwheel.report {_STRUCTURES}", description="Make a page to look at and turn crystals."
    )
    parser.add_argument("source", type=str, help="Extended XYZ, CSV, JSON, Parquet or a folder of CIFs.")
    parser.add_argument("--out", type=Path, default=Path("structures.html"), help="The page to write, .html.")
    return parser


def _check_page(out: Path) -> None:
    """Refuse to replace anything but a page: what is read here never is one."""
    if out.suffix != ".html":
        raise ValueError(f"cannot write {out}: name a .html file as --out")


def _write_report(options: Namespace) -> None:
    from matwheel.report.picture import save_pictures
    from matwheel.report.report import make_report

    report = make_report(options.folders)
    write_text_atomically(options.out, report.html)
    print("\n".join(report.answer))
    print(f"\nReport: {options.out}")
    if options.figures is not None:
        files = save_pictures(report.pictures, options.figures)
        print(f"Figures: {len(files)} files in {options.figures}")


def _write_structures(options: Namespace) -> None:
    from matwheel.report.structures import structures_page

    write_text_atomically(options.out, structures_page(options.source))
    print(f"Structures: {options.out}")


if __name__ == "__main__":
    main()
