"""Train, validate, test and predict: `python -m matwheel.fit fit --help`."""

from __future__ import annotations

from lightning.pytorch.cli import ArgsType

from matwheel.cli import MatWheelCLI


def main(args: ArgsType = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.
    """
    MatWheelCLI(args=args)


if __name__ == "__main__":
    main()
