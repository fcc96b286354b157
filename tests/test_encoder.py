"""The encoder against the seed procedure and against sentence-transformers on the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoints import ODD_TEXTS, real_texts, small_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from semsearch import Encoder
from semsearch.encoder.models import Fingerprint, load_model_files
from semsearch.encoder.torch_engine import _batches
from semsearch.errors import (
    InvalidInputError,
    ModelNotFoundError,
    UnsafeModelError,
    UnsupportedModelError,
)

SEED_TEXT = "hello world what a time to be alive!"


def seed_procedure(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    """Mean pooling step by step, by transformers' own tokenizer and model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for start in range(0, len(texts), 16):
        tokens = tokenizer(
            texts[start : start + 16], max_length=max_length, padding=True, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            hidden = model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).expand(hidden.shape).float()
        summed = torch.sum(hidden * mask, dim=1)
        counts = torch.clamp(mask.sum(dim=1), min=1e-9)
        rows.append((summed / counts).numpy())
    return np.concatenate(rows)


def test_distilbert_equals_the_seed_procedure(distilbert: Path) -> None:
    texts = [SEED_TEXT, *ODD_TEXTS, *real_texts(20)]
    ours = Encoder(str(distilbert), max_seq_length=128).encode(texts)
    assert ours.shape == (len(texts), 768)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, seed_procedure(distilbert, texts, 128), rtol=0, atol=1e-5)


@pytest.mark.network
def test_published_vector_of_stsb_distilbert(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        encoder = Encoder("sentence-transformers/stsb-distilbert-base")
    except ModelNotFoundError as error:
        pytest.skip(f"the weights cannot be had: {error}")
    expected = [-0.38485, 0.78107, -0.17720, -1.4125, -0.23358, 0.90891]
    expected += [-0.078390, 0.60347, 0.067886, -0.39842, 0.039223, -0.46774]
    assert len(encoder.tokenizer.token_ids([SEED_TEXT])[0]) == 11
    np.testing.assert_allclose(encoder.encode([SEED_TEXT])[0, :12], expected, rtol=0, atol=1e-3)


def test_seed_text_has_eleven_tokens(distilbert: Path) -> None:
    assert len(Encoder(str(distilbert)).tokenizer.token_ids([SEED_TEXT])[0]) == 11


Encoded = tuple[list[str], NDArray[np.float32]]


@pytest.fixture(scope="module")
def of_sentence_transformers(minilm: Path) -> Encoded:
    """300 texts and their normalized vectors."""
    texts = [*ODD_TEXTS, *real_texts(300 - len(ODD_TEXTS))]
    assert len(texts) == 300
    return texts, SentenceTransformer(str(minilm), device="cpu").encode(texts, normalize_embeddings=True)


def test_minilm_equals_sentence_transformers(of_sentence_transformers: Encoded) -> None:
    texts, theirs = of_sentence_transformers
    ours = Encoder().encode(texts)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "mpnet", "xlm-roberta", "modernbert"])
def test_architectures_equal_sentence_transformers(tmp_path: Path, kind: str) -> None:
    folder = small_checkpoint(tmp_path, kind)
    texts = [*(text for text in ODD_TEXTS), *real_texts(30)]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(Encoder(str(folder)).encode(texts), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "max")]
)
def test_pooling_modes_equal_sentence_transformers(tmp_path: Path, mode: str | tuple[str, ...]) -> None:
    base = small_checkpoint(tmp_path / "base", "bert")
    model = SentenceTransformer(str(base), device="cpu")
    saved = SentenceTransformer(modules=[model[0], Pooling(32, pooling_mode=mode)], device="cpu")
    saved.save(str(tmp_path / "saved"))
    texts = [text for text in ODD_TEXTS if text.strip()]
    ours = Encoder(str(tmp_path / "saved"))
    assert ours.dim == (64 if isinstance(mode, tuple) else 32)
    np.testing.assert_allclose(ours.encode(texts), saved.encode(texts), rtol=0, atol=1e-5)


