"""What words a text has, as lexical search counts them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Set
from functools import lru_cache
from typing import Any

from semsearch.errors import InvalidInputError

# Snowball's stemmers, as tantivy has them.
LANGUAGES = (
    "arabic danish dutch english finnish french german greek hungarian italian norwegian portuguese romanian russian "
    "spanish swedish tamil turkish none"
).split()
# Those that it has a list of stop words for.
_WITH_STOP_WORDS = (
    "danish dutch finnish french german hungarian italian norwegian portuguese russian spanish swedish".split()
)
DEFAULT_LANGUAGE = "english"
# Longer words are no words, but data.
_LONGEST = 100
# Of longer titles and headings, which each passage would have anew, the beginning counts.
_LONGEST_TITLE = 1000
# English words that say nothing by themselves; tantivy's own list has no question words.
_ENGLISH_STOP_WORDS = (
    "a about am an and any are as at be been being but by can could did do does for from had has have he her him his "
    "how i if in into is it its me my no not of on or our she should so some such than that the their them then there "
    "these they this those to us was we were what when where which who whom whose why will with would you your"
).split()
# What a word made of several has, if it has no underscore.
_HUMP = re.compile(r"[a-z]\d*[A-Z]|[A-Z]{2}[a-z]")
_COMPOUND_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
# Scripts that put no space between words: Han, Hiragana, Katakana, Thai, Lao, Khmer, Burmese.
_UNSPACED = re.compile(r"[㐀-鿿豈-﫿぀-ヿ\U00020000-\U0003134f฀-໿ក-៿က-႟]{2,}")
_WORD = re.compile(r"\w+")
_PHRASE = re.compile(r'["“”«»„]([^"“”«»„]*\w[^"“”«»„]*)["“”«»„]')


def check_language(language: str) -> str:
    """A language that there is a stemmer for, or "none".

    Raises:
        InvalidInputError: There is none for it.
    """
    if language not in LANGUAGES:
        raise InvalidInputError(f"no stemmer for the language {language!r}; there are: {', '.join(LANGUAGES)}")
    return language


def lexical_text(title: str, heading: str, text: str) -> str:
    """What a passage is found by: its title, its headings, its text."""
    return "\n".join(part for part in (title[:_LONGEST_TITLE], heading[:_LONGEST_TITLE], text) if part)


@lru_cache
def analyzer(language: str, *, stop_words: bool = True) -> Any:
    """A tantivy analyzer: runs of word characters, in lower case, without accents, as stems.

    Args:
        language: One of LANGUAGES.
        stop_words: Whether these are words, too.
    """
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    filters = [Filter.remove_long(_LONGEST), Filter.lowercase()]
    fold = Filter.ascii_fold()
    # Stemmers of other languages go by the accents.
    filters += [fold] if language == "english" else []
    if not stop_words:
        filters += _stop_words(language)
    filters += [] if language == "none" else [Filter.stemmer(language)]
    filters += [] if language == "english" else [fold]
    built = TextAnalyzerBuilder(Tokenizer.regex(r"\w+"))
    for one in filters:
        built = built.filter(one)
    return built.build()


def _stop_words(language: str) -> list[Any]:
    from tantivy import Filter

    if language == "english":
        return [Filter.custom_stopword(_ENGLISH_STOP_WORDS)]
    return [Filter.stopword(language)] if language in _WITH_STOP_WORDS else []


def searchable(text: str, *, compounds: bool = True) -> str:
    """A text as it is analyzed: with the parts of compound words, and pairs of characters where no space parts words.

    Both stand after the text, so that its own words keep their order.

    Args:
        text: What is indexed or looked for.
        compounds: Whether compound words have their parts, too.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    more = [part for word in _compounds(text) for part in _COMPOUND_PART.findall(word)] if compounds else []
    if not text.isascii():
        runs: list[str] = _UNSPACED.findall(text)
        more += [run[at : at + 2] for run in runs for at in range(len(run) - 1)]
        text = _UNSPACED.sub(" ", text)
    return f"{text}\n{' '.join(more)}" if more else text


def _compounds(text: str) -> Iterator[str]:
    words: list[str] = _WORD.findall(text)
    return (word for word in words if "_" in word or (not word.islower() and _HUMP.search(word)))


@lru_cache(maxsize=256)  # each of its hits asks for them
def query_terms(query: str, language: str) -> tuple[str, ...]:
    """The stems that a query is looked for by, each once; stop words only where there is nothing else."""
    text = searchable(phrases(query)[1])
    stems = analyzer(language, stop_words=False).analyze(text) or analyzer(language).analyze(text)
    return tuple(dict.fromkeys(stems))


def words_with(text: str, terms: Set[str], language: str) -> Iterator[tuple[int, int]]:
    """Where the words of a text stand that have one of these stems, themselves or a part of them."""
    for word in _WORD.finditer(text):
        if not word[0].isascii():
            for run in _UNSPACED.finditer(word[0]):
                start = word.start() + run.start()
                for at in range(start, start + len(run[0]) - 1):
                    if text[at : at + 2] in terms:
                        yield at, at + 2
        if not terms.isdisjoint(_stems(word[0], language)):
            yield word.span()


@lru_cache(maxsize=2**15)
def _stems(word: str, language: str) -> tuple[str, ...]:
    """Those of a word and its parts, pairs of characters left out."""
    return tuple(analyzer(language).analyze(searchable(_UNSPACED.sub(" ", word))))


def phrases(query: str) -> tuple[list[str], str]:
    """The phrases of a query that stand in quotes, and the query without the quotes."""
    return _PHRASE.findall(query), _PHRASE.sub(r" \1 ", query)
