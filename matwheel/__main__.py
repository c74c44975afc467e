"""What the package can be asked to do: `python -m matwheel`."""

from __future__ import annotations

import sys

_COMMANDS = {
    "fit": "train the flywheel, a predictor or a generator; validate, test and predict with them",
    "study": "many runs of the flywheel from one file, with paired statistics",
    "report": "pages on runs, studies and crystals",
    "predict": "predictions from trained models alone",
    "sample": "crystals from a trained generator alone",
    "evaluate": "metrics of generated crystals",
    "export": "trained models as folders that one can carry",
}


def main() -> None:
    """Print the commands.

    Raises:
        SystemExit: With status 2 if arguments are given, which none of them gets.
    """
    print("The commands of matwheel; each explains its options with --help:")
    for name, purpose in _COMMANDS.items():
        print(f"  python -m matwheel.{name:8}  {purpose}")
    raise SystemExit(2 if sys.argv[1:] else 0)


if __name__ == "__main__":
    main()
