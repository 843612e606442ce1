"""Inspectors of a search, each a thin layer over a picture of `inspection.pictures`; only they import ipywidgets."""

from setn_lab.extras import needs

with needs("notebooks", "setn_lab.widgets"):
    from setn_lab.widgets.about import RunInspector
    from setn_lab.widgets.candidates import CandidatesInspector
    from setn_lab.widgets.comparison import ComparisonInspector
    from setn_lab.widgets.evaluator import EvaluatorInspector
    from setn_lab.widgets.inspector import show
    from setn_lab.widgets.questions import QuestionsInspector
    from setn_lab.widgets.runs import RunsInspector
    from setn_lab.widgets.sampling import SamplingInspector

__all__ = [
    "CandidatesInspector",
    "ComparisonInspector",
    "EvaluatorInspector",
    "QuestionsInspector",
    "RunInspector",
    "RunsInspector",
    "SamplingInspector",
    "show",
]
