"""Crystals from a trained generator alone: `python -m matwheel.sample --help`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from matwheel.command import command
from matwheel.data.conditions import ConditionDataModule
from matwheel.devices import DEVICE_HELP, find_device
from matwheel.files import check_no_file, check_writable
from matwheel.models.saved_generator import SavedGenerator
from matwheel.sample_parts import PARTS, SampleParts
from matwheel.writers import CIF_FOLDER, SAMPLES, SAMPLES_EXTXYZ, SAMPLES_TABLE, write_samples


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.
    """
    parser = ArgumentParser(
        prog="python -m matwheel.sample",
        description=f"Generate crystals for wanted values of a property and write them as {SAMPLES_EXTXYZ}, a folder "
        f"{CIF_FOLDER} and {SAMPLES_TABLE}, with seed, condition and validity. They are not relaxed. The same "
        "command goes on where it was interrupted.",
    )
    parser.add_argument(
        "generator",
        type=Path,
        help="Checkpoint (.ckpt) of a generator's prior, or a folder that 'python -m matwheel.export' wrote.",
    )
    parser.add_argument(
        "--values",
        type=float | list[float],
        nargs="+",
        required=True,
        help="Wanted values, taken in turn, in the unit the generator was trained in; with several conditions a list "
        "each, such as '[10, 2.5]'. '.nan' leaves a condition to the generator, if it was trained so.",
    )
    parser.add_argument("--n", type=int, default=64, help="How many crystals.")
    parser.add_argument("--seed", type=int, default=0, help="Crystal i has the seed SEED + i.")
    parser.add_argument("--device", type=str, default="auto", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, default=Path("samples"), help="Folder to write to.")
    with command(parser, args) as options:
        device = find_device(options.device)
        check_no_file(options.out)
        generator = SavedGenerator.load(options.generator).to(device)
        values = options["values"]  # not options.values, which is a method
        wanted = generator.requested(values, options.n)
        if len(wanted) > options.n:
            raise ValueError(f"--n {options.n} is too few for {len(wanted)} --values: make a crystal of each at least")
        requests = ConditionDataModule(wanted, options.n, options.seed)
        check_writable(options.out)
        parts = SampleParts(options.out)
        if not (options.out / PARTS).is_dir() and (options.out / SAMPLES).exists():
            raise ValueError(f"{options.out} holds crystals of something else: give another --out, or delete that one")
        requests.requests = parts.missing(requests.requests, generator.model.weights_hash())
        for chunk in generator.sample_chunks(requests, progress=True):
            parts.add(chunk)
        write_samples(options.out, parts.table())


if __name__ == "__main__":
    main()
