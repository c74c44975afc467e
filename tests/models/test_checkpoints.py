import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matwheel.checkpoint_file import read_checkpoint
from matwheel.diffusion.noise import CoordinateNoise
from matwheel.models.checkpoints import WholeCheckpoints, load_weights
from matwheel.models.diffusion_prior import DiffusionPrior
from tests.models.toys import ToyData, quiet_trainer, toy_vae


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae") / "best.ckpt"
    trainer = quiet_trainer(max_epochs=1, plugins=[WholeCheckpoints()])
    trainer.fit(toy_vae(), datamodule=ToyData())
    trainer.save_checkpoint(path)
    return path


def test_a_good_checkpoint_is_loaded(checkpoint: Path) -> None:
    model = toy_vae()
    load_weights(model, checkpoint)
    assert model.condition_embedding.names == ["dielectric", "system"]
    (tested,) = quiet_trainer(plugins=[WholeCheckpoints()]).test(model, ToyData(), checkpoint, verbose=False)
    assert tested["test/loss"] > 0


@settings(max_examples=40, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_checkpoints_are_refused(checkpoint: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = checkpoint.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    path = tmp_path / "bad.ckpt"
    path.write_bytes(data.draw(st.sampled_from([cut, b"PK\x03\x04" + cut[4:]]) | st.binary(max_size=300)))
    with pytest.raises(ValueError, match=r"bad\.ckpt is not a checkpoint that can be read"):
        read_checkpoint(path)


def test_only_the_folder_of_a_stage_may_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text("data_x")
    with pytest.raises(ValueError, match=r"Give another one$"):
        read_checkpoint(tmp_path / "bad.cif")
    (tmp_path / "stage.json").touch()
    with pytest.raises(ValueError, match=f"delete this folder of a stage of a flywheel, {tmp_path}, and run"):
        read_checkpoint(tmp_path / "bad.cif")


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such checkpoint: .*none\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")
    for content in ([1], {"a": 1}, {"state_dict": 3}):
        torch.save(content, tmp_path / "other.ckpt")
        with pytest.raises(ValueError, match=r"other\.ckpt holds no weights"):
            read_checkpoint(tmp_path / "other.ckpt")


def test_a_compressed_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(checkpoint) as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in good.infolist():
            bomb.writestr(entry.filename, good.read(entry))
        bomb.writestr("archive/data/0", bytes(50_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="not a checkpoint that can be read"):
        read_checkpoint(path)


class Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["zip", "plain"])
def test_code_in_a_checkpoint_is_not_run(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    path, ran = tmp_path / "evil.ckpt", tmp_path / "ran"
    content = {"state_dict": {}, "x": Exploit(ran)}
    if kind == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="holds code, which is never run"):
        load_weights(toy_vae(), path)
    trainer = quiet_trainer(plugins=[WholeCheckpoints()])
    with pytest.raises(ValueError, match="holds code, which is never run"):
        trainer.test(toy_vae(), ToyData(), path, weights_only=False)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Exploit(ran)))  # it would have
    assert ran.exists()


def test_checkpoints_of_others_are_refused_with_their_name(checkpoint: Path) -> None:
    prior = DiffusionPrior(toy_vae())
    with pytest.raises(ValueError, match=r"best\.ckpt is a checkpoint of ConCDVAE, not of LatentPrior"):
        load_weights(prior, checkpoint)
    wide = toy_vae(hidden_dim=64)
    with pytest.raises(ValueError, match=r"does not fit this ConCDVAE \(the weights .* are of another shape\): use"):
        load_weights(wide, checkpoint)
    with pytest.raises(ValueError, match=r"best\.ckpt does not fit this ConCDVAE"):
        quiet_trainer(plugins=[WholeCheckpoints()]).test(wide, ToyData(), checkpoint)


def test_other_conditions_are_refused(checkpoint: Path) -> None:
    data = ToyData()
    data.conditions = ["band_gap", "system"]
    with pytest.raises(ValueError, match=r"best\.ckpt was trained for the conditions \['dielectric', 'system'\]"):
        quiet_trainer(plugins=[WholeCheckpoints()]).test(toy_vae(), data, checkpoint)


def test_weights_trained_for_other_noise_are_refused(checkpoint: Path) -> None:
    other = toy_vae(coordinate_noise=CoordinateNoise(5.0, 0.03))
    with pytest.raises(ValueError, match=r"coordinate_noise.sigmas from 10 to 0.01, not from 5 to 0.03"):
        load_weights(other, checkpoint)


def test_weights_that_are_not_finite_are_not_saved(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(checkpoint.read_bytes())
    model, trainer = toy_vae(), quiet_trainer(max_epochs=1, plugins=[WholeCheckpoints()])
    trainer.fit(model, datamodule=ToyData())
    with torch.no_grad():
        model.mu.bias[0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"the weights mu\.bias of ConCDVAE are not finite in epoch 1 and not"):
        trainer.save_checkpoint(path)
    assert path.read_bytes() == checkpoint.read_bytes()


def test_checkpoints_equal_those_of_torch(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.arange(3.0)}, "epoch": 3}
    WholeCheckpoints().save_checkpoint(content, tmp_path / "ours.ckpt")
    expected = io.BytesIO()
    torch.save(content, expected)
    assert (tmp_path / "ours.ckpt").read_bytes() == expected.getvalue()
    assert [path.name for path in tmp_path.iterdir()] == ["ours.ckpt"]
