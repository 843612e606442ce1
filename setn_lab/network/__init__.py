"""Discrete networks of a genotype, their operations and costs (sections 3 and 5.2)."""

from setn_lab.network.costs import Cost, cost
from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork

__all__ = ["CifarNetwork", "Cost", "ImageNetNetwork", "cost"]
