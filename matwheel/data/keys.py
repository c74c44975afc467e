"""The one contract between data and networks: every tensor of a batch, with shape, unit and meaning.

A batch is a `torch_geometric.data.Batch` of B crystals with N atoms and E edges in all. Predictor and generator consume
the same batch. Edges are sorted by centre atom, then by distance.
"""

ATOMIC_NUMBERS = "atomic_numbers"
"""[N] int64, 1 to 100."""
FRAC_COORDS = "frac_coords"
"""[N, 3] float32, in [0, 1)."""
LATTICE = "lattice"
"""[B, 3, 3] float32, A; rows are lattice vectors."""
NUM_ATOMS = "num_atoms"
"""[B] int64."""
BATCH = "batch"
"""[N] int64, the crystal of each atom."""
PTR = "ptr"
"""[B + 1] int64, where each crystal's atoms begin."""
EDGE_INDEX = "edge_index"
"""[2, E] int64: row 0 is the neighbour j, row 1 the centre i (messages run j -> i)."""
EDGE_IMAGE = "edge_image"
"""[E, 3] float32, whole numbers: the neighbour sits at (frac_coords[j] + edge_image) @ lattice."""
EDGE_DIST = "edge_dist"
"""[E] float32, A: distance of neighbour and centre."""
EDGE_SHELL = "edge_shell"
"""[E] int64: how many neighbours of the centre are closer. `edge_shell < k` keeps the k nearest and all that tie with
the k-th, so that graphs do not depend on the order of atoms."""
EDGE_REPEATS = "edge_repeats"
"""[E] float32, whole numbers: how many edges join the same two atoms over the same distance, in different images. The
first of them has their number, the others have 0: a network that looks at distances only can do with the first, counted
so often."""
TARGET = "target"
"""[B] float32: the property to predict in the user's units; NaN where unknown."""
CONDITIONS = "conditions"
"""[B, C] float32: the generator's conditions in the user's units, columns as in `CrystalDataModule.conditions`."""
WEIGHT = "weight"
"""[B] float32: weight of the crystal in the predictor's training loss."""
SEED = "seed"
"""[B] int64: random numbers of the crystal in this training step, for networks with dropout; only in training."""
ROW = "row"
"""[B] int64: row of the crystal in the data module's table, to find its id."""
