"""The command line: every shipped config parses, builds and, in a tiny version, fits, tests and predicts."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from lightning.fabric.accelerators import MPSAccelerator

from matwheel.cli import MatWheelCLI
from matwheel.fit import main
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.fingerprint import describe
from matwheel.flywheel.wheel import Wheel
from matwheel.predict import main as predict
from tests.small_data import write_small_table

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
TINY = Path(__file__).parent / "conf"
PREDICTORS = sorted((CONFIGS / "predictor").glob("*.yaml"))
GENERATORS = sorted((CONFIGS / "generator").glob("con_cdvae*.yaml"))
WHEELS = sorted((CONFIGS / "flywheel").glob("*.yaml"))
DATA = sorted((CONFIGS / "data").glob("*.yaml"))
OVERLAYS = [CONFIGS / "generator" / "pretrain.yaml"]
PRIORS = [path.with_name(path.name.replace("con_cdvae", "prior")) for path in GENERATORS]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
SHORT = [*QUIET, "--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu"]
SMALL_GENERATOR = {
    "encoder": {"out_channels": 8, "hidden_dim": 8},
    "encoder.encoder": {"hidden": 8, "num_blocks": 1, "num_radial": 4, "out_channels": 8},
    "decoder": {"latent_dim": 24, "hidden": 8, "num_blocks": 1, "num_radial": 4},
    "condition_embedding": {"num_points": 4, "feature_dim": 8, "out_dim": 8},
}
SMALL_FILTER = {"filter.structure": "false", "filter.composition": "false", "filter.min_angle": 1}
SMALL_WHEEL = {
    **{f"generator.{part}.{name}": n for part, sizes in SMALL_GENERATOR.items() for name, n in sizes.items()},
    "generator.latent_dim": 16,
    "generator.time_dim": 8,
    "generator.hidden_dim": 16,
    "generator_fit.max_epochs": 1,
    "prior_fit.max_epochs": 1,
    "prior.sampler.num_steps": 3,
    **SMALL_FILTER,
}


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = write_small_table(tmp_path_factory.mktemp("data") / "small.xyz", count=24)
    return ["--data.dataset", str(path), "--data.target", "poly_total", "--data.cache_dir", str(path.parent / "cache")]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit"])


def _checkpoint(name: str) -> str:
    return str(next(Path("runs", name).glob("version_0/checkpoints/*best*.ckpt")))


def _args(command: str, *configs: Path) -> list[str]:
    return [command, *(part for config in configs for part in ("-c", str(config)))]


def test_apple_silicon_trains_on_the_cpu(
    small_data: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    command = [*_args("fit", CONFIGS / "predictor" / "cgcnn.yaml"), *small_data, *SHORT]
    main([*command, "--trainer.accelerator", "auto"])
    assert "computing on the CPU" in caplog.text
    for accelerator in ("mps", "gpu"):
        with pytest.raises(SystemExit):
            main([*command, "--trainer.accelerator", accelerator])
        assert "error: the models need double precision, which MPS" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config", [*PREDICTORS, *GENERATORS, *PRIORS, *OVERLAYS, *WHEELS, *DATA], ids=lambda path: path.name
)
def test_every_config_parses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = PRIORS[:1] if config.name == "requests.yaml" else PREDICTORS[:1]
    base = GENERATORS[:1] if config in OVERLAYS else base
    configs = [*base, config] if config in DATA + OVERLAYS else [config]
    with pytest.raises(SystemExit) as stop:
        main([*_args("predict" if config.name == "requests.yaml" else "fit", *configs), "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert {"seed_everything", "trainer", "model", "data", "name"} <= set(printed)
    assert printed["seed_everything"] == 0


def test_help_names_units_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in [
        (["--help"], ["usage: python -m matwheel.fit [", "\n  python -m matwheel.fit fit -c flywheel/full.yaml"]),
        (
            ["fit", "--help"],
            [
                "\n  python -m matwheel.fit fit --trainer.callbacks.help Flywheel",
                "--name",
                "--print_config",
                "--ckpt_path",
                "-c CONFIG, --config CONFIG",
            ],
        ),
        (["fit", "--data.help", "CrystalDataModule"], ["A, largest distance of a neighbour"]),
        (["fit", "--model.help", "ConCDVAE"], ["Width of the latent"]),
        (["fit", "--trainer.callbacks.help", "Flywheel"], ["Turns of the wheel"]),
    ]:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        for phrase in expected:
            assert phrase in text


@pytest.mark.parametrize("config", PREDICTORS, ids=lambda path: path.name)
def test_predictor(config: Path, small_data: list[str]) -> None:
    if config.stem == "chgnet":
        pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')
    main([*_args("fit", config), *small_data, *SHORT, "--name", "fitted"])
    run = Path("runs/fitted/version_0")
    assert {"config.yaml", "run.json", "split.json", "metrics.csv"} <= {path.name for path in run.iterdir()}
    assert set(json.loads((run / "run.json").read_text())) == {"command", "versions", "commit"}
    assert "val/mae" in pd.read_csv(run / "metrics.csv").columns
    checkpoint = ["--ckpt_path", _checkpoint("fitted")]
    main([*_args("test", config), *small_data, *QUIET, *checkpoint, "--name", "tested"])
    assert pd.read_csv("runs/tested/version_0/metrics.csv")["test/mae"].notna().all()
    main([*_args("predict", config), *small_data, *QUIET, *checkpoint, "--name", "predicted"])
    table = pd.read_csv("runs/predicted/version_0/predictions.csv")
    assert list(table.columns) == ["id", "prediction", "target"]
    assert len(table) == 24
    unlabelled = write_small_table(Path("new.xyz"), count=3, properties=())
    new_data = ["--data.dataset", str(unlabelled), "--data.cache_dir", "cache", "--name", "new"]
    main([*_args("predict", config), *new_data, *QUIET, *checkpoint])
    assert list(pd.read_csv("runs/new/version_0/predictions.csv").columns) == ["id", "prediction"]


def test_a_fit_says_what_has_come_out(small_data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*_args("fit", PREDICTORS[0]), *small_data, *SHORT, "--name", "run"])
    lines = capsys.readouterr().out.splitlines()
    best = "runs/run/version_0/checkpoints/best.ckpt"
    lowest = pd.read_csv("runs/run/version_0/metrics.csv")["val/mae"].min()
    assert f"best val/mae    {lowest:.4g}" in lines
    assert f"best predictor  {best}" in lines
    assert f"  predict  python -m matwheel.predict {best} NEW.cif" in lines


def test_a_fit_of_no_epoch_says_so(small_data: list[str], caplog: pytest.LogCaptureFixture) -> None:
    main([*_args("fit", PREDICTORS[0]), *small_data, *SHORT, "--trainer.max_epochs", "0"])
    assert "nothing was trained: trainer.max_epochs is 0" in caplog.text


def test_a_command_that_fails_before_it_leaves_anything_leaves_no_log_folder(small_data: list[str]) -> None:
    command = [*_args("fit", PREDICTORS[0]), *small_data, *SHORT, "--name", "run"]
    with pytest.raises(SystemExit):
        main([*command, "--data.target", "wrong"])
    assert not Path("runs/run/version_0").exists()
    with pytest.raises(SystemExit):
        main([*command, "--ckpt_path", "none.ckpt"])  # found missing when config and split are there
    assert Path("runs/run/version_0/config.yaml").is_file()


@pytest.mark.parametrize("name", ["../x", "a/b/../../../x"])
def test_a_name_does_not_lead_out_of_the_folder_of_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*_args("fit", PREDICTORS[0]), "--name", name])
    assert f"--name '{name}' may lead out of the folder runs" in capsys.readouterr().err


def test_a_trainer_is_not_refused_for_the_machine_where_that_is_not_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main([*_args("fit", PREDICTORS[0]), "--trainer.max_epochs", "-5"])
    message = capsys.readouterr().err
    assert "no trainer can be made: `max_epochs` must be" in message
    assert "accelerator" not in message


def test_the_saved_config_repeats_the_run(small_data: list[str]) -> None:
    main([*_args("fit", PREDICTORS[0]), *small_data, *SHORT, "--name", "run"])
    main(["fit", "-c", "runs/run/version_0/config.yaml"])
    one, other = (pd.read_csv(f"runs/run/version_{k}/metrics.csv") for k in (0, 1))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_run_lies_in_one_folder_wherever_that_is(small_data: list[str]) -> None:
    options = [*small_data, *SHORT, "--trainer.default_root_dir", "elsewhere/mine"]
    options += ["--trainer.callbacks.arms", "[F]", "--trainer.callbacks.baselines", "[]", "--name", "run"]
    main([*_args("fit", CONFIGS / "flywheel" / "jitter.yaml"), *options])
    assert not Path("runs").exists()
    assert Path("elsewhere/mine/version_0/config.yaml").is_file()
    predict([str(next(Path("elsewhere/mine/stages").glob("*/best.ckpt"))), small_data[1]])  # finds the config
    assert Path("predictions.csv").is_file()


def test_later_configs_and_options_win(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*_args("fit", GENERATORS[0], TINY / "con_cdvae.yaml"), "--model.decoder.hidden", "16", "--print_config"])
    options = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert options["encoder"]["init_args"]["encoder"]["init_args"]["hidden"] == 8
    assert options["decoder"]["init_args"]["hidden"] == 16
    assert options["decoder"]["init_args"]["cutoff"] == 9.0


@pytest.mark.parametrize(("config", "prior"), list(zip(GENERATORS, PRIORS, strict=True)), ids=lambda path: path.name)
def test_generator_prior_and_samples(config: Path, prior: Path, small_data: list[str]) -> None:
    tiny, tiny_prior = TINY / config.name, TINY / prior.name
    main([*_args("fit", config, tiny), *small_data, *SHORT, "--name", "vae"])
    main([*_args("test", config, tiny), *small_data, *QUIET, "--ckpt_path", _checkpoint("vae")])
    latents = [option.replace("--data.", "--data.crystals.") for option in small_data]
    trained = ["--model.vae_checkpoint", _checkpoint("vae"), "--name", "prior"]
    main([*_args("fit", prior, tiny_prior), *latents, *SHORT, *trained])
    requests = ["--data.values", "[[5.0], [20.0]]", "--data.num_samples", "5", "--data.chunk_size", "2"]
    checkpoint = ["--ckpt_path", _checkpoint("prior"), "--name", "samples"]
    configs = (prior, tiny_prior, CONFIGS / "data" / "requests.yaml")
    main([*_args("predict", *configs), *requests, *QUIET, *checkpoint])
    folder = Path("runs/samples/version_0/samples")
    table = pd.read_parquet(folder / "samples.parquet")
    assert table["condition_poly_total"].tolist() == [5.0, 20.0, 5.0, 20.0, 5.0]
    assert len(list((folder / "cif").iterdir())) == 5


def test_pretraining_then_the_labelled_crystals(small_data: list[str]) -> None:
    tiny, table = TINY / "con_cdvae.yaml", small_data[1]
    configs = (GENERATORS[0], tiny, CONFIGS / "generator" / "pretrain.yaml")
    unlabelled = ["--data.datasets", f"[{table}]", "--data.held_out", "null", *small_data[-2:]]
    main([*_args("fit", *configs), *unlabelled, *SHORT, "--name", "pretrained"])
    main(
        [*_args("fit", *configs[:2]), *small_data, *SHORT, "--model.start", _checkpoint("pretrained"), "--name", "vae"]
    )
    metrics = pd.read_csv("runs/vae/version_0/metrics.csv")
    assert metrics["train/property"].dropna().gt(0).all()


@pytest.mark.parametrize("config", WHEELS, ids=lambda path: path.name)
def test_flywheel(
    config: Path, small_data: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lightning.pytorch")  # other tests in this process may have left it silent
    options = SMALL_WHEEL if config.stem in ("full", "semi") else SMALL_FILTER
    small = [part for name, value in options.items() for part in (f"--trainer.callbacks.{name}", str(value))]
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).addHandler(handler)
    summary = ["--trainer.enable_model_summary", "true"]
    main([*_args("fit", config), *small_data, *SHORT, *summary, *small])
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).removeHandler(handler)
    # Nothing of the outer trainer's fit of no epoch, and no advertisement.
    assert any("GPU available" in line for line in said)
    assert not [line for line in said if re.search("Params|max_epochs=0|number of stepping batches|litlogger", line)]
    assert logging.getLogger("lightning.pytorch").getEffectiveLevel() == logging.INFO
    names = {"full": "", "semi": "-semi", "substitution": "-ionsubstitution", "jitter": "-strainjitter"}
    run = Path(f"runs/small-flywheel{names[config.stem]}")
    assert (run / "results.csv").is_file()
    assert (run / "version_0" / "config.yaml").is_file()
    assert ("S+G_S" if config.stem == "semi" else "F+G_F") in capsys.readouterr().out


def test_a_wheel_that_dies_in_its_first_stage_leaves_its_config(
    small_data: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(wheel: Wheel) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(Wheel, "spin", die)
    with pytest.raises(RuntimeError, match="power cut"):
        main([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *small_data, *SHORT, "--name", "dies"])
    assert {"config.yaml", "run.json", "split.json"} <= {path.name for path in Path("runs/dies/version_0").iterdir()}


@pytest.mark.slow
def test_strong_predictors(small_data: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATWHEEL_CACHE", str(Path.cwd() / "cache"))
    options = {**SMALL_WHEEL, "arms": '["F"]', "baselines": "[]", "predictors": "predictors/strong.yaml"}
    given = [part for name, value in options.items() for part in (f"--trainer.callbacks.{name}", str(value))]
    main([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *small_data, *SHORT, *given, "--name", "strong"])
    results = pd.read_csv("runs/strong/results.csv")
    assert results["predictor"].tolist() == ["CGCNN", "ensemble", "trees on structure", "GP", "SVR", "stack"]
    stages = {path.parent.name: path.read_text() for path in Path("runs/strong/stages").glob("*/stage.json")}
    main(["fit", "-c", "runs/strong/version_0/config.yaml"])
    again = {path.parent.name: path.read_text() for path in Path("runs/strong/stages").glob("*/stage.json")}
    assert again == stages  # the saved config means the same predictors


def test_the_semi_supervised_wheel_has_the_networks_and_schedules_of_the_full_one() -> None:
    full, semi = (yaml.safe_load((CONFIGS / "flywheel" / f"{name}.yaml").read_text()) for name in ("full", "semi"))
    assert semi["data"]["init_args"].pop("labelled_fraction") == 0.1
    assert semi["data"]["init_args"].pop("batch_size") < full["data"]["init_args"].pop("batch_size")
    assert semi["trainer"]["callbacks"][-1]["init_args"].pop("pseudo_labeller")
    assert semi == full


@pytest.mark.parametrize("name", ["substitution", "jitter"])
def test_a_wheel_without_a_generator_is_the_full_one_otherwise(name: str) -> None:
    full, other = (yaml.safe_load((CONFIGS / "flywheel" / f"{stem}.yaml").read_text()) for stem in ("full", name))
    wheels = [content["trainer"]["callbacks"].pop() for content in (full, other)]
    assert full == other
    assert set(wheels[1]["init_args"]) == {"source", "filter", "labeller", "synthetic_ratio"}


def test_the_parts_of_a_verifier_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        "filter": "Verifier",
        "filter.basic": "BasicFilter",
        "filter.basic.composition": "false",
        "filter.relaxation.max_steps": "30",
        "filter.relaxation.fixed_cell": "true",
        "filter.potential": "CHGNet",
        "filter.potential.version": "r2scan",
        "source": "IonSubstitution",
        "agreement": "LabelAgreement",
        "agreement.max_spread": "0.4",
    }
    given = [part for name, value in options.items() for part in (f"--trainer.callbacks.{name}", value)]
    with pytest.raises(SystemExit) as stop:
        main([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *given, "--print_config"])
    assert stop.value.code == 0
    wheel = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"][-1]["init_args"]
    parts = wheel["filter"]["init_args"]
    assert parts["basic"]["init_args"]["composition"] is False
    assert (parts["relaxation"]["max_steps"], parts["relaxation"]["fixed_cell"]) == (30, True)
    assert parts["potential"]["init_args"] == {"version": "r2scan"}
    assert wheel["source"]["class_path"].endswith("IonSubstitution")
    assert wheel["agreement"]["init_args"]["max_spread"] == 0.4


@pytest.mark.parametrize(
    "given",
    [
        {"filter": "Verifier", "filter.energy_quantile": "null", "filter.relaxation": "null"},
        {"filter": "Verifier", "filter.relaxation": "None", "filter.energy_quantile": "None"},
        {"filter": "{class_path: Verifier, init_args: {energy_quantile: null, relaxation: null}}"},
    ],
)
def test_an_option_of_a_part_of_the_wheel_may_be_null(
    given: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for name, value in given.items() for part in (f"--trainer.callbacks.{name}", value)]
    with pytest.raises(SystemExit) as stop:
        main([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *options, "--print_config"])
    assert stop.value.code == 0
    parts = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"][-1]["init_args"]["filter"]["init_args"]
    assert (parts["energy_quantile"], parts["relaxation"]) == (None, None)


def test_another_network_and_its_pretraining_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    network = ["--model.network", "CHGNetNetwork", "--model.learning_rate", "3e-3"]
    learned = ("--trainer.callbacks.predictor_pretraining.own", "[n, band_gap]")
    with pytest.raises(SystemExit) as stop:
        main([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *network, *learned, "--print_config"])
    assert stop.value.code == 0
    options = yaml.safe_load(capsys.readouterr().out)
    model = options["model"]["init_args"]
    assert model["network"]["class_path"].endswith("CHGNetNetwork")
    assert model["network"]["init_args"] == {"start": "0.3.0", "hidden_dim": 128, "dropout": 0.2}
    assert model["learning_rate"] == 3e-3
    pretraining = options["trainer"]["callbacks"][-1]["init_args"]["predictor_pretraining"]
    assert pretraining["own"] == ["n", "band_gap"]
    assert "flla_2015" in pretraining["labels"]


def test_tracking_offline_beside_the_metrics_table(small_data: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(Path.cwd()))
    monkeypatch.setenv("NETRC", str(Path.cwd() / "no-netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = ["--trainer.logger", "WandbLogger", "--trainer.logger.log_model", "true", "--name", "tracked"]
    for _ in range(2):  # the second run must not stumble over the first one's config
        main([*_args("fit", PREDICTORS[0]), *small_data, *SHORT, *logger])
        import wandb

        wandb.finish()
    for version in (0, 1):
        assert (Path("runs/tracked") / f"version_{version}" / "metrics.csv").is_file()
        assert (Path("runs/tracked") / f"version_{version}" / "config.yaml").is_file()
    assert len(list(Path("runs/tracked/wandb").glob("offline-run-*"))) == 2


def test_settings_of_a_part_leave_the_weights_of_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: None)

    def described(*options: str) -> tuple[object, object]:
        cli = MatWheelCLI([*_args("fit", WHEELS[0]), "--trainer.callbacks.generator.decoder.hidden", "8", *options])
        wheel = next(callback for callback in cli.trainer.callbacks if isinstance(callback, Flywheel))
        return describe(cli.model), describe(wheel.generator)

    model, generator = described()
    assert described() == (model, generator)
    assert described("--seed_everything", "1")[0] != model
    assert described("--model.network.hidden_dim", "16")[1] == generator
    other_model, other_generator = described("--trainer.callbacks.generator.encoder.encoder.hidden", "8")
    assert other_model == model
    assert other_generator != generator


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "matwheel.fit", "fit", "--print_config"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert yaml.safe_load(printed)["seed_everything"] == 0
