"""How a run appears in Weights & Biases; what the stages of a wheel send is in `flywheel/tracking.py`."""

from __future__ import annotations

import logging
import os
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlparse

from jsonargparse import Namespace
from lightning.pytorch.loggers import WandbLogger

from matwheel.flywheel.tracking import silent_settings

log = logging.getLogger(__name__)


def prepare_wandb(options: Namespace, name: str, kind: str, folder: Path) -> None:
    """Group a run's stages; record it on disk where no account is configured.

    Args:
        options: Of the `WandbLogger`, which are changed.
        name: Of the run.
        kind: Job type of the run.
        folder: Of the run.
    """
    options["name"] = options.get("name") or name
    options["group"] = options.get("group") or name
    options["job_type"] = options.get("job_type") or kind
    options["save_dir"] = str(folder)
    if not options.offline and not os.environ.get("WANDB_MODE") and not _has_wandb_account():
        log.warning("no W&B account is configured: the run is recorded offline (wandb sync uploads it later)")
        options["offline"] = True
    if options.offline and options.log_model:
        log.warning("checkpoints are not uploaded to W&B from an offline run")
        options["log_model"] = False


def hush_wandb(logger: WandbLogger, folder: Path, quiet: bool) -> None:
    """Keep W&B from warnings that say nothing to the user, and from all messages where only results are wanted.

    Args:
        logger: Has begun no run yet.
        folder: Of the run, created if missing.
        quiet: Whether only results are wanted.
    """
    folder.mkdir(parents=True, exist_ok=True)  # it warns of a folder that is not there
    logger._wandb_init.pop("anonymous", None)  # and of this, which Lightning sets whatever the user gives
    if quiet:
        logger._wandb_init["settings"] = silent_settings(logger)


def _has_wandb_account() -> bool:
    """Whether a key is set in the environment or was stored by `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (FileNotFoundError, NetrcParseError):
        return False
