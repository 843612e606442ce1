"""Algorithm 1 (section 4.3): the training of template and evaluator, then the choice among candidates."""

from setn_lab.search.config import SearchConfig
from setn_lab.search.estimate import estimate
from setn_lab.search.setup import Search, prepare_search
from setn_lab.search.training import SearchError, train

__all__ = ["Search", "SearchConfig", "SearchError", "estimate", "prepare_search", "train"]
