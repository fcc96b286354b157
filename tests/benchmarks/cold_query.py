"""A query from nothing, as whole processes in turn: `semsearch query` and a script over the same vectors."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import report

from semsearch.encoder.models import load_model_files

ROUNDS = 7
QUERY = "what similarity laws must be obeyed when constructing aeroelastic models of heated high speed aircraft"
# What people write: load the model, read the index, embed, search, print.
PEER = """
import json, sys
import faiss
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
index = faiss.read_index(sys.argv[2])
texts = json.load(open(sys.argv[3]))
scores, rows = index.search(model.encode([sys.argv[4]], normalize_embeddings=True), 10)
for score, row in zip(scores[0], rows[0]):
    print(round(float(score), 3), texts[row][:200])
"""


def main() -> None:
    """Print the medians of wall time and the peak memory of each."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "corpus")
    arguments.add_argument("--json", default="", help="write the record to this file")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "indexes" / "one"
        # By a process of its own: what this one has in memory would count as the others' peak, which start as its copy.
        build = ["index", str(given.corpus), "--name", "one", "--indexes", str(index.parent)]
        subprocess.run([sys.executable, "-m", "semsearch", *build], check=True, stdout=subprocess.DEVNULL)
        database = sqlite3.connect(index / "index.db")
        texts = [text for (text,) in database.execute("SELECT text FROM passages ORDER BY id")]
        database.close()
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        (segment,) = (index / "segments").glob("*.faiss")
        model = str(load_model_files("all-MiniLM-L6-v2").folder)
        peer = [sys.executable, "-c", PEER, model, str(segment), f"{folder}/texts.json", QUERY]
        ours = [sys.executable, "-m", "semsearch", "query", QUERY, "--passages", "--indexes", str(index.parent)]
        commands = {"sentence-transformers + FAISS": peer, "semsearch query": ours}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        peaks: dict[str, int] = dict.fromkeys(commands, 0)
        for round_ in range(ROUNDS + 1):
            for name, command in commands.items():
                taken, peak = _run(command)
                if round_:  # the first warms the disk's cache
                    seconds[name].append(taken)
                    peaks[name] = max(peaks[name], peak)
        notes = {name: f"peak {peak / 1024:.0f} MiB" for name, peak in peaks.items()}
        title = f"a query from nothing, {given.corpus.name}, {len(texts)} passages"
        report(title, "s", seconds, base="sentence-transformers + FAISS", notes=notes, json_to=given.json)


def _run(command: list[str]) -> tuple[float, int]:
    """Wall time in seconds and peak resident memory in KiB of a command that has to succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {command}")
    return taken, usage.ru_maxrss


if __name__ == "__main__":
    main()
