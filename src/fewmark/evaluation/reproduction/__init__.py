"""The ALA paper's evaluation (arXiv 2505.09319, Section III) on other data, question by question.

Each question's design and the rule that decides on each of its claims are fixed in code; nothing is fitted to the
paper's numbers. What is computed here is drawn and written elsewhere.
"""

from fewmark.evaluation.reproduction.claims import Claim, Question
from fewmark.evaluation.reproduction.questions import reproduce_ala

__all__ = ["Claim", "Question", "reproduce_ala"]
