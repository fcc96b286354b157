"""The NumPy engine against transformers' own models on the same weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoints import ODD_TEXTS, real_texts, small_checkpoint
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from semsearch import Encoder
from semsearch.encoder.models import load_model_files
from semsearch.encoder.numpy_engine import NumpyEngine
from semsearch.errors import ModelError, UnsupportedModelError

KINDS = ["bert", "distilbert", "roberta", "xlm-roberta", "mpnet"]
TEXTS = [*ODD_TEXTS, "<pad> [PAD] as text", *real_texts(1000 - len(ODD_TEXTS) - 1)]


def encode_by_numpy(folder: Path, texts: list[str]) -> np.ndarray:
    files = load_model_files(str(folder))
    return NumpyEngine(files).encode(Encoder(str(folder)).tokenizer.token_ids(texts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_architectures_equal_sentence_transformers(tmp_path: Path, kind: str, pooling: str) -> None:
    base = SentenceTransformer(str(small_checkpoint(tmp_path / "base", kind)), device="cpu")
    saved = SentenceTransformer(modules=[base[0], Pooling(32, pooling_mode=pooling)], device="cpu")
    saved.save(str(tmp_path / "saved"))
    assert len(TEXTS) == 1000
    ours = encode_by_numpy(tmp_path / "saved", TEXTS)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, saved.encode(TEXTS), rtol=0, atol=1e-5)


def test_minilm_equals_torch(minilm: Path) -> None:
    texts = TEXTS[::8]
    theirs = SentenceTransformer(str(minilm), device="cpu").encode(texts, normalize_embeddings=True)
    ours = encode_by_numpy(minilm, texts)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_distilbert_of_the_real_shape_equals_torch(distilbert: Path) -> None:
    texts = [*ODD_TEXTS, "hello world what a time to be alive!"]
    theirs = SentenceTransformer(str(distilbert), device="cpu").encode(texts)
    np.testing.assert_allclose(encode_by_numpy(distilbert, texts), theirs, rtol=0, atol=1e-5)


def test_relative_positions_of_mpnet_far_apart(tmp_path: Path) -> None:
    folder = small_checkpoint(tmp_path, "mpnet")
    config = transformers.MPNetConfig.from_pretrained(folder, max_position_embeddings=514)
    model = transformers.MPNetModel(config).eval()
    # Large enough that a bucket taken wrongly would be seen.
    torch.nn.init.normal_(model.encoder.relative_attention_bias.weight, std=2)
    model.save_pretrained(folder)
    ids = np.random.default_rng(0).integers(4, 400, (1, 512))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).last_hidden_state.mean(1).numpy()
    ours = NumpyEngine(load_model_files(str(folder))).encode(ids.tolist())
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_checkpoints_with_a_head_in_every_dtype_and_activation(
    tmp_path: Path, activation: str, dtype: torch.dtype
) -> None:
    folder = small_checkpoint(tmp_path, "bert")
    config = transformers.BertConfig.from_pretrained(folder, hidden_act=activation)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    assert "bert.embeddings.word_embeddings.weight" in weights
    save_file({name: 3 * tensor.to(dtype) for name, tensor in weights.items()}, folder / "model.safetensors")
    texts = TEXTS[:40]
    with torch.no_grad():
        theirs = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}).encode(texts)
    np.testing.assert_allclose(encode_by_numpy(folder, texts), theirs, rtol=0, atol=2e-5)


def test_what_is_not_covered_is_left_to_torch(tmp_path: Path) -> None:
    folder = small_checkpoint(tmp_path / "modern", "modernbert")
    with pytest.raises(UnsupportedModelError, match="not covered without torch"):
        NumpyEngine(load_model_files(str(folder)))
    damaged = small_checkpoint(tmp_path / "damaged", "bert")
    for content in (b"", b"short", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]"):
        (damaged / "model.safetensors").write_bytes(content)
        with pytest.raises(UnsupportedModelError):
            NumpyEngine(load_model_files(str(damaged)))


def test_a_tokenizer_of_another_model_is_told_by_either_engine(tmp_path: Path, minilm: Path) -> None:
    folder = small_checkpoint(tmp_path, "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(minilm / name, folder)
    code = f"from semsearch import Encoder; Encoder({str(folder)!r}).encode(['word'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModelError" in done.stderr
    assert "do not belong together" in done.stderr
    with pytest.raises(ModelError, match="do not belong together"):
        Encoder(str(folder)).encode(["word"])


def test_few_texts_need_no_torch_and_many_have_it() -> None:
    code = """
import sys
import numpy as np
from semsearch import Encoder
encoder = Encoder()
few = ["my tap drips", "", "bread"]
by_numpy = encoder.encode(few)
assert not {"torch", "transformers"} & set(sys.modules), "torch was imported"
encoder.encode(["a text of some words " * 6] * 100)
assert "torch" in sys.modules
np.testing.assert_allclose(encoder.encode(few), by_numpy, rtol=0, atol=1e-5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
