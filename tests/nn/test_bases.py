import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import eval_legendre, spherical_jn
from torch_geometric.nn.models import dimenet as pyg

from matwheel.nn.bases import (
    BesselBasis,
    GaussianBasis,
    PolynomialEnvelope,
    SphericalBesselBasis,
    spherical_bessel,
    spherical_bessel_roots,
    spherical_harmonics,
)


@pytest.mark.parametrize("exponent", [5, 6])
def test_envelope_is_one_at_zero_and_flat_at_the_cutoff(exponent):
    x = torch.tensor([0.0, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    u = PolynomialEnvelope(exponent)(x)
    (slope,) = torch.autograd.grad(u.sum(), x)
    torch.testing.assert_close(u.detach(), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(slope, torch.zeros(3, dtype=torch.float64))
    just_inside = PolynomialEnvelope(exponent)(torch.tensor([1 - 1e-3], dtype=torch.float64))
    assert 0 < just_inside < 1e-6  # third order: curvature is zero too


def test_gaussian_basis_is_the_formula_without_denormal_numbers():
    basis, dist = GaussianBasis(16, cutoff=6.0), torch.linspace(0.1, 6.5, 40)
    x = dist.double() / 6.0
    expected = torch.exp(-0.5 * ((x[:, None] - torch.linspace(0, 1, 16)) * 15) ** 2) * PolynomialEnvelope(5)(x)[:, None]
    torch.testing.assert_close(basis(dist).double(), expected, atol=1e-6, rtol=0)
    inside = GaussianBasis(128, cutoff=9.0)(torch.linspace(1.0, 8.5, 40))
    assert inside.min() > torch.finfo(torch.float32).tiny


def test_gaussian_basis_needs_two_functions():
    with pytest.raises(ValueError, match="at least 2"):
        GaussianBasis(1, cutoff=6.0)


@pytest.mark.parametrize("degree", range(9))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-7), (torch.float64, 5e-15)])
def test_spherical_bessel_equals_scipy_down_to_zero(degree, dtype, tolerance):
    x = torch.cat([torch.logspace(-6, 0, 200, dtype=dtype), torch.linspace(0, 40, 2000, dtype=dtype)])
    expected = torch.from_numpy(spherical_jn(degree, x.double().numpy()))
    torch.testing.assert_close(spherical_bessel(degree, x).double(), expected, atol=tolerance, rtol=0)


def test_spherical_bessel_roots_are_the_first_roots_in_order():
    roots = np.array(spherical_bessel_roots(7, 6))
    assert roots.shape == (7, 6)
    np.testing.assert_allclose(roots[0], math.pi * np.arange(1, 7))
    np.testing.assert_allclose(roots[1, :3], [4.493409457909064, 7.725251836937707, 10.904121659428899])
    for degree in range(7):
        np.testing.assert_allclose(spherical_jn(degree, roots[degree]), 0, atol=1e-12)
        grid = np.linspace(1e-3, roots[degree, -1] + 0.1, 4000)
        assert np.count_nonzero(np.diff(np.sign(spherical_jn(degree, grid)))) == 6


def test_bessel_basis_equals_that_of_torch_geometric():
    dist = torch.linspace(0.3, 7.5, 50)
    torch.testing.assert_close(BesselBasis(6, 7.0)(dist), pyg.BesselBasisLayer(6, 7.0)(dist), atol=1e-5, rtol=1e-5)
    assert torch.isfinite(BesselBasis(6, 7.0)(torch.zeros(1))).all()


def test_spherical_basis_equals_that_of_torch_geometric():
    dist = torch.linspace(0.5, 6.9, 30, dtype=torch.float64)
    angle = torch.linspace(0, math.pi, 30, dtype=torch.float64)
    radial = SphericalBesselBasis(3, 2, 7.0).double()(dist).view(30, 3, 2)
    legendre = torch.stack([torch.from_numpy(eval_legendre(n, angle.cos().numpy())) for n in range(3)], 1)
    expected = pyg.SphericalBasisLayer(3, 2, 7.0)(dist, angle, torch.arange(30))
    ours = (radial * legendre[:, :, None]).flatten(1)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)  # their roots are in single precision


def test_spherical_bessel_functions_are_orthonormal():
    basis = SphericalBesselBasis(4, 3, 1.0).double()

    def function(degree, n, x):
        argument = torch.tensor([x * float(basis.roots[degree, n])], dtype=torch.float64)
        return float(basis.norms[degree, n] * spherical_bessel(degree, argument)) * math.sqrt(
            4 * math.pi / (2 * degree + 1)  # without the constant of Y_l0
        )

    for degree in (0, 3):
        for n, m in ((0, 0), (2, 2), (0, 2)):
            overlap, _ = quad(lambda x, d=degree, n=n, m=m: x * x * function(d, n, x) * function(d, m, x), 0, 1)
            assert overlap == pytest.approx(float(n == m), abs=1e-6)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_harmonics_factorise_legendre_polynomials(seed):
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.nn.functional.normalize(torch.randn(2, 5, 3, generator=generator, dtype=torch.float64), dim=2)
    a, b = spherical_harmonics(u, 7), spherical_harmonics(v, 7)
    for degree in range(7):
        columns = slice(degree**2, (degree + 1) ** 2)
        ours = a[:, columns] @ b[:, columns].t()
        np.testing.assert_allclose(ours, eval_legendre(degree, (u @ v.t()).numpy()), atol=1e-13)
