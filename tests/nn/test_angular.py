import pytest
import torch
from scipy.special import eval_legendre

from matwheel.nn.angular import AngularCoupling, Star
from matwheel.nn.bases import spherical_harmonics

DEGREES, CHANNELS = 5, 3


@pytest.fixture
def edges():
    """Edges s around 4 atoms (one has none), and edges t around the same atoms in mixed order."""
    torch.manual_seed(0)
    source_atom, target_atom = torch.tensor([0, 0, 0, 1, 3, 3]), torch.tensor([3, 0, 1, 0, 3, 1, 3, 2])
    directions = [torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64), dim=1) for n in (6, 8)]
    directions[1][1] = -directions[0][2]  # pairs (t, s) to leave out are ways back
    directions[1][4] = -directions[0][5]
    matching = torch.tensor([[1, 4], [2, 5]])
    source = Star.build(spherical_harmonics(directions[0], DEGREES), source_atom, 4)
    target = Star.build(spherical_harmonics(directions[1], DEGREES), target_atom, 4)
    same = (target_atom[:, None] == source_atom).double()
    legendre = torch.stack(
        [torch.from_numpy(eval_legendre(n, (directions[1] @ directions[0].t()).numpy())) for n in range(DEGREES)]
    )
    return AngularCoupling(source, target, matching), legendre * same


def test_expand_equals_the_sum_over_pairs(edges):
    coupling, legendre = edges
    x = torch.randn(6, CHANNELS, dtype=torch.float64, requires_grad=True)
    out = coupling.expand(x)
    torch.testing.assert_close(out[:-1], legendre @ x)
    left_out = torch.zeros(8, CHANNELS, dtype=torch.float64)
    left_out[[1, 4]] = x.detach()[[2, 5]]
    torch.testing.assert_close(out[-1], left_out)
    assert torch.autograd.gradcheck(coupling.expand, x)


def test_convolve_equals_the_sum_over_pairs_less_the_ways_back(edges):
    coupling, legendre = edges
    legendre = legendre.clone()
    legendre[:, [1, 4], [2, 5]] = 0
    x = torch.randn(6, CHANNELS, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(DEGREES, 2, CHANNELS, dtype=torch.float64, requires_grad=True)
    radial = torch.randn(6, DEGREES * 2, dtype=torch.float64)
    weights = torch.einsum("sln,lnc->lsc", radial.view(6, DEGREES, 2), maps)
    expected = (legendre @ (weights * x)).sum(0)
    torch.testing.assert_close(coupling.convolve(x, radial, maps), expected)
    assert torch.autograd.gradcheck(lambda x, maps: coupling.convolve(x, radial, maps), (x, maps))


def test_no_edges_at_all():
    none = Star.build(torch.zeros(0, DEGREES**2), torch.zeros(0, dtype=torch.int64), 2)
    coupling = AngularCoupling(none, none, torch.zeros(2, 0, dtype=torch.int64))
    assert coupling.expand(torch.zeros(0, CHANNELS)).shape == (DEGREES + 1, 0, CHANNELS)
    assert coupling.convolve(torch.zeros(0, CHANNELS), torch.zeros(0, 10), torch.ones(DEGREES, 2, CHANNELS)).shape == (
        0,
        CHANNELS,
    )
