"""The evaluator (section 4.2): the distributions of architectures, and how they are trained."""
