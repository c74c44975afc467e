"""The package as its users get it: built as a wheel and installed away from the repository, without a network."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def install_wheel(folder: Path) -> Path:
    """Build the wheel and unpack it; its dependencies are those of this environment.

    Returns:
        The folder to import from.
    """
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    return site


def environment(site: Path, cache: Path) -> dict[str, str]:
    """Variables of a shell in which `python` imports the package from there."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MATWHEEL", "WANDB"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**own, "PATH": path, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "MATWHEEL_CACHE": str(cache)}
