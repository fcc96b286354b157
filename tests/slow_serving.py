"""`semsearch`, but the replicas of shards take so long for each answer that they are often at one when they end."""

from __future__ import annotations

import sys
import time
from typing import Any

from semsearch.cli import main
from semsearch.cluster import serving
from semsearch.cluster.replica import ShardReplica

SECONDS = 0.05


class SlowReplica(ShardReplica):
    def _answer(self, *asked: Any) -> Any:
        time.sleep(SECONDS)
        return super()._answer(*asked)


if __name__ == "__main__":
    serving.ShardReplica = SlowReplica  # type: ignore[misc]
    sys.exit(main())
