"""Train, validate, test and predict: `python -m matwheel.fit fit --help`."""

from __future__ import annotations

import logging
import warnings

from lightning.pytorch.cli import ArgsType
from lightning.pytorch.utilities import rank_zero_only

from matwheel.cli import MatWheelCLI
from matwheel.memory import keep_freed_memory
from matwheel.user_errors import shown_as_messages


def main(args: ArgsType = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.

    Raises:
        SystemExit: If another process works in the run's folder; names it.
    """
    logging.basicConfig(format="%(message)s")
    is_first = getattr(rank_zero_only, "rank", 0) == 0
    logging.getLogger("matwheel").setLevel(logging.INFO if is_first else logging.WARNING)
    # Batches are slices of arrays in memory: workers would slow them down.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    # Batches carry the rows of their crystals, and checkpoints the averaged weights.
    warnings.filterwarnings("ignore", message=".*Couldn't infer the batch indices.*")
    warnings.filterwarnings("ignore", message=".*The WeightAveraging state cannot be restored.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    keep_freed_memory()
    with shown_as_messages():
        MatWheelCLI(args=args)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """Lightning recommends its authors' services at the start of every run."""
    return "litlogger" not in str(record.msg)


if __name__ == "__main__":
    main()
