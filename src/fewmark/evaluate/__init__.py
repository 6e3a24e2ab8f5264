"""Split protocols, scores and meta-metrics: how well a model predicts what it has not seen, and what knowing costs."""

from fewmark.evaluate.evaluation import Evaluation, evaluate
from fewmark.evaluate.protocols import PROTOCOLS

__all__ = ["PROTOCOLS", "Evaluation", "evaluate"]
