"""Processes that the tests fork from a server that has imported everything, and what they know of the tests.

What their runs record of the environment is what the tests have found of it: it takes time to find, and the checkout
may change meanwhile. Their variables are those of the process that starts them, as of a Python that is started anew,
and not those that the server had.
"""

import json
import os
from multiprocessing.context import ForkServerContext, ForkServerProcess

import torch

from setn_lab.runs import run

VARIABLE = "SETN_LAB_TEST_ENVIRONMENT"

if VARIABLE in os.environ:  # in the server
    found = json.loads(os.environ[VARIABLE])
    run.environment = lambda: {**found, "threads": torch.get_num_threads()}


class ForkedProcess(ForkServerProcess):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.variables = dict(os.environ)

    def run(self):
        os.environ.clear()
        os.environ.update(self.variables)
        super().run()


class ForkedContext(ForkServerContext):
    Process = ForkedProcess
