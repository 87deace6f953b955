"""Every parser of foreign bytes, fed with damaged input for half a second; `benchmarks.fuzz` does so for an hour."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.support.fuzz_target import NESTED, feed, mutations
from benchmarks.support.fuzz_targets import TARGETS

SECONDS, MOST = 0.6, 500


@pytest.mark.filterwarnings("ignore")  # of decoders, about what they are fed with
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_escapes_a_parser_but_what_it_promises(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    end = time.monotonic() + SECONDS
    for number, data in enumerate(mutations(seeds, np.random.default_rng(0))):
        feed(target, data)
        if number >= len(seeds) + len(NESTED) and (number > MOST or time.monotonic() > end):
            break
