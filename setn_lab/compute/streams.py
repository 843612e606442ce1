"""Stateless random streams.

No random state is ever saved. Every random draw of a run comes from a generator that is a pure function of
(seed, name of the stream, step), so any step can be repeated alone and a resumed run draws exactly what an
uninterrupted one draws. The draws are made by numpy on the host: they are the same on CPU, CUDA and MPS.
"""

import hashlib

import numpy as np


def generator(seed: int, stream: str, step: int = 0) -> np.random.Generator:
    """The generator of one stream at one step: independent of all others, and the same in every process."""
    name = f"{seed}/{stream}/{step}".encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
