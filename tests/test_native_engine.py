"""The int8 engine against float32 on the same weights."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import transformers
from checkpoints import ODD_TEXTS, real_texts, small_checkpoint
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from semsearch import Encoder
from semsearch.encoder import encoder as encoder_module
from semsearch.encoder import native_engine, native_library
from semsearch.encoder.models import ModelFiles, load_model_files
from semsearch.encoder.native_engine import NativeEngine, quantize_weight
from semsearch.encoder.native_library import INSTRUCTIONS
from semsearch.errors import InvalidInputError, UnsupportedModelError

TEXTS = [*ODD_TEXTS, *real_texts(190)]


CALIBRATION = [[2, 5, 9, 30, 77, 3], [2, *range(4, 60), 3]]


def native(files: ModelFiles) -> NativeEngine:
    return NativeEngine(files, CALIBRATION)


@pytest.fixture(autouse=True)
def _covered(minilm: Path) -> None:
    try:
        native(load_model_files(str(minilm)))
    except UnsupportedModelError as reason:
        pytest.skip(f"this machine does not run it: {reason}")


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


HERE = [name for name, one in INSTRUCTIONS.items() if one.needs <= native_library._cpu_flags()]


@pytest.fixture(params=HERE)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each set of instructions that this processor has, as if it had no better one."""
    monkeypatch.setattr(native_library, "_cpu_flags", lambda: INSTRUCTIONS[request.param].needs)
    native_library.load_library.cache_clear()
    yield request.param
    native_library.load_library.cache_clear()


