"""A real documentation folder (MicrosoftDocs/cpp-docs): is no file lost, and do questions find the right pages?

Give the folder of the checkout; the build takes some minutes on a CPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from semsearch import Indexer, Searcher
from semsearch.corpus.readers import markdown

# Questions as a C++ programmer would ask them, and the pages that answer them.
QUESTIONS = {
    "how do I capture the enclosing object in a lambda": ["lambda-expressions-in-cpp", "lambda-expression-syntax"],
    "share ownership of an object between several pointers": [
        "how-to-create-and-use-shared-ptr-instances",
        "shared-ptr-class",
        "smart-pointers-modern-cpp",
    ],
    "break a reference cycle between smart pointers": ["how-to-create-and-use-weak-ptr-instances", "weak-ptr-class"],
    "remove duplicate consecutive elements from a container": ["algorithm-functions", "list-class", "algorithm"],
    "why does adding 0.1 ten times not give exactly 1": [
        "why-floating-point-numbers-may-lose-precision",
        "ieee-floating-point-representation",
    ],
    "compiler switch to make the program run as fast as possible": [
        "o1-o2-minimize-size-maximize-speed",
        "o-options-optimize-code",
        "optimization-best-practices",
        "os-ot-favor-small-code-favor-fast-code",
        "ox-full-optimization",
    ],
    "make a function usable from a DLL by other programs": [
        "exporting-from-a-dll-using-declspec-dllexport",
        "exporting-from-a-dll",
        "dllexport-dllimport",
        "walkthrough-creating-and-using-a-dynamic-link-library-cpp",
    ],
    "lock a mutex and release it automatically when leaving scope": [
        "lock-guard-class",
        "unique-lock-class",
        "scoped-lock-class",
        "mutex",
    ],
    "convert between base and derived class pointers safely at run time": [
        "dynamic-cast-operator",
        "type-conversions-and-type-safety-modern-cpp",
        "casting",
        "casting-operators",
        "run-time-type-information",
    ],
    "prevent a class from being inherited from": ["final-specifier"],
}


def main() -> int:
    """Print each question's first three pages; 0 if every one has a right page and no file was lost."""
    source = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        summary = Indexer(Path(folder) / "cpp-docs").update(source)
        found = sum(path.is_file() for path in source.rglob("*"))
        lost = found - summary.files_indexed - summary.files_skipped
        print(f"{found} files, {summary.files_indexed} indexed, {summary.files_skipped} skipped, {lost} lost")
        print(f"{summary.passages} passages in {summary.took_ms / 1000:.0f} s")
        right = 0
        with Searcher(Path(folder) / "cpp-docs") as searcher:
            for question, pages in QUESTIONS.items():
                names = [Path(hit.path).stem for hit in searcher.search(question, k=3)]
                ok = bool(set(names) & set(pages))
                right += ok
                print(f"{'right' if ok else 'WRONG'}  {question}: {', '.join(names)}")
            ranks = _ranks_of_described_pages(source, searcher)
        print(f"{right} of {len(QUESTIONS)} questions have a right page in the top three")
        mrr = statistics.mean(1 / rank if rank else 0 for rank in ranks)
        first = sum(rank == 1 for rank in ranks) / len(ranks)
        print(f"{len(ranks)} pages looked for by their descriptions: MRR@10 {mrr:.3f}, first {first:.3f}")
    return 0 if right == len(QUESTIONS) and not lost else 1


def _ranks_of_described_pages(source: Path, searcher: Searcher) -> list[int]:
    """Where each page comes for the description in its front matter, which is not indexed; 0 for below ten."""
    ranks = []
    for path in sorted(source.rglob("*.md")):
        description = markdown.parse(path.read_text(encoding="utf-8")).metadata.get("description")
        # Most pages have their title again there, after these words.
        if isinstance(description, str) and "learn more about" not in description.lower():
            found = [hit.path for hit in searcher.search(description, k=10)]
            name = path.relative_to(source).as_posix()
            ranks.append(found.index(name) + 1 if name in found else 0)
    return ranks


if __name__ == "__main__":
    sys.exit(main())
