"""Tokens a second of the encoder and its peers: same weights and passages, tokenizing and pooling counted, in turn.

Needs the extra `bench`. Give a folder, or a BEIR `corpus.jsonl` whose documents are then taken whole.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch
import transformers
from passages import passages_of
from record import report
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from semsearch import Encoder
from semsearch.encoder.models import load_model_files

BASE = "sentence-transformers float32"
BATCH = 16
Encode = Callable[[list[str]], np.ndarray]


def main() -> None:
    """Print the medians and their ratios to sentence-transformers' default."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "corpus")
    arguments.add_argument("--texts", type=int, default=1500, help="how many of its passages, drawn with a fixed seed")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--skip", action="append", default=[], help="a contender to leave out, by its name")
    arguments.add_argument("--json", default="", help="write the record to this file")
    given = arguments.parse_args()
    folder = load_model_files("all-MiniLM-L6-v2").folder
    auto, exact = Encoder(precision="auto"), Encoder(precision="float32")
    texts = passages_of(given.corpus, given.texts, exact)
    tokens = sum(map(len, exact.tokenizer.token_ids(texts)))
    with tempfile.TemporaryDirectory() as exported:
        contenders: dict[str, Encode] = {
            BASE: SentenceTransformer(str(folder), device="cpu").encode,
            "sentence-transformers bfloat16": SentenceTransformer(
                str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16}
            ).encode,
            "ONNX Runtime float32": _onnx_runtime(folder, Path(exported)),
            "OpenVINO bfloat16": _openvino(folder),
            "semsearch float32": exact.encode,
            "semsearch auto": auto.encode,
        }
        for name in given.skip:
            del contenders[name]
        rates, notes = _measure(contenders, texts, tokens, given.rounds)
    notes["semsearch auto"] += f", {auto.precision}"
    title = f"{len(texts)} passages of {given.corpus.name}, {tokens / len(texts):.0f} tokens on average"
    report(title, "tokens/s", rates, base=BASE, notes=notes, json_to=given.json)


def _measure(
    contenders: dict[str, Encode], texts: list[str], tokens: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Tokens a second of each round, and how near the vectors are to those of the first contender."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    vectors: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name, encode in contenders.items():
            started = time.perf_counter()
            given = np.asarray(encode(texts), dtype=np.float32)
            if number:  # the first loads and compiles
                rates[name].append(tokens / (time.perf_counter() - started))
            else:
                vectors[name] = given / np.linalg.norm(given, axis=1, keepdims=True)
    cosines = {name: (given * vectors[BASE]).sum(1) for name, given in vectors.items()}
    return rates, {name: f"cosine {one.mean():.5f}, least {one.min():.5f}" for name, one in cosines.items()}


def _in_sorted_batches(folder: Path, run: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Encode:
    """What people write around a runtime: sort by length, pad batches, mean pooling."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()

    def encode(texts: list[str]) -> np.ndarray:
        token_ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda row: len(token_ids[row]))
        vectors = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            longest = len(token_ids[rows[-1]])
            ids, mask = np.zeros((2, len(rows), longest), np.int64)
            for number, row in enumerate(rows):
                ids[number, : len(token_ids[row])] = token_ids[row]
                mask[number, : len(token_ids[row])] = 1
            hidden = run(ids, mask)  # (rows, tokens, 384)
            vectors[rows] = (hidden * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
        return vectors

    return encode


def _onnx_runtime(folder: Path, exported: Path) -> Encode:
    model, example = _model_and_example(folder)
    path = str(exported / "model.onnx")
    axes = {0: "texts", 1: "tokens"}
    logging.disable(logging.WARNING)
    torch.onnx.export(
        model,
        kwargs=example,
        f=path,
        output_names=["hidden"],
        dynamo=True,
        dynamic_shapes=dict.fromkeys(example, axes),
        verbose=False,
    )
    logging.disable(logging.NOTSET)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return session.run(["hidden"], {"input_ids": ids, "attention_mask": mask})[0]

    return _in_sorted_batches(folder, run)


def _openvino(folder: Path) -> Encode:
    model, example = _model_and_example(folder)
    converted = openvino.convert_model(model, example_input=example)
    compiled = openvino.compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "1"}
    )

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return compiled({"input_ids": ids, "attention_mask": mask})[0]

    return _in_sorted_batches(folder, run)


def _model_and_example(folder: Path) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    model.config.return_dict = False
    example = torch.ones((2, 8), dtype=torch.int64)
    return model, {"input_ids": example, "attention_mask": example.clone()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
