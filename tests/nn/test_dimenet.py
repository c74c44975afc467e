import torch
from torch_geometric.nn.models import dimenet as pyg

from matwheel.nn.dimenet import DimeNetPlusPlus
from tests.nn.crystals import batch_of, random_crystals

TINY = {"hidden": 16, "num_blocks": 2, "int_emb": 8, "basis_emb": 4, "out_emb": 16, "num_spherical": 4, "num_radial": 3}


def encoder(**changes):
    torch.manual_seed(0)
    network = DimeNetPlusPlus(**{"out_channels": 5, **TINY, "max_neighbours": 12, **changes}).double()
    for output in network.outputs:
        torch.nn.init.normal_(output.out.weight, std=0.1)  # zero when new: nothing to see
    return network


def test_equals_the_blocks_of_torch_geometric_on_listed_triplets():
    network, batch = encoder(), batch_of(random_crystals([3, 2], seed=2), max_neighbours=6)
    for module in network.modules():  # zero when new: they would not be compared
        if isinstance(module, torch.nn.Linear) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.1)
    (j, i), image = batch.edge_index, batch.edge_image.long()
    vector = torch.einsum(
        "ea,eab->eb",
        batch.frac_coords[j] + batch.edge_image - batch.frac_coords[i],
        batch.lattice[batch.batch[i]],
    ).double()
    # Paths k -> j -> i: edge kj has centre j; the way back to the same image of i is left out.
    idx_ji, idx_kj = (j[:, None] == i[None]).nonzero().t()
    back = (j[idx_kj] == i[idx_ji]) & (image[idx_kj] == -image[idx_ji]).all(1)
    assert bool(back.any())
    idx_ji, idx_kj = idx_ji[~back], idx_kj[~back]
    cosine = torch.nn.functional.cosine_similarity(vector[idx_ji], vector[idx_kj])
    legendre = torch.stack([torch.special.legendre_polynomial_p(cosine, n) for n in range(4)], 1)
    dist = batch.edge_dist.double()
    rbf = network.radial_basis(dist)
    sbf = (network.spherical_basis(dist).view(-1, 4, 3)[idx_kj] * legendre[:, :, None]).flatten(1)

    act, num_atoms = torch.nn.functional.silu, len(batch.batch)
    embedding = pyg.EmbeddingBlock(3, 16, act).double()
    embedding.emb = torch.nn.Embedding(101, 16).double()
    elements = torch.cat([torch.zeros(1, 16).double(), network.embedding.elements.weight.detach()])
    embedding.emb.weight.data = elements
    embedding.lin_rbf.load_state_dict(network.embedding.radial.state_dict())
    embedding.lin.load_state_dict(network.embedding.dense.state_dict())

    def plain_output(block, x):
        plain = pyg.OutputPPBlock(3, 16, 16, 5, 3, act).double()
        for theirs, ours in [(plain.lin_rbf, block.radial), (plain.lin_up, block.up), (plain.lin, block.out)]:
            theirs.load_state_dict(ours.state_dict())
        plain.lins.load_state_dict(block.layers.state_dict())
        return plain(x, rbf, i, num_nodes=num_atoms)

    def plain_interaction(block, x):
        plain = pyg.InteractionPPBlock(16, 8, 4, 4, 3, 1, 2, act).double()
        pairs = [
            (plain.lin_rbf1, block.radial.first),
            (plain.lin_rbf2, block.radial.second),
            (plain.lin_sbf1, block.spherical.first),
            (plain.lin_sbf2, block.spherical.second),
            (plain.lin_kj, block.dense_kj),
            (plain.lin_ji, block.dense_ji),
            (plain.lin_down, block.down),
            (plain.lin_up, block.up),
            (plain.lin, block.dense),
        ]
        for theirs, ours in zip(
            [*plain.layers_before_skip, *plain.layers_after_skip], [*block.before_skip, *block.after_skip], strict=True
        ):
            pairs += [(theirs.lin1, ours.first), (theirs.lin2, ours.second)]
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
        return plain(x, rbf, sbf, idx_kj, idx_ji)

    x = embedding(batch.atomic_numbers, rbf, i, j)
    out = plain_output(network.outputs[0], x)
    for block, output in zip(network.blocks, network.outputs[1:], strict=True):
        x = plain_interaction(block, x)
        out = out + plain_output(output, x)
    mean = torch.zeros(2, 5, dtype=torch.float64).index_add(0, batch.batch, out) / batch.num_atoms[:, None]
    for key in ("frac_coords", "lattice", "edge_dist", "edge_image"):
        batch[key] = batch[key].double()
    torch.testing.assert_close(network(batch), mean, rtol=1e-5, atol=1e-7)


def test_new_encoder_returns_zero_and_default_sizes():
    network = DimeNetPlusPlus()
    assert network.out_channels == 256
    out = network(batch_of(random_crystals([2])))
    assert out.shape == (1, 256)
    assert bool((out == 0).all())
