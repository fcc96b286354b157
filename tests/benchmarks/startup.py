"""How long `semsearch --help` takes, as a share of importing torch and transformers; whole processes, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 7
COMMANDS = {
    "semsearch --help": [sys.executable, "-m", "semsearch", "--help"],
    "import torch, transformers": [sys.executable, "-c", "import torch, transformers"],
}


def main() -> None:
    """Print the medians and their ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(RUNS + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if run:  # the first warms the disk's cache
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<28} {median:.3f} s, median of {RUNS}")
    print(f"{'ratio':<28} {medians['semsearch --help'] / medians['import torch, transformers']:.3f}")


if __name__ == "__main__":
    main()
