"""Split protocols, scores and meta-metrics: how well a model predicts what it has not seen, and what knowing costs."""

from fewmark.evaluation.protocols import PROTOCOLS
from fewmark.evaluation.run import Evaluation, evaluate

__all__ = ["PROTOCOLS", "Evaluation", "evaluate"]
