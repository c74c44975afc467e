"""Sums over pairs of edges that meet at an atom, without ever listing the pairs.

Networks with angles couple each edge t at an atom to the other edges s there through Legendre polynomials of the angle
between them, P_l(u_t . u_s). Listing the pairs ("triplets") costs the square of the number of neighbours in time and memory.
The addition theorem factorises the polynomial over spherical harmonics, P_l(u . v) = sum_m C_lm(u) C_lm(v), so the edges are
first summed into moments of their atom and the moments then evaluated along each edge: the same numbers at a cost linear in
the number of edges.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from matwheel.nn.bases import spherical_harmonics


class Star(NamedTuple):
    """Edges around atoms, padded to the largest number at any atom.

    Attributes:
        harmonics: [atoms, slots, degrees^2], spherical harmonics of the edge directions; zero where a slot is empty.
        slot: [edges] int64, where each edge sits among the atoms x slots rows.
        edge: [atoms x slots] int64, the edge in each slot; any edge where the slot is empty.
    """

    harmonics: Tensor
    slot: Tensor
    edge: Tensor

    @classmethod
    def build(
        cls,
        directions: Float[Tensor, "edges 3"],
        atom: Int[Tensor, " edges"],
        num_atoms: int,
        num_degrees: int,
    ) -> Star:
        """Arrange edges by the atom each belongs to.

        Args:
            directions: Unit vectors.
            atom: Owner of each edge, in any order.
            num_atoms: Number of atoms, with or without edges.
            num_degrees: Degrees l = 0 .. num_degrees - 1.
        """
        count = torch.bincount(atom, minlength=num_atoms)
        slots = int(count.max()) if len(atom) else 0
        order = torch.argsort(atom, stable=True)
        first = torch.cumsum(count, 0) - count
        rank = torch.arange(len(atom), device=atom.device) - first[atom[order]]
        slot = torch.empty_like(atom).index_copy_(0, order, atom[order] * slots + rank)
        edge = torch.zeros(num_atoms * slots, dtype=torch.int64, device=atom.device)
        edge[slot] = torch.arange(len(atom), device=atom.device)
        harmonics = spherical_harmonics(directions, num_degrees)
        padded = harmonics.new_zeros(num_atoms * slots, num_degrees**2).index_copy_(0, slot, harmonics)
        return cls(padded.view(num_atoms, slots, num_degrees**2), slot, edge)

    def pad(self, x: Float[Tensor, "edges channels"]) -> Float[Tensor, "atoms slots channels"]:
        """Rows of edges in their slots; an empty slot holds any row, its harmonics are zero."""
        atoms, slots, _ = self.harmonics.shape
        return x.index_select(0, self.edge).view(atoms, slots, x.shape[1])


class AngularCoupling(NamedTuple):
    """The matrices P_l(u_t . u_s) between edges t and s at the same atom, in factorised form, and a matching of edges.

    A network leaves out one pair of each edge (the edge itself, or its way back). Its polynomials have the constant values
    P_l(+-1), so by linearity the network can subtract it: `expand` and `contract` handle the matching as one more matrix,
    after those of the degrees.

    Attributes:
        source: Edges s.
        target: Edges t.
        matching: [2, pairs] int64, pairs (t, s); each t and each s occurs at most once.
    """

    source: Star
    target: Star
    matching: Tensor

    def expand(self, x: Float[Tensor, "sources channels"]) -> Float[Tensor, "degrees+1 targets channels"]:
        """`out[l, t] = sum over s of P_l(u_t . u_s) x[s]`, and last `x[s]` of the matching edge, or zero.

        Gradients flow to x alone.
        """
        out: Tensor = _Expand.apply(x, self)
        return out

    def contract(self, z: Float[Tensor, "degrees+1 targets channels"]) -> Float[Tensor, "sources channels"]:
        """The transpose of `expand`: `out[s] = sum over t and l of P_l(u_t . u_s) z[l, t]`, plus `z[-1, t]` of the match.

        Gradients flow to z alone.
        """
        out: Tensor = _Contract.apply(z, self)
        return out


class _Expand(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coupling: AngularCoupling) -> Tensor:
        ctx.coupling = coupling
        return _expand(x, coupling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _contract(grad, ctx.coupling), None


class _Contract(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, coupling: AngularCoupling) -> Tensor:
        ctx.coupling = coupling
        return _contract(z, coupling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _expand(grad, ctx.coupling), None


def _expand(x: Tensor, coupling: AngularCoupling) -> Tensor:
    source, target, (t, s) = coupling
    moments = torch.bmm(source.harmonics.transpose(1, 2), source.pad(x))
    degrees = _degrees(target)
    out = x.new_empty(len(degrees) + 1, len(target.slot), x.shape[1])
    for degree, columns in enumerate(degrees):
        values = torch.bmm(target.harmonics[:, :, columns], moments[:, columns]).flatten(0, 1)
        torch.index_select(values, 0, target.slot, out=out[degree])
    out[-1].zero_().index_copy_(0, t, x.index_select(0, s))
    return out


def _contract(z: Tensor, coupling: AngularCoupling) -> Tensor:
    source, target, (t, s) = coupling
    moments = torch.cat(
        [
            torch.bmm(target.harmonics[:, :, columns].transpose(1, 2), target.pad(z[degree]))
            for degree, columns in enumerate(_degrees(target))
        ],
        dim=1,
    )
    out = torch.bmm(source.harmonics, moments).flatten(0, 1).index_select(0, source.slot)
    return out.index_add_(0, s, z[-1].index_select(0, t))


def _degrees(star: Star) -> list[slice]:
    num_degrees = round(star.harmonics.shape[2] ** 0.5)
    return [slice(degree**2, (degree + 1) ** 2) for degree in range(num_degrees)]
