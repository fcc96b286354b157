"""`semsearch`, but replicas take so long for each answer that they are often at one when they end, and a head that is
gone is given up soon."""

from __future__ import annotations

import sys
import time
from typing import Any

from semsearch.cli import main
from semsearch.cluster import connection, serving
from semsearch.cluster.replica import ShardReplica

SECONDS = 0.05


class SlowReplica(ShardReplica):
    def _answer(self, *asked: Any) -> Any:
        time.sleep(SECONDS)
        return super()._answer(*asked)


if __name__ == "__main__":
    connection._LOOK_SECONDS, connection._GONE_SECONDS = 0.5, 3.0
    serving.ShardReplica = SlowReplica  # type: ignore[misc]
    sys.exit(main())
