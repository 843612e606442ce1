"""In place of the package of that name, which builds a grammar of addresses for seconds whenever Jupyter is started.

jsonschema, which imports it where it can, does without it as where it is not installed.
"""

raise ImportError("not for tests")