def test_prompts_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    base = small_checkpoint(tmp_path / "base", "bert")
    model = SentenceTransformer(str(base), device="cpu", prompts={"query": "ask: ", "passage": "told: "})
    model.save(str(tmp_path / "saved"))
    theirs, ours = SentenceTransformer(str(tmp_path / "saved"), device="cpu"), Encoder(str(tmp_path / "saved"))
    texts = ["where is the tap", "in the garden"]
    np.testing.assert_allclose(ours.encode_query(texts), theirs.encode_query(texts), rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.encode_document(texts), theirs.encode_document(texts), rtol=0, atol=1e-5)
    assert not np.allclose(ours.encode_query(texts), ours.encode_document(texts))


@pytest.mark.parametrize(("kind", "positions"), [("bert", 80), ("roberta", 78), ("modernbert", 80)])
@pytest.mark.parametrize("beside", [-50, 0, 50])
def test_max_seq_length_below_at_and_above_the_position_table(
    tmp_path: Path, kind: str, positions: int, beside: int
) -> None:
    folder = small_checkpoint(tmp_path, kind)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": positions + beside}))
    ours = Encoder(str(folder))
    theirs = SentenceTransformer(str(folder), device="cpu")
    theirs.max_seq_length = min(positions, positions + beside)
    texts = [" ".join(f"word{n}" for n in range(words)) for words in (1, 5, 20, 40, 200)]
    assert max(map(len, ours.tokenizer.token_ids(texts))) == theirs.max_seq_length
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("normalizer_lowers", "asked"), [(True, False), (False, False), (False, True)])
def test_tokenizers_with_and_without_lowercasing(tmp_path: Path, normalizer_lowers: bool, asked: bool) -> None:
    folder = small_checkpoint(tmp_path, "bert")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = normalizer_lowers
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": asked}))
    texts = ["Water FROM the Tap", "water from the tap", "ÄÖÜ İstanbul"]
    ours = Encoder(str(folder)).encode(texts)
    assert np.allclose(ours[0], ours[1]) == (normalizer_lowers or asked)
    # sentence-transformers is given the case that the model's files ask for.
    theirs = SentenceTransformer(str(folder), device="cpu")
    lowered = [text.lower() for text in texts] if asked else texts
    np.testing.assert_allclose(ours, theirs.encode(lowered), rtol=0, atol=1e-5)


def test_a_model_without_tokenizer_json_is_read_from_its_vocabulary(tmp_path: Path, minilm: Path) -> None:
    folder = Path(shutil.copytree(minilm, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    texts = ["A sentence about taps.", "汉字"]
    np.testing.assert_allclose(Encoder(str(folder)).encode(texts), Encoder().encode(texts), rtol=0, atol=1e-6)


def test_bfloat16_is_close_to_float32(of_sentence_transformers: Encoded) -> None:
    texts, theirs = of_sentence_transformers
    encoder = Encoder(precision="bfloat16")
    assert encoder.precision == "float32", "nothing was encoded yet"
    ours = encoder.encode(texts)
    assert (encoder.precision, ours.dtype) == ("bfloat16", np.float32)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1)
    assert cosines.mean() >= 0.9995
    assert cosines.min() >= 0.998
    assert not np.allclose(cosines, 1, rtol=0, atol=1e-6), "it was computed in float32"


@pytest.mark.parametrize("kind", ["minilm", "modernbert"])
def test_a_text_is_the_same_whatever_stands_beside_it(tmp_path: Path, minilm: Path, kind: str) -> None:
    folder = minilm if kind == "minilm" else small_checkpoint(tmp_path, kind)
    # More than are taken at a time, so that other texts are taken together when they are shuffled.
    texts = [*ODD_TEXTS, *(text[:100] for text in real_texts(590))]
    together = Encoder(str(folder)).encode(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = Encoder(str(folder)).encode([texts[row] for row in order])
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=1e-5)
    alone = np.concatenate([Encoder(str(folder)).encode([text]) for text in texts[:20]])
    np.testing.assert_allclose(alone, together[:20], rtol=0, atol=1e-5)


def test_a_stream_is_taken_a_little_ahead_and_gives_what_a_list_does() -> None:
    encoder = Encoder()
    texts = [f"text {n} of many" for n in range(1500)]
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for text in texts:
            taken += 1
            yield text

    parts, ahead = [], []
    for vectors in encoder.encode_document_stream(source()):
        parts.append(vectors)
        ahead.append(taken - sum(map(len, parts)))
    assert len(parts) > 2
    assert max(ahead) <= 512
    np.testing.assert_allclose(np.concatenate(parts), encoder.encode_document(texts), rtol=0, atol=1e-6)


def test_an_error_of_the_source_of_a_stream_comes_through() -> None:
    def source() -> Iterator[str]:
        yield from ["fine"] * 600
        raise KeyError("the source broke")

    with pytest.raises(KeyError, match="the source broke"):
        list(Encoder().encode_document_stream(source()))


def test_shapes_and_refusals() -> None:
    encoder = Encoder()
    assert encoder.encode([]).shape == (0, 384)
    assert encoder.encode([]).dtype == np.float32
    assert encoder.encode(["one"]).shape == (1, 384)
    for bad in ("bare", ["fine", 3], [None]):
        with pytest.raises(InvalidInputError):
            encoder.encode(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="auto, float32, bfloat16, int8, got 'float8'"):
        Encoder(precision="float8")
    with pytest.raises(InvalidInputError, match="auto, cpu, cuda, mps, got 'tpu'"):
        Encoder(device="tpu")
    assert np.isfinite(encoder.encode(["lone \ud800 surrogate"])).all()


def test_batches_hold_every_row_once_and_hardly_any_padding() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(3, 257, 3000)]
    batches = list(_batches(lengths))
    assert sorted(row for rows in batches for row in rows) == list(range(3000))
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in batches)
    assert padded <= 1.1 * sum(lengths)
    assert all(len(rows) * max(lengths[row] for row in rows) <= 4096 for rows in batches)


