"""Templates come back as they were put in, in any order."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.nn.templates import Template, Templates, encode_names


def some(sizes: list[int], first: int = 0) -> Template:
    """Crystals whose atoms are numbered from `first` on."""
    count = sum(sizes)
    numbers = torch.arange(first, first + count)
    return Template(
        encode_names([f"mp-{first}-{'é' * size}" for size in sizes]),
        torch.tensor(sizes),
        1 + numbers % 100,
        torch.rand(count, 3),
        first + torch.arange(6.0 * len(sizes)).view(-1, 6),
    )


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_each_template_has_its_own_atoms(sizes: list[int], data: st.DataObject) -> None:
    parts = [some(sizes), some(sizes[::-1], first=5)]
    templates = Templates()
    templates.fit(iter(parts))
    singles = [
        (name, numbers.tolist(), frac.tolist(), error.tolist())
        for part in parts
        for name, numbers, frac, error in zip(
            part.ids,
            part.atomic_numbers.split(part.num_atoms.tolist()),
            part.frac_coords.split(part.num_atoms.tolist()),
            part.cell_error,
            strict=True,
        )
    ]
    rows = data.draw(st.lists(st.integers(0, len(singles) - 1), min_size=1, max_size=12))
    taken = templates.take(torch.tensor(rows))
    lengths = taken.num_atoms.tolist()
    found = zip(taken.atomic_numbers.split(lengths), taken.frac_coords.split(lengths), taken.cell_error, strict=True)
    named = [(name, *(column.tolist() for column in one)) for name, one in zip(taken.ids, found, strict=True)]
    assert named == [singles[row] for row in rows]


def test_a_fit_replaces_what_was_there_and_others_can_load_it() -> None:
    templates, other = Templates(), Templates()
    templates.fit([some([3, 1])])
    templates.fit([some([2, 2, 4])])
    assert templates.num_atoms.tolist() == [2, 2, 4]
    state = {f"part.{name}": value for name, value in templates.state_dict().items()}
    other.make_room(state, "part.")
    other.load_state_dict(templates.state_dict())
    assert torch.equal(other.take(torch.tensor([2])).frac_coords, templates.frac_coords[4:])
