"""Functions of distances and directions that the graph networks expand geometry in."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch import Tensor, nn


class PolynomialEnvelope(nn.Module):
    """Smooth cutoff u(x) with u(0) = 1 and value, slope and curvature zero at x = 1 (DimeNet, arXiv 2003.03123, eq. 8).

    Args:
        exponent: p, the first power of x after the constant.
    """

    def __init__(self, exponent: int) -> None:
        super().__init__()
        p = self.exponent = exponent
        self.coefficients = (-(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2)

    def forward(self, x: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
        """Envelope of distances in units of the cutoff."""
        a, b, c = self.coefficients
        x = x.clamp(max=1.0)  # u(1) = 0: the envelope stays zero further out
        return 1 + x**self.exponent * (a + x * (b + x * c))


class GaussianBasis(nn.Module):
    """Gaussians on an even grid of distances under an envelope (GemNet as used for catalysts, arXiv 2106.08903).

    Args:
        size: Number of Gaussians; their width is their spacing.
        cutoff: A.
        envelope_exponent: See `PolynomialEnvelope`.
    """

    centres: Tensor

    def __init__(self, size: int, cutoff: float, envelope_exponent: int = 5) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(f"a Gaussian basis needs at least 2 functions, not {size}")
        self.cutoff = cutoff
        self.envelope = PolynomialEnvelope(envelope_exponent)
        self.inverse_width = float(size - 1)
        self.register_buffer("centres", torch.linspace(0, self.inverse_width, size), persistent=False)

    def forward(self, dist: Float[Tensor, " edges"]) -> Float[Tensor, "edges size"]:
        """Basis of distances in A."""
        x = dist / self.cutoff
        exponent = (x[:, None] * self.inverse_width).sub(self.centres).square_().mul_(-0.5)
        # exp(-50) is nothing, but not a denormal number: those slow the exponential and the next product twentyfold.
        return exponent.clamp_min_(-50.0).exp_().mul_(self.envelope(x)[:, None])


class BesselBasis(nn.Module):
    """Radial basis u(x) sin(w_n x) / x of DimeNet (arXiv 2003.03123, eq. 7) with trainable frequencies w_n = n pi.

    Args:
        size: Number of functions.
        cutoff: A.
        envelope_exponent: As in DimeNet's configurations: the envelope's p is one more.
    """

    def __init__(self, size: int, cutoff: float, envelope_exponent: int = 5) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.envelope = PolynomialEnvelope(envelope_exponent + 1)
        self.frequencies = nn.Parameter(math.pi * torch.arange(1, size + 1))

    def forward(self, dist: Float[Tensor, " edges"]) -> Float[Tensor, "edges size"]:
        """Basis of distances in A."""
        x = dist / self.cutoff
        # sinc: sin(w x) / x = w sinc(w x / pi) is finite at x = 0.
        waves = self.frequencies * torch.sinc(x[:, None] * (self.frequencies / math.pi))
        envelope: Tensor = self.envelope(x)
        return waves * envelope[:, None]


class SphericalBesselBasis(nn.Module):
    """Radial part of DimeNet's 2-D basis (arXiv 2003.03123, eq. 6): normalised j_l(z_ln x) under u(x) / x.

    The full basis is this times Y_l0 of the angle. The constant of Y_l0, sqrt((2 l + 1) / 4 pi), is included here, so
    that what remains of the angular part is the Legendre polynomial P_l.

    Args:
        num_spherical: Degrees l = 0 .. num_spherical - 1.
        num_radial: Roots n = 1 .. num_radial of each degree.
        cutoff: A.
        envelope_exponent: As in `BesselBasis`.
    """

    roots: Tensor
    norms: Tensor

    def __init__(self, num_spherical: int, num_radial: int, cutoff: float, envelope_exponent: int = 5) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.envelope = PolynomialEnvelope(envelope_exponent + 1)
        roots = spherical_bessel_roots(num_spherical, num_radial)
        norms = [
            [math.sqrt((2 * degree + 1) / (2 * math.pi)) / abs(float(spherical_jn(degree + 1, root))) for root in row]
            for degree, row in enumerate(roots)
        ]
        self.register_buffer("roots", torch.tensor(roots, dtype=torch.get_default_dtype()), persistent=False)
        self.register_buffer("norms", torch.tensor(norms, dtype=torch.get_default_dtype()), persistent=False)

    def forward(self, dist: Float[Tensor, " edges"]) -> Float[Tensor, "edges degrees*radial"]:
        """Basis of distances in A; the division by x is limited to distances above a millionth of the cutoff."""
        x = dist / self.cutoff
        window = (self.envelope(x) / x.clamp_min(1e-6))[:, None]
        return torch.cat(
            [
                spherical_bessel(degree, x[:, None] * roots) * (norms * window)
                for degree, (roots, norms) in enumerate(zip(self.roots, self.norms, strict=True))
            ],
            dim=1,
        )


def spherical_bessel(degree: int, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Spherical Bessel function j_l(x) for x >= 0, to rounding.

    The upward recurrence amplifies rounding where x is small against l; there the power series is used instead.
    """
    if degree == 0:
        return torch.sinc(x / math.pi)
    large = x.clamp_min(max(1.0, degree - 1.0))
    sine, cosine = torch.sin(large), torch.cos(large)
    inverse = 1 / large
    before, upward = sine * inverse, (sine * inverse - cosine) * inverse
    for order in range(1, degree):
        before, upward = upward, upward * inverse * (2 * order + 1) - before
    small = x.clamp_max(max(1.0, degree - 1.0))
    half_square, one = small * small * 0.5, torch.ones_like(small)
    series = one
    for k in range(6 + 2 * degree, 0, -1):
        series = torch.addcmul(one, series, half_square, value=-1 / (k * (2 * (degree + k) + 1)))
    series = series * small**degree / math.prod(range(2 * degree + 1, 0, -2))
    return torch.where(x < max(1.0, degree - 1.0), series, upward)