@pytest.fixture(scope="module")
def in_float32(minilm: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the texts by sentence-transformers, and how long ours are."""
    theirs = SentenceTransformer(str(minilm), device="cpu").encode(TEXTS)
    return theirs, np.linalg.norm(Encoder().encode(TEXTS), axis=1)


def test_minilm_is_close_to_sentence_transformers(in_float32: tuple[np.ndarray, np.ndarray], instructions: str) -> None:
    theirs, lengths = in_float32
    encoder = Encoder(precision="auto")
    assert encoder.precision == "float32", "nothing was encoded yet"
    ours = encoder.encode(TEXTS)
    assert (encoder.precision, ours.dtype, ours.shape) == ("int8", np.float32, (200, 384))
    close = cosines(ours, theirs)
    assert close.mean() >= 0.9995
    assert close.min() >= 0.998
    assert close.mean() < 0.99999, "it was not computed in int8"
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), lengths, rtol=0.02)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_every_set_of_instructions_compiles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_library._load(INSTRUCTIONS[name])
    assert len(list(tmp_path.glob("semsearch/native-*.so"))) == 1


def test_weights_of_one_sign_do_not_overflow(tmp_path: Path, instructions: str) -> None:
    folder = small_checkpoint(tmp_path, "bert", hidden=128)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        # Each output's weights are all but equal: as integers all 127, and every sum of products is the largest.
        if weight.ndim == 2 and "encoder" in name:
            weights[name] = (1 + weight) * torch.linspace(-0.05, 0.05, len(weight))[:, None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    texts = TEXTS[:60]
    token_ids = Encoder(str(folder)).tokenizer.token_ids(texts)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours = native(load_model_files(str(folder))).encode(token_ids)
    np.testing.assert_allclose(ours, theirs, atol=0.03)


@settings(deadline=None)
@given(arrays(np.float32, (3, 128), elements=st.floats(-100, 100, width=32)), st.sampled_from([None, 258]))
def test_quantized_weights_are_near_and_within_their_sums(weight: np.ndarray, longest_sum: int | None) -> None:
    numbers, scales = quantize_weight(weight, longest_sum)
    near = (numbers * scales[:, :, None]).reshape(weight.shape)
    assert (np.abs(near - weight) <= np.repeat(scales, 64, axis=1) * 0.5001 + 1e-30).all()
    if longest_sum is None:
        np.testing.assert_allclose(scales, np.abs(weight.reshape(3, 2, 64)).max(2) / 127, rtol=1e-6)
    # What VPMADDUBSW and three additions of its 16 bits give at the most, with activations of 127.
    pairs = numbers.astype(int).reshape(3, 8, 4, 2, 2)
    for sign in (1, -1):
        eights = np.maximum(sign * pairs, 0).sum((2, 4))
        assert longest_sum is None or (127 * eights < 2**15).all()


@pytest.fixture(
    scope="module",
    params=itertools.product(
        ["bert", "distilbert", "roberta", "xlm-roberta", "mpnet"], [(4, "mean"), (2, "cls"), (4, "max")]
    ),
    ids=lambda given: "-".join(map(str, (given[0], *given[1]))),
)
def architecture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], np.ndarray]:
    """A small random model of some architecture, texts, and their vectors by sentence-transformers."""
    kind, (heads, pooling) = request.param
    folder = tmp_path_factory.mktemp(kind)
    base = SentenceTransformer(
        str(small_checkpoint(folder / "base", kind, hidden=128, heads=heads, positions=530)), device="cpu"
    )
    saved = SentenceTransformer(modules=[base[0], Pooling(128, pooling_mode=pooling)], device="cpu")
    saved.save(str(folder / "saved"))
    texts = [*TEXTS, "a few words more " * 40]
    return folder / "saved", texts, saved.encode(texts)


def test_architectures_are_close_to_sentence_transformers(
    architecture: tuple[Path, list[str], np.ndarray], instructions: str
) -> None:
    folder, texts, theirs = architecture
    token_ids = Encoder(str(folder)).tokenizer.token_ids(texts)
    assert max(map(len, token_ids)) > 500
    close = cosines(native(load_model_files(str(folder))).encode(token_ids), theirs)
    assert close.mean() >= 0.9995
    assert close.min() >= 0.998


def test_relative_positions_of_mpnet(tmp_path: Path, instructions: str) -> None:
    folder = small_checkpoint(tmp_path, "mpnet", hidden=128)
    config = transformers.MPNetConfig.from_pretrained(folder, max_position_embeddings=514)
    model = transformers.MPNetModel(config).eval()
    # Large enough that a bucket or a side taken wrongly would be seen.
    torch.nn.init.normal_(model.encoder.relative_attention_bias.weight, std=2)
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**json.loads((folder / "tokenizer_config.json").read_text()), "model_max_length": 512})
    )
    ids = np.random.default_rng(0).integers(4, 400, (1, 512))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).last_hidden_state.mean(1).numpy()
    ours = native(load_model_files(str(folder))).encode(ids.tolist())
    assert cosines(ours, expected).min() >= 0.999


def test_a_text_is_the_same_whatever_stands_beside_it(minilm: Path, instructions: str) -> None:
    engine = native(load_model_files(str(minilm)))
    token_ids = Encoder().tokenizer.token_ids(TEXTS)
    together = engine.encode(token_ids)
    order = np.random.default_rng(0).permutation(len(token_ids))
    np.testing.assert_array_equal(engine.encode([token_ids[row] for row in order]), together[order])
    alone = np.concatenate([engine.encode([token_ids[row]]) for row in range(40)])
    np.testing.assert_array_equal(alone, together[:40])


def test_every_length_is_right(tmp_path: Path, instructions: str) -> None:
    folder = small_checkpoint(tmp_path, "bert", hidden=128)
    files = load_model_files(str(folder))
    lengths = [*range(1, 65), 1]
    ids = [np.random.default_rng(n).integers(5, 400, n).tolist() for n in lengths]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [model(torch.tensor([one])).last_hidden_state.mean(1).numpy() for one in ids]
    assert cosines(native(files).encode(ids), np.concatenate(expected)).min() >= 0.999


def test_a_model_that_int8_would_spoil_is_encoded_by_torch(tmp_path: Path, minilm: Path) -> None:
    folder = Path(shutil.copytree(minilm, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    # One input of every group is much larger than the others, so that these have hardly a step of its scale left.
    name = "embeddings.LayerNorm.weight"
    weights[name][::64] *= 300
    for part in ("query", "key", "value"):
        weights[f"encoder.layer.0.attention.self.{part}.weight"][:, ::64] /= 300
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    texts = TEXTS[10:110]
    encoder = Encoder(str(folder), precision="auto", device="cpu")
    ours = encoder.encode(texts)
    assert encoder.precision in ("float32", "bfloat16")
    asked = Encoder(str(folder), precision="int8")
    spoilt = cosines(asked.encode(texts), SentenceTransformer(str(folder), device="cpu").encode(texts))
    assert asked.precision == "int8"
    assert spoilt.mean() < 0.9995, "int8 did not spoil it, so nothing was tested"
    assert np.isfinite(ours).all()


def test_what_is_not_covered_is_refused_and_auto_does_without(
    tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_checkpoint(tmp_path / "small", "bert")
    with pytest.raises(UnsupportedModelError, match="heads of 8 and widths 32 and 64"):
        Encoder(str(folder), precision="int8").encode(TEXTS)
    with pytest.raises(InvalidInputError, match="int8 is for the CPU"):
        Encoder(precision="int8", device="cuda")
    files = load_model_files(str(minilm))
    with pytest.raises(IndexError):
        native(files).encode([[101, 40000, 102]])
    with monkeypatch.context() as patch:
        native_library.load_library.cache_clear()
        patch.setenv("PATH", str(tmp_path))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        with pytest.raises(UnsupportedModelError, match="needs a C compiler"):
            native(files)
        patch.setattr(native_library, "_cpu_flags", lambda: frozenset({"avx", "fma"}))
        with pytest.raises(UnsupportedModelError, match="avx2 and fma"):
            native(files)
        encoder = Encoder(precision="auto", device="cpu")
        encoder.encode(TEXTS)
        assert encoder.precision in ("float32", "bfloat16")


def test_the_library_is_made_once_and_without_a_cache_each_time(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "run = subprocess.run\n"
        "def counted(command, **rest): print('compiled'); return run(command, **rest)\n"
        "subprocess.run = counted\n"
        "from semsearch import Encoder\n"
        "encoder = Encoder(precision='int8'); encoder.encode(['some words here ' * 40] * 100)\n"
        "assert encoder.precision == 'int8' and 'torch' not in sys.modules\n"
    )

    def compiled(cache: Path) -> int:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.count("compiled")

    assert [compiled(tmp_path / "cache") for _ in range(2)] == [1, 0]
    assert [path.suffix for path in (tmp_path / "cache" / "semsearch").iterdir()] == [".so"]
    (tmp_path / "file").touch()
    assert [compiled(tmp_path / "file") for _ in range(2)] == [1, 1]


def test_units_hold_every_text_in_order() -> None:
    token_ids = [[n] * int(size) for n, size in enumerate(np.random.default_rng(0).integers(1, 600, 500))]
    units = list(native_engine._units(token_ids))
    assert [ids for unit in units for ids in unit] == token_ids
    assert all(len(unit) == 1 or sum(map(len, unit)) <= native_engine._UNIT_TOKENS for unit in units)


def test_the_bar_is_that_of_the_documentation() -> None:
    assert (encoder_module._MEAN_COSINE, encoder_module._LEAST_COSINE) == (0.9995, 0.998)
    assert ".9995" in (Encoder.__init__.__doc__ or "")
    assert ".998" in (Encoder.__init__.__doc__ or "")
