"""How processes share the processors of a machine: where their threads run, and what they compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "SCHED_IDLE") or len(os.sched_getaffinity(0)) < 2, reason="there is one processor, or no Linux"
)

# Tells of each thread how it is scheduled, and where; the threads wait for each other, so that none has two turns.
_THREADS = """
import json, os, threading
from semsearch.encoder.processors import keep_to, processors, threads, use_at_most
before = sorted(os.sched_getaffinity(0))
{share}
pool = threads("one")
together = threading.Barrier(pool._max_workers)
def look(_):
    together.wait(20)
    return os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))
found = list(pool.map(look, range(pool._max_workers)))
print(json.dumps([processors(), before, found]))
"""

_VECTORS = """
import sys
from semsearch import Encoder
from semsearch.encoder.processors import use_at_most
{share}
encoder = Encoder(precision="int8")
texts = [f"{{number}} " + "a river and its bridge " * (number % 40) for number in range(250)]
sys.stdout.buffer.write(encoder.encode(texts).tobytes())
"""


def output_of(program: str, share: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-c", program.format(share=share)], check=True, capture_output=True, timeout=120
    ).stdout


def test_alone_a_thread_for_each_processor() -> None:
    count, before, found = json.loads(output_of(_THREADS, ""))
    assert count == len(before)
    assert found == [[os.SCHED_OTHER, before]] * count


@pytest.mark.parametrize("share", ["use_at_most(1, 7)", "keep_to({before[0]})"])
def test_beside_others_one_more_where_it_would_be_idle(share: str) -> None:
    count, before, found = json.loads(output_of(_THREADS, share))
    assert count == 1
    own = before[:1] if share.startswith("keep_to") else before
    # However many others there are, as many again as it has are enough.
    assert sorted(found) == sorted([[os.SCHED_OTHER, own], [os.SCHED_IDLE, before]])


def test_nothing_more_where_no_other_is_to_be_used() -> None:
    count, _, found = json.loads(output_of(_THREADS, "use_at_most(1)"))
    assert [count, len(found)] == [1, 1]


def test_vectors_do_not_depend_on_it() -> None:
    alone = np.frombuffer(output_of(_VECTORS, "use_at_most(1)"), np.float32)
    beside = np.frombuffer(output_of(_VECTORS, "use_at_most(1, 1)"), np.float32)
    assert len(alone) == 250 * 384
    np.testing.assert_array_equal(alone, beside)