def spherical_bessel_roots(num_degrees: int, num_roots: int) -> list[list[float]]:
    """First positive roots of j_0, j_1, ... : the roots of j_l lie between those of j_(l-1)."""
    row = [math.pi * n for n in range(1, num_roots + num_degrees)]
    rows = [row[:num_roots]]
    for degree in range(1, num_degrees):
        row = [
            float(brentq(lambda x, degree=degree: spherical_jn(degree, x), low, high, xtol=1e-13))
            for low, high in itertools.pairwise(row)
        ]
        rows.append(row[:num_roots])
    return rows


def spherical_harmonics(directions: Float[Tensor, "edges 3"], num_degrees: int) -> Float[Tensor, "edges harmonics"]:
    """Real spherical harmonics C_lm of unit vectors, normalised so that they factorise Legendre polynomials.

    By the addition theorem `(C_l(u) * C_l(v)).sum() == P_l(u @ v)` for each degree l.

    Args:
        directions: Unit vectors.
        num_degrees: Degrees l = 0 .. num_degrees - 1; degree l holds columns l^2 .. (l + 1)^2 - 1.
    """
    x, y, z = directions.unbind(1)
    columns = [torch.ones_like(z)] * num_degrees**2
    cosine, sine = torch.ones_like(z), torch.zeros_like(z)  # sin(theta)^m cos(m phi), sin(theta)^m sin(m phi)
    diagonal = 1.0  # (2 m - 1)!!
    for m in range(num_degrees):
        before, legendre = torch.zeros_like(z), torch.full_like(z, diagonal)  # P_l^m / sin(theta)^m
        for degree in range(m, num_degrees):
            norm = math.sqrt((2 if m else 1) * math.factorial(degree - m) / math.factorial(degree + m))
            centre = degree * (degree + 1)
            columns[centre + m] = norm * legendre * cosine
            if m:
                columns[centre - m] = norm * legendre * sine
            before, legendre = (
                legendre,
                (legendre * z * (2 * degree + 1) - before * (degree + m)) / (degree + 1 - m),
            )
        cosine, sine = cosine * x - sine * y, cosine * y + sine * x
        diagonal *= 2 * m + 1
    return torch.stack(columns, dim=1)
