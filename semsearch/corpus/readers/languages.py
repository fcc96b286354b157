r"""How programming languages write functions and classes, as patterns of one line each.

A pattern is matched with a line without its indentation, and has a group `name`. What else its groups mean: with a
group `open`, which ends at a parenthesis, the parentheses must be followed by a body, with a group `body` so must the
name; a group `type` is a class, or the like; a group `method` is only seen directly within one, and `constructor` only
within one of its name; a group `margin` is not indented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Comments and strings are blanked before lines are looked at. Repetitions do not give back, so that it is linear.
_SLASHES = r"//[^\n]*|/\*(?s:.)*?(?:\*/|\Z)"
_HASH = r"#[^\n]*"
_SINGLE = r"'(?:[^'\\\n]|\\.)*+'?"
_QUOTED = rf'"(?:[^"\\\n]|\\.)*+"?|{_SINGLE}'
_LONG_QUOTED = rf'"(?:[^"\\]|\\(?s:.))*+(?:"|\Z)|{_SINGLE}'
_TRIPLE = r'"""(?:[^"\\]|\\(?s:.)|"(?!""))*+(?:"""|\Z)' r"|'''(?:[^'\\]|\\(?s:.)|'(?!''))*+(?:'''|\Z)"
_TICKS = r"`(?:[^`\\]|\\(?s:.))*+(?:`|\Z)"
_CHARACTER = r"'(?:\\.[^'\n]{0,8}|[^'\\\n])'"

# No function is called so.
CONTROL = frozenset(
    "if for while switch return else catch do try finally foreach using lock fixed checked unchecked synchronized with "
    "sizeof typeof new throw delete case default goto await yield assert when match loop unless until elif elsif not "
    "and or in is as function super this import export package require include defined typename decltype alignof "
    "static_assert __attribute__ __declspec alignas requires print echo begin end then fi done esac select repeat "
    "guard defer".split()
)


@dataclass(frozen=True, slots=True)
class Language:
    """A family of languages.

    Attributes:
        blanks: Matches comments and strings.
        definitions: What a line is matched with, in turn.
        above: What the line directly above a definition that belongs to it begins with, beside comments.
        ends: What ends the definition that is indented as far as it.
        by_indentation: Whether any line ends the definitions that are not indented less.
    """

    blanks: re.Pattern[str]
    definitions: tuple[re.Pattern[str], ...]
    above: tuple[str, ...] = ("@", "#[", "[", "template")
    ends: tuple[str, ...] = ("}",)
    by_indentation: bool = False


def _language(blanks: str, *definitions: str, flags: int = 0, **rest: object) -> Language:
    return Language(re.compile(blanks), tuple(re.compile(one, flags) for one in definitions), **rest)  # type: ignore[arg-type]


_MODIFIERS = (
    r"(?:(?:public|private|protected|internal|static|final|abstract|sealed|partial|override|virtual|async|export|default"
    r"|declare|open|data|inner|inline|suspend|fileprivate|mutating|lazy|implicit|case|unsafe|readonly|typedef|new"
    r"|required|convenience|indirect|operator|tailrec|external|extern|strictfp|actual|expect|annotation|value)\s+)*+"
)
_ANNOTATIONS = r"(?:@[\w.:]+(?:\([^()]*\))?\s+|\[\[[^\]]*\]\]\s*)*+"
_TYPES = (
    rf"{_ANNOTATIONS}{_MODIFIERS}(?P<type>class|struct|interface|enum(?:\s+(?:class|struct))?|record|union|trait|object|protocol"
    r"|extension|@interface|mixin|actor)\s+(?:[A-Z][A-Z0-9_]{2,}\s+(?=\w))?(?P<name>(?!(?:func?|def|va[rl]|let)\b)[A-Za-z_]\w*)(?P<body>)"
)
# A type, or several words, before a name and its parenthesis: `static int *f(`, `A::B C<D>::f(`.
_TYPED = (
    r"(?:@[\w.]+(?:\([^()]*\))?\s+)*+(?:[\w:.?&*<>,\[\]~]|\s(?!\s*\())+?[\s*&>]"
    r"\*?(?P<name>(?:\w+(?:<[^<>()]*>)?::)*(?:~?\w+|operator\s*[^\s\w(]{1,3}|operator\s+\w+))\s*(?:<[^<>()]*>\s*)?(?P<open>\()"
)
# Constructors: out of their class, or within it.
_QUALIFIED = r"(?P<name>(?:\w+(?:<[^<>()]*>)?::)+~?\w+)\s*(?P<open>\()"
_CONSTRUCTOR = r"(?P<constructor>)(?:explicit\s+|inline\s+|constexpr\s+|virtual\s+)*(?P<name>~?\w+)\s*(?P<open>\()"

# GNU's style: the type stands on the line before. What is in capitals is a macro.
_AT_THE_MARGIN = r"(?P<margin>)(?P<name>(?![A-Z0-9_]+\b)[A-Za-z_]\w*)\s*(?P<open>\()"

_C = _language(
    rf'{_SLASHES}|"(?:[^"\\\n]|\\.)*+"?|{_CHARACTER}', _TYPED, _QUALIFIED, _TYPES, _CONSTRUCTOR, _AT_THE_MARGIN
)
_JAVA = _language(f"{_SLASHES}|{_TRIPLE}|{_QUOTED}", _TYPES, _TYPED, _CONSTRUCTOR)
_SCRIPT = _language(
    f"{_SLASHES}|{_TICKS}|{_QUOTED}",
    r"(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:async\s+)?function\s*\*?\s*(?P<name>[\w$]+)\s*(?:<[^()]*>)?(?P<open>\()",
    _TYPES,
    r"(?:export\s+)?(?:const|let|var)\s+(?P<name>[\w$]+)\s*(?::[^=]*)?=\s*(?:async\s+)?(?:function\b[^{}]*|\([^()]*\)\s*"
    r"(?::[^={}]*)?=>\s*|\w+\s*=>\s*)\{\s*$",
    r"(?P<method>)(?:(?:public|private|protected|static|async|get|set|readonly|override|\*)\s*(?=[\s\w#*$]))*?"
    r"(?P<name>#?[\w$]+)\s*(?:<[^()]*>)?(?P<open>\()",
)
_GO = _language(
    f"{_SLASHES}|{_TICKS}|{_QUOTED}",
    r"func\s+(?:\(\s*(?:\w+\s+)?\*?(?P<owner>\w+)(?:\[[^\]]*\])?\s*\)\s*)?(?P<name>\w+)\s*(?:\[[^\]]*\])?(?P<open>\()",
    r"type\s+(?P<name>\w+)(?:\[[^\]]*\])?\s+(?P<type>struct|interface)\b(?P<body>)",
)
_RUST = _language(
    rf'{_SLASHES}|"(?:[^"\\]|\\(?s:.))*+(?:"|\Z)|{_CHARACTER}',
    r"(?:pub(?:\([^()]*\))?\s+)?(?:(?:default|const|async|unsafe|extern)\s+)*+fn\s+(?P<name>\w+)\s*(?:<[^()]*>)?(?P<open>\()",
    r"(?:pub(?:\([^()]*\))?\s+)?(?:unsafe\s+)?(?P<type>struct|enum|trait|union)\s+(?P<name>\w+)(?P<body>)",
    r"(?:unsafe\s+)?(?P<type>impl)\b(?:<[^{}]*?>)?\s+(?:[^{}]*?\sfor\s+)?&?(?:\w+::)*(?P<name>\w+)(?P<body>)",
)
_PHP = _language(
    f"{_SLASHES}|#(?!\\[)[^\\n]*|{_LONG_QUOTED}",
    r"(?:(?:public|private|protected|static|final|abstract)\s+)*+function\s+&?(?P<name>\w+)\s*(?P<open>\()",
    _TYPES,
)
_BRACES = _language(  # Kotlin, Swift, Scala: a function need not have a body in braces
    f"{_SLASHES}|{_TRIPLE}|{_QUOTED}|{_TICKS}",
    rf"{_ANNOTATIONS}{_MODIFIERS}(?:class\s+)?(?:fun|func|def)\s+(?:<[^()]*?>\s*)?(?:[\w.<>?]+\.)?(?P<name>\w+)\s*(?:[<\[][^()]*[>\]])?\s*[(:=]",
    _TYPES.removesuffix("(?P<body>)"),
    r"(?P<method>)(?:(?:public|private|internal|required|convenience|override)\s+)*+(?P<name>init|deinit)\b[?!]?\s*[({]",
)
_PYTHON = _language(
    f"{_TRIPLE}|{_HASH}|{_QUOTED}",
    r"(?:async\s+)?def\s+(?P<name>\w+)\s*[(\[]",
    r"class\s+(?P<name>\w+)\s*[(:\[]",
    above=("@",),
    by_indentation=True,
)
_RUBY = _language(
    rf"{_HASH}|{_QUOTED}",
    r"(?:(?:private|protected|public)\s+)?def\s+(?:self\.)?(?P<name>\w+[?!=]?)",
    r"(?:class|module)\s+(?P<name>[A-Z]\w*(?:::\w+)*)",
    ends=("end",),
)
_SHELL = _language(
    r"(?:(?<=\s)|(?<=;)|\A)#[^\n]*",
    r"(?:function\s+)?(?P<name>[A-Za-z_][\w:.-]*)\s*\(\)\s*(?:[{(].*)?$",
    r"function\s+(?P<name>[A-Za-z_][\w:.-]*)\s*(?:\{.*)?$",
)
_NAME_IN_SQL = r"(?:if\s+not\s+exists\s+)?(?P<name>[\w.\"`\[\]]+)"
_SQL = _language(
    r"--[^\n]*|/\*(?s:.)*?(?:\*/|\Z)|'(?:[^']|'')*+(?:'|\Z)",
    r"create\s+(?:or\s+(?:replace|alter)\s+)?(?:(?:temp|temporary|materialized|recursive|unlogged|external)\s+)*"
    rf"(?:table|view|function|procedure|trigger|type|package(?:\s+body)?)\s+{_NAME_IN_SQL}",
    flags=re.IGNORECASE,
)
_LUA = _language(
    rf"--\[\[(?s:.)*?(?:\]\]|\Z)|--[^\n]*|{_QUOTED}",
    r"(?:local\s+)?function\s+(?P<name>[\w.:]+)\s*\(",
    r"(?:local\s+)?(?P<name>[\w.]+)\s*=\s*function\s*\(",
    ends=("end",),
)
_R = _language(rf"{_HASH}|{_LONG_QUOTED}", r"(?P<name>[\w.]+)\s*(?:<-|=)\s*function\s*\(")
_PERL = _language(
    r"(?m:^)=\w(?s:.)*?(?:(?m:^)=cut[^\n]*|\Z)|(?<![$\w])#[^\n]*",
    r"sub\s+(?P<name>[\w:]+)(?P<body>)",
    r"package\s+(?P<name>[\w:]+)\s*[;{]",
)
_JULIA = _language(
    rf"#=(?s:.)*?(?:=#|\Z)|{_HASH}|{_TRIPLE}|{_QUOTED}",
    r"(?:function|macro)\s+(?:\w+\.)*(?P<name>\w+!?)\s*[({]",
    r"(?:mutable\s+)?struct\s+(?P<name>\w+)",
    ends=("end",),
)
_ELIXIR = _language(
    rf"{_HASH}|{_TRIPLE}|{_QUOTED}",
    r"(?:defmodule|defprotocol|defp?|defmacrop?)\s+(?P<name>[\w.]+[?!]?)(?:\(|\s+do\b|,|\s*$)",
    above=("@doc", "@spec", "@impl"),
    ends=("end",),
)
_LISP = _language(
    r';[^\n]*|"(?:[^"\\]|\\(?s:.))*+(?:"|\Z)', r"\((?:defn-?|defun|defmacro|define|defmulti)\s+\(?(?P<name>[^\s()]+)"
)
_ZIG = _language(f"//[^\n]*|{_QUOTED}", r"(?:pub\s+)?(?:export\s+|inline\s+)*fn\s+(?P<name>\w+)\s*(?P<open>\()")
_NIM = _language(
    f"{_TRIPLE}|{_HASH}|{_QUOTED}",
    r"(?:proc|func|method|iterator|template|macro)\s+(?P<name>\w+)\*?\s*[(\[]",
    by_indentation=True,
)
_POWERSHELL = _language(
    rf"<#(?s:.)*?(?:#>|\Z)|{_HASH}",
    r"(?:function|filter)\s+(?P<name>[\w:-]+)\s*(?:[({].*)?$",
    r"class\s+(?P<name>\w+)",
    flags=re.IGNORECASE,
)
_TCL = _language(r"(?m:^)[ \t]*+#[^\n]*", r"proc\s+(?P<name>[\w:]+)\s+\{")
_VIM = _language(r'(?m:^)[ \t]*+"[^\n]*', r"function!?\s+(?P<name>[\w:#.]+)\s*\(", ends=("endfunction",))
_PROTO = _language(
    f"{_SLASHES}|{_HASH}|{_QUOTED}",
    r"(?:message|service|enum|struct|exception|union|type|interface|input|oneof)\s+(?P<name>[A-Za-z_]\w*)(?P<body>)",
)

_SUFFIXES = (
    (_C, ".c .cc .cpp .cxx .cu .h .hh .hpp .hxx .m .mm"),
    (_JAVA, ".java .cs .dart .groovy"),
    (_SCRIPT, ".js .jsx .mjs .ts .tsx"),
    (_GO, ".go"),
    (_RUST, ".rs"),
    (_PHP, ".php"),
    (_BRACES, ".kt .kts .swift .scala"),
    (_PYTHON, ".py .pyi"),
    (_RUBY, ".rb"),
    (_SHELL, ".sh .bash .zsh"),
    (_SQL, ".sql"),
    (_LUA, ".lua"),
    (_R, ".r"),
    (_PERL, ".pl .pm"),
    (_JULIA, ".jl"),
    (_ELIXIR, ".ex .exs"),
    (_LISP, ".clj .cljs .el .lisp .scm"),
    (_ZIG, ".zig"),
    (_NIM, ".nim"),
    (_POWERSHELL, ".ps1"),
    (_TCL, ".tcl"),
    (_VIM, ".vim"),
    (_PROTO, ".proto .thrift .graphql"),
)
BY_SUFFIX = {suffix: language for language, suffixes in _SUFFIXES for suffix in suffixes.split()}
