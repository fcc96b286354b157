"""Small random models and texts that tests of the encoder share."""

from __future__ import annotations

from pathlib import Path

from conftest import CORPUS, SHARED_DATA
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models as token_models
from tokenizers import normalizers, pre_tokenizers, processors, trainers

ODD_TEXTS = [
    "",
    " ",
    "word",
    "🙂 emoji 🚀",
    "汉字和语言",
    "long " * 2000,
    "tab\tand\nline",
    "é à ü",
    "<s> [SEP] x",
    "a\x00b",
]


def real_texts(n: int) -> list[str]:
    """Real passages: paragraphs of a documentation folder where there is one, else of the sample corpus."""
    folder = SHARED_DATA / "cpp-docs" if (SHARED_DATA / "cpp-docs").is_dir() else CORPUS
    texts: list[str] = []
    for path in sorted(folder.rglob("*.md"))[::7]:
        texts += [part for part in path.read_text(encoding="utf-8").split("\n\n") if part.strip()][:4]
    return (texts * (n // len(texts) + 1))[:n]


def small_checkpoint(folder: Path, kind: str, *, hidden: int = 32, heads: int = 4, positions: int = 80) -> Path:
    """A small random model of an architecture, with a tokenizer trained on the sample corpus."""
    import torch
    import transformers

    text = [path.read_text(encoding="utf-8") for path in sorted(CORPUS.rglob("*.md"))]
    size = {
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": positions,
    }
    if kind in ("bert", "distilbert", "mpnet"):
        special = (
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if kind != "mpnet" else ["<s>", "<pad>", "</s>", "[UNK]"]
        )
        tokenizer = RustTokenizer(token_models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special)
    elif kind == "xlm-roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        tokenizer = RustTokenizer(token_models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=500, special_tokens=special, unk_token="<unk>")
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        tokenizer = RustTokenizer(token_models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(text, trainer)
    first, last = ("[CLS]", "[SEP]") if kind in ("bert", "distilbert") else ("<s>", "</s>")
    ends = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    pad = "[PAD]" if kind in ("bert", "distilbert") else "<pad>"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, cls_token=first, sep_token=last, model_max_length=positions - 16
    ).save_pretrained(folder)
    common = {**size, "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": tokenizer.token_to_id(pad)}
    configs = {
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
        "mpnet": transformers.MPNetConfig,
        "xlm-roberta": transformers.XLMRobertaConfig,
        "modernbert": transformers.ModernBertConfig,
    }
    if kind == "modernbert":
        config = transformers.ModernBertConfig(**common, cls_token_id=0, sep_token_id=2, bos_token_id=0, eos_token_id=2)
    elif kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=common["vocab_size"],
            dim=hidden,
            n_layers=2,
            n_heads=heads,
            hidden_dim=2 * hidden,
            max_position_embeddings=positions,
        )
    else:
        config = configs[kind](**common)
    torch.manual_seed(1)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder
