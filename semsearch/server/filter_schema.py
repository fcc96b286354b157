"""The filters of `store.filter_syntax` as a regular expression, for the API's schema.

No regular expression can have all of them: it stops at one level of parentheses and ten terms, which nearly all
filters keep to. The server itself goes by the grammar.
"""

from __future__ import annotations

_SPACE = r"\s\x1c-\x1f\x85"
_KEYWORD = "(?:[aA][nN][dD]|[oO][rR]|[nN][oO][tT])"
_QUOTED = r"""(?:"(?:[^"\\]|\\["'\\])*"|'(?:[^'\\]|\\["'\\])*')"""
_NAME = rf"""[^{_SPACE}():=!<>"'.]+"""
_KEY = f"(?:{_NAME}|{_QUOTED})"
_SPECIAL = "(?:path|type|modified)"
_COMPARISON = "(?::|!=|<=|>=|=|<|>)"
_NO_KEYWORD = f"(?!{_KEYWORD}(?:[{_SPACE})]|$))"
_VALUE = rf"""(?:{_NO_KEYWORD}[^{_SPACE}():=!<>"'*][^{_SPACE}()*]*|{_QUOTED})"""
_DATE = "(?:1[7-9]|2[01])[0-9]{2}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|1[0-9]|2[0-8]))?)?"
_TERMS = "|".join(
    (
        rf"path:{_NO_KEYWORD}(?:\*?[A-Za-z0-9_.-]+/?|[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*/?)",
        f"path!?={_VALUE}",
        rf"type(?::|!?=){_NO_KEYWORD}[A-Za-z0-9_]+(?:,[A-Za-z0-9_]+)*",
        f"modified{_COMPARISON}{_DATE}",
        rf"""(?!-|{_KEYWORD}(?:[{_SPACE}():=!<>"'.]|$)|["']?{_SPECIAL}["']?[:=!<>]){_KEY}(?:\.{_KEY})*"""
        rf"(?::\*|{_COMPARISON}{_VALUE})",
    )
)
_TERM = f"(?:not )?(?:{_TERMS})"
_JOIN = "(?: and | or | )"
_GROUP = rf"(?:not )?\({_TERM}(?:{_JOIN}{_TERM}){{0,4}}\)"
PATTERN = f"^(?:{_TERM}|{_GROUP})(?:{_JOIN}(?:{_TERM}|{_GROUP})){{0,9}}$"
