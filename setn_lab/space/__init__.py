"""Search spaces, architectures and genotypes (section 3); nothing here imports torch or matplotlib."""

from setn_lab.space.genotype import Genotype, GenotypeError
from setn_lab.space.setn import LARGE, SMALL, SearchSpace

__all__ = ["LARGE", "SMALL", "Genotype", "GenotypeError", "SearchSpace"]
