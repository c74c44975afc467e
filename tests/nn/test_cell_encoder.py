"""What an encoder knows that also reads the cell."""

import torch

from matwheel.data.crystal import CrystalTable, wrap
from matwheel.nn.cell_encoder import CellEncoder
from matwheel.nn.painn import PaiNNEncoder
from tests.nn.crystals import batch_of, random_crystals, rotation, single, supercell


def _encoder() -> CellEncoder:
    torch.manual_seed(0)
    return CellEncoder(PaiNNEncoder(5, hidden=16, num_blocks=1, num_radial=6), out_channels=7, hidden_dim=16).eval()


def test_the_encoder_comes_first_and_is_left_as_it_is() -> None:
    encoder, batch = _encoder(), batch_of(random_crystals([3, 5], seed=1))
    code = encoder(batch)
    assert code.shape == (2, encoder.out_channels) == (2, 12)
    torch.testing.assert_close(code[:, :5], encoder.encoder(batch))


@torch.no_grad()
def test_the_rest_is_invariant_and_tells_a_cell_from_a_larger_one() -> None:
    encoder, crystal = _encoder(), random_crystals([4], seed=3)[0]
    code = encoder(batch_of(CrystalTable.from_crystals([crystal])))[:, 5:]
    order = [2, 0, 3, 1]
    turned = single(
        crystal,
        lattice=crystal.lattice @ rotation(1),
        frac_coords=wrap(crystal.frac_coords[order] + 0.3),
        atomic_numbers=crystal.atomic_numbers[order],
    )
    torch.testing.assert_close(encoder(batch_of(turned))[:, 5:], code, atol=1e-5, rtol=1e-4)
    larger = encoder(batch_of(supercell(crystal, (2, 1, 1))))[:, 5:]
    strained = encoder(batch_of(single(crystal, lattice=crystal.lattice * 1.05)))[:, 5:]
    other = encoder(batch_of(single(crystal, atomic_numbers=crystal.atomic_numbers % 100 + 1)))[:, 5:]
    for changed in (larger, strained, other):
        assert not torch.allclose(changed, code, atol=1e-4)


def test_every_parameter_learns() -> None:
    encoder = _encoder()
    encoder(batch_of(random_crystals([4, 3, 2]))).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
