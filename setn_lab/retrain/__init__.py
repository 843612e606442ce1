"""Training the network of a cell from scratch (section 5.2)."""

from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import Retraining, prepare_retraining
from setn_lab.retrain.training import RetrainError, retrain

__all__ = ["RetrainConfig", "RetrainError", "Retraining", "prepare_retraining", "retrain"]
