"""Sums over pairs of edges that meet at an atom, without ever listing the pairs.

Networks with angles couple each edge t at an atom to the other edges s there through Legendre polynomials of the angle
between them, P_l(u_t . u_s). Listing the pairs ("triplets") costs the square of the number of neighbours in time and
memory. The addition theorem factorises the polynomial over spherical harmonics, P_l(u . v) = sum_m C_lm(u) C_lm(v), so
the edges are first summed into moments of their atom and the moments then evaluated along each edge: the same numbers
at a cost linear in the number of edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Star(NamedTuple):
    """Edges around atoms, padded to the largest number at any atom.

    Attributes:
        harmonics: [atoms, slots, degrees^2], spherical harmonics of the edge directions; zero where a slot is empty.
        slot: [edges] int64, where each edge sits among the atoms x slots rows.
        edge: [atoms x slots] int64, the edge in each slot; any edge where the slot is empty.
        num_degrees: Degrees l = 0 .. num_degrees - 1.
    """

    harmonics: Tensor
    slot: Tensor
    edge: Tensor
    num_degrees: int

    @classmethod
    def build(
        cls,
        harmonics: Float[Tensor, "edges degrees*degrees"],
        atom: Int[Tensor, " edges"],
        num_atoms: int,
    ) -> Star:
        """Arrange edges by the atom each belongs to.

        Args:
            harmonics: Of the edge directions, see `matwheel.nn.bases.spherical_harmonics`.
            atom: Owner of each edge, in any order.
            num_atoms: Number of atoms, with or without edges.
        """
        count = torch.bincount(atom, minlength=num_atoms)
        slots = int(count.max()) if len(atom) else 0
        order = torch.argsort(atom, stable=True)
        first = torch.cumsum(count, 0) - count
        rank = torch.arange(len(atom), device=atom.device) - first[atom[order]]
        slot = torch.empty_like(atom).index_copy_(0, order, atom[order] * slots + rank)
        edge = torch.zeros(num_atoms * slots, dtype=torch.int64, device=atom.device)
        edge[slot] = torch.arange(len(atom), device=atom.device)
        columns = harmonics.shape[1]
        padded = harmonics.new_zeros(num_atoms * slots, columns).index_copy_(0, slot, harmonics)
        return cls(padded.view(num_atoms, slots, columns), slot, edge, math.isqrt(columns))

    def pad(self, x: Float[Tensor, "edges channels"]) -> Float[Tensor, "atoms slots channels"]:
        """Rows of edges in their slots; an empty slot holds any row, its harmonics are zero."""
        atoms, slots, _ = self.harmonics.shape
        return x.index_select(0, self.edge).view(atoms, slots, x.shape[1])


class AngularCoupling(NamedTuple):
    """The matrices P_l(u_t . u_s) between edges t and s at the same atom, in factorised form.

    One pair of each edge is usually left out: the edge itself or its way back, where P_l is 1 or (-1)^l.

    Attributes:
        source: Edges s.
        target: Edges t.
        matching: [2, pairs] int64, the pairs (t, s) to leave out; each t and each s occurs at most once.
    """

    source: Star
    target: Star
    matching: Tensor

    def expand(self, x: Float[Tensor, "sources channels"]) -> Float[Tensor, "degrees+1 targets channels"]:
        """`out[l, t] = sum over s of P_l(u_t . u_s) x[s]`, and last the `x[s]` to leave out.

        The caller subtracts it: what follows is linear in the degrees, so that this costs nothing there. Gradients flow
        to x alone.
        """
        out: Tensor = _Expand.apply(x, self._like(x))  # type: ignore[no-untyped-call]
        return out

    def convolve(
        self,
        x: Float[Tensor, "sources channels"],
        radial: Float[Tensor, "sources degrees*radial"],
        maps: Float[Tensor, "degrees radial channels"],
    ) -> Float[Tensor, "targets channels"]:
        """`out[t] = sum over s and l of P_l(u_t . u_s) (radial[s, l] @ maps[l]) * x[s]`, less pairs that are ways back.

        Gradients flow to x and maps.
        """
        out: Tensor = _Convolve.apply(x, radial.to(x.dtype), maps.to(x.dtype), self._like(x))  # type: ignore[no-untyped-call]
        return out

    def _like(self, x: Tensor) -> AngularCoupling:
        """The same in the precision of x, which mixed precision lowers."""
        source, target = (star._replace(harmonics=star.harmonics.to(x.dtype)) for star in (self.source, self.target))
        return AngularCoupling(source, target, self.matching)


class _Expand(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coupling: AngularCoupling) -> Tensor:
        source, target, (t, s) = ctx.coupling = coupling
        moments = torch.bmm(source.harmonics.transpose(1, 2), source.pad(x))
        out = x.new_empty(target.num_degrees + 1, len(target.slot), x.shape[1])
        for degree in range(target.num_degrees):
            torch.index_select(_evaluate(moments, target, degree), 0, target.slot, out=out[degree])
        out[-1].zero_().index_copy_(0, t, x.index_select(0, s))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        source, target, (t, s) = ctx.coupling
        moments = torch.cat([_moments(grad[degree], target, degree) for degree in range(target.num_degrees)], dim=1)
        grad_x = torch.bmm(source.harmonics, moments).flatten(0, 1).index_select(0, source.slot)
        return grad_x.index_add_(0, s, grad[-1].index_select(0, t)), None


class _Convolve(Function):
    """The weighted messages of one degree at a time: all degrees at once are several times the size of the messages."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, radial: Tensor, maps: Tensor, coupling: AngularCoupling) -> Tensor:
        ctx.save_for_backward(x, radial, maps)
        source, target, (t, s) = ctx.coupling = coupling
        moments = torch.cat(
            [
                _moments((columns @ weight).mul_(x), source, degree)
                for degree, (columns, weight) in enumerate(_by_degree(radial, maps))
            ],
            dim=1,
        )
        out = torch.bmm(target.harmonics, moments).flatten(0, 1).index_select(0, target.slot)
        back = (radial @ _alternate(maps)).mul_(x)
        return out.index_add_(0, t, back.index_select(0, s), alpha=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:
        x, radial, maps = ctx.saved_tensors
        source, target, (t, s) = ctx.coupling
        moments = torch.bmm(target.harmonics.transpose(1, 2), target.pad(grad))
        back = torch.zeros_like(x).index_copy_(0, s, grad.index_select(0, t)).neg_()
        grad_x = (radial @ _alternate(maps)).mul_(back)
        grad_maps = _alternate((radial.t() @ back.mul_(x)).view_as(maps)).view_as(maps)
        for degree, (columns, weight) in enumerate(_by_degree(radial, maps)):
            weighted = _evaluate(moments, source, degree).index_select(0, source.slot)
            grad_x.addcmul_(columns @ weight, weighted)
            grad_maps[degree] += columns.t() @ weighted.mul_(x)
        return grad_x, None, grad_maps, None


def _moments(x: Tensor, star: Star, degree: int) -> Tensor:
    """Sum over the edges of each atom, times their harmonics of one degree."""
    return torch.bmm(star.harmonics[:, :, degree**2 : (degree + 1) ** 2].transpose(1, 2), star.pad(x))


def _evaluate(moments: Tensor, star: Star, degree: int) -> Tensor:
    """Value of the moments of one degree along the edges, in their slots."""
    columns = slice(degree**2, (degree + 1) ** 2)
    return torch.bmm(star.harmonics[:, :, columns], moments[:, columns]).flatten(0, 1)


def _by_degree(radial: Tensor, maps: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(radial.view(len(radial), *maps.shape[:2]).unbind(1), maps, strict=True)


def _alternate(maps: Tensor) -> Tensor:
    """Weights of all degrees below each other, those of odd degrees negative: P_l(-1) = (-1)^l."""
    sign = 1 - 2 * (torch.arange(len(maps), device=maps.device) % 2)
    return (maps * sign[:, None, None]).flatten(0, 1)
