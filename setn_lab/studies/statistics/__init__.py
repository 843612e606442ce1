"""The figures of the studies: rank correlations, good pairs, comparisons of samples, the best of T draws.

Accuracies are in 0..1, and higher is better. An undefined figure is None together with a reason, never NaN. Every
function raises ValueError for arrays of the wrong shape and for values that are not finite.
"""