def test_bad_models_are_refused_with_the_reason(tmp_path: Path, minilm: Path) -> None:
    def variant(name: str) -> Path:
        return Path(shutil.copytree(minilm, tmp_path / name))

    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is set"):
        Encoder("nobody/no-such-model")
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        Encoder("./no-such-folder")
    folder = variant("pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeModelError, match=r"no model\.safetensors .*pytorch_model\.bin"):
        Encoder(str(folder))
    folder = variant("remote")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Evil"}}))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsafeModelError, match="auto_map"):
        Encoder(str(folder))
    folder = variant("module")
    (folder / "modules.json").write_text('[{"idx": 0, "path": "", "type": "evil.Transformer"}]')
    with pytest.raises(UnsafeModelError, match=r"evil\.Transformer"):
        Encoder(str(folder))
    folder = variant("unknown")
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-type"}))
    with pytest.raises(UnsupportedModelError, match="no-such-type"):
        Encoder(str(folder)).encode(["text"])


def test_fingerprint_survives_json_and_ignores_the_name(minilm: Path) -> None:
    one = load_model_files("all-MiniLM-L6-v2").fingerprint
    assert one.weights_sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert Fingerprint.from_json(one.to_json()) == one
    by_folder = load_model_files(str(minilm)).fingerprint
    assert by_folder.model != one.model
    assert one.differences(by_folder) == []
    assert one.differences(load_model_files(str(minilm), max_seq_length=64).fingerprint) == ["max_seq_length"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_counting_word_by_word_is_counting(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    tokenizer = Encoder(str(small_checkpoint(tmp_path_factory.mktemp(kind), kind))).tokenizer
    odd = [
        "a\u2028b\x0bc\x1cd",
        "\u200bword\u200b",
        "x" * 300,
        "汉字" * 50 + " and",
        "ÀÉ\u0301\u0301 e",
        "don't-stop/at/all" * 9,
    ]

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.one_of(st.sampled_from([*ODD_TEXTS, *odd, "\n", " ", "\u3000"]), st.text(max_size=20)), max_size=20)
    )
    def check(parts: list[str]) -> None:
        text = " ".join(parts)
        starts, spans = tokenizer.token_starts(text), tokenizer.token_spans(text)
        assert len(starts) == len(spans)
        assert (np.diff(starts) >= 0).all()
        # A short word's tokens may be said to start with it, never after where they do.
        assert (starts <= np.sort(spans[:, 0])).all()
        assert all(not text[start].isspace() for start in starts.tolist()) or kind != "bert"

    check()
