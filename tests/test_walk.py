"""Finding files: what is found, and what is left out for which reason."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.corpus import walk as walk_module
from semsearch.corpus.patterns import Patterns
from semsearch.corpus.walk import Skipped, Walk, WalkOptions, walk
from semsearch.errors import InvalidInputError, SourceNotFoundError, StorageError

GIT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def make(root: Path, *names: str) -> None:
    """Make files and, where a name ends in a slash, folders."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")


def write(root: Path, contents: dict[str, str]) -> None:
    """Make files with contents."""
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())


def names(found: Walk) -> list[str]:
    return [file.name for file in found.files]


def reasons(found: Walk) -> dict[str, str]:
    return {one.path: one.reason for one in found.skipped}


def test_walk_finds_every_file_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "sub/b.txt", ".hidden", ".git/c.md", "node_modules/d.js", "sub/é ü.txt")
    found = walk([tmp_path])
    assert names(found) == ["a.md", "sub/b.txt", "sub/é ü.txt"]
    assert reasons(found) == {".git/": "hidden folder", ".hidden": "hidden", "node_modules/": "vendored folder"}


def test_walk_of_several_sources_has_one_root_and_no_file_twice(tmp_path: Path) -> None:
    make(tmp_path, "one/a.md", "two/a.md")
    found = walk([tmp_path / "one", tmp_path / "two", tmp_path / "one" / "a.md"])
    assert found.root == tmp_path
    assert names(found) == ["one/a.md", "two/a.md"]
    with pytest.raises(SourceNotFoundError, match="nowhere"):
        walk([tmp_path / "nowhere"])


def test_a_source_that_loops_or_has_an_impossible_name_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StorageError, match="cannot open"):
        walk([tmp_path / "loop"])
    with pytest.raises(SourceNotFoundError, match="no such file"):
        walk([Path("a\0b")])


def test_every_kind_of_thing_that_is_no_file_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    make(root, "a.md", "sub/")
    make(tmp_path, "outside.md")
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    (root / "inside.md").symlink_to("a.md")
    (root / "upwards").symlink_to(root)
    (root / "outside.md").symlink_to("../outside.md")
    (root / "sub" / "etc").symlink_to("/etc")
    (root / "broken.md").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "through-a-file").symlink_to("a.md/x")
    found = walk([root])
    assert names(found) == ["a.md"]
    assert reasons(found) == {
        "pipe": "named pipe",
        "socket": "socket",
        "inside.md": "symbolic link",
        "upwards": "symbolic link",
        "outside.md": "symbolic link out of the folder",
        "sub/etc": "symbolic link out of the folder",
        "broken.md": "broken symbolic link",
        "loop": "broken symbolic link",
        "through-a-file": "broken symbolic link",
    }
    assert Counter(one.reason for one in found.skipped)["broken symbolic link"] == 3


def test_a_pipe_or_a_device_as_a_source_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert walk([tmp_path / "pipe"]).skipped == [Skipped("pipe", "named pipe")]
    assert walk([Path("/dev/null")]).skipped == [Skipped("null", "device")]


def test_a_source_that_is_a_link_is_followed(tmp_path: Path) -> None:
    make(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to("real")
    found = walk([tmp_path / "link"])
    assert (found.root, names(found)) == (tmp_path / "real", ["a.md"])


def test_vendored_folders_are_told_by_name_or_content(tmp_path: Path) -> None:
    make(tmp_path, "env/pyvenv.cfg", "env/lib/a.py", "lib/site-packages/a.py", "old/index.db", "old/segments/")
    make(tmp_path, "vendor/modules.txt", "sub/vendor/contract.md", "web/bower_components/a.js", "venv.md")
    found = walk([tmp_path])
    assert names(found) == ["sub/vendor/contract.md", "venv.md"]
    assert reasons(found) == {
        "env/": "vendored folder",
        "lib/site-packages/": "vendored folder",
        "old/": "an index",
        "vendor/": "vendored folder",
        "web/bower_components/": "vendored folder",
    }


def test_hidden_files_are_taken_when_asked_for_but_not_those_of_tools(tmp_path: Path) -> None:
    make(tmp_path, ".a.md", ".notes/b.md", ".git/config", ".tox/c.md")
    found = walk([tmp_path], WalkOptions(hidden=True))
    assert names(found) == [".a.md", ".notes/b.md"]
    assert reasons(found) == {".git/": "vendored folder", ".tox/": "vendored folder"}


def test_what_is_named_is_taken_even_if_hidden_ignored_or_vendored(tmp_path: Path) -> None:
    make(tmp_path, ".notes/a.md", ".b.md", "node_modules/c.md", "log/d.md", "e.md", "f.md")
    write(tmp_path, {".ignore": "log/\ne.md\nf.md\n"})
    sources = [tmp_path, *(tmp_path / name for name in (".notes", ".b.md", "node_modules", "log", "e.md"))]
    found = walk(sources)
    assert names(found) == [".b.md", ".notes/a.md", "e.md", "log/d.md", "node_modules/c.md"]
    assert reasons(found) == {".ignore": "hidden", "f.md": "ignored by .ignore"}


def test_a_deep_tree_ends_where_the_system_cannot_name_it(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(5_000):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        make(tmp_path, "a.md")
        found = walk([tmp_path])
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    assert names(found) == ["a.md"]
    (skipped,) = found.skipped
    assert len(skipped.path) > 4_000
    assert skipped.reason == "cannot be listed: File name too long"


def test_a_folder_that_cannot_be_listed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/a.md", "b/b.md")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = walk([tmp_path])
    assert names(found) == ["b/b.md"]
    assert reasons(found) == {"a/": "cannot be listed: Permission denied"}
    with pytest.raises(StorageError, match="cannot list"):
        walk([tmp_path / "a"])


def test_a_folder_mounted_within_itself_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/b/again/x.md", "a/x.md")
    real = os.stat

    def mounted(path: object, **options: object) -> os.stat_result:
        return real(tmp_path / "a" if path == str(tmp_path / "a/b/again") else path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(walk_module.os, "stat", mounted)
    found = walk([tmp_path])
    assert names(found) == ["a/x.md"]
    assert reasons(found) == {"a/b/again/": "folder within itself"}


# Ignore files


def test_an_ignored_folder_is_one_thing_and_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, ".git/", "build/a.md", "build/sub/b.md", "src/build/c.md", "src/d.log", "keep.log", "e.md")
    write(tmp_path, {".gitignore": "build/\n*.log\n!keep.log\n!build/a.md\n"})
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    found = walk([tmp_path])
    assert names(found) == ["e.md", "keep.log"]
    assert {path: reason for path, reason in reasons(found).items() if "hidden" not in reason} == {
        "build/": "ignored by .gitignore",
        "src/build/": "ignored by .gitignore",
        "src/d.log": "ignored by .gitignore",
    }
    assert listed == [str(tmp_path), str(tmp_path / "src")]


def test_gitignore_counts_in_repositories_only_and_from_their_top(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "repo/sub/a.log", "repo/sub/b.txt", "repo/inner/a.log", "repo/inner/b.txt", "repo/x.txt")
    write(tmp_path, {".gitignore": "a.log\nb.txt\nx.txt\n", "repo/.gitignore": "a.log\n"})
    assert names(walk([tmp_path])) == [
        "a.log",
        "repo/inner/a.log",
        "repo/inner/b.txt",
        "repo/sub/a.log",
        "repo/sub/b.txt",
        "repo/x.txt",
    ]
    make(tmp_path, "repo/.git/", "repo/inner/.git/")
    # Inside `repo` its own counts and the one above does not; in the repository within it, neither does.
    assert names(walk([tmp_path])) == ["a.log", "repo/inner/a.log", "repo/inner/b.txt", "repo/sub/b.txt", "repo/x.txt"]
    # A source below the top is still in the repository.
    assert names(walk([tmp_path / "repo" / "sub"])) == ["b.txt"]
    assert names(walk([tmp_path / "repo" / "sub"], WalkOptions(ignore_files=False))) == ["a.log", "b.txt"]


def test_other_ignore_files_count_everywhere_and_overrule_each_other(tmp_path: Path) -> None:
    make(tmp_path, "top/.git/", *(f"top/sub/{name}.md" for name in "abcdef"))
    write(
        tmp_path,
        {
            ".ignore": "a.md\n",
            "top/.semsearchignore": "!b.md\n!build/\n",
            "top/sub/.ignore": "b.md\n!c.md\n",
            "top/sub/.gitignore": "c.md\nd.md\nbuild/\n!e.md\n",
            "top/.git/info/exclude": "e.md\nf.md\n",
            "top/sub/build/x.md": "text",
        },
    )
    found = walk([tmp_path / "top"])
    assert names(found) == ["sub/b.md", "sub/build/x.md", "sub/c.md", "sub/e.md"]
    assert {path: reason for path, reason in reasons(found).items() if "hidden" not in reason} == {
        "sub/a.md": "ignored by .ignore",
        "sub/d.md": "ignored by .gitignore",
        "sub/f.md": "ignored by .git/info/exclude",
    }


def test_the_exclude_file_of_a_second_work_tree_is_found(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tmp_path / "one", *arguments], check=True, capture_output=True, env=GIT)

    make(tmp_path, "one/")
    git("init", "-q")
    git("-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", "first")
    git("worktree", "add", "../two")
    write(tmp_path, {"one/.git/info/exclude": "a.md\n"})
    make(tmp_path, "two/a.md", "two/b.md")
    assert names(walk([tmp_path / "two"])) == ["b.md"]


def test_no_ignore_file_stops_a_walk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, *(f"{folder}/a.md" for folder in ("huge", "pipe", "folder", "link", "bytes")))
    (tmp_path / "huge" / ".ignore").write_bytes(b"a.md\n" * 300_000)
    os.mkfifo(tmp_path / "pipe" / ".ignore")
    (tmp_path / "folder" / ".ignore").mkdir()
    (tmp_path / "link" / ".ignore").symlink_to(tmp_path / "bytes" / ".ignore")
    (tmp_path / "bytes" / ".ignore").write_bytes(b"\xff\xfe[\n\\\n[[:x:]]\n\xe9*.md\na.md\n")
    make(tmp_path, "bytes/b.md")
    (tmp_path / os.fsdecode(b"bytes/\xe9t\xe9.md")).write_text("text")
    assert names(walk([tmp_path])) == ["bytes/b.md", "folder/a.md", "huge/a.md", "link/a.md", "pipe/a.md"]
    assert sorted(record.getMessage().partition("is not heeded: ")[2] for record in caplog.records) == [
        "Is a directory",
        "Too many levels of symbolic links",
        "no plain file",
        "over the limit of 1 MiB",
    ]


def test_no_pattern_takes_long() -> None:
    started = time.monotonic()
    for pattern in (b"*a" * 100 + b"b", b"**/" + b"a*/**/" * 30 + b"b", b"[!b]*" * 80 + b"b", b"/a**/a**/**/b"):
        Patterns([pattern]).verdict(b"/".join([b"a" * 250] * 16), is_folder=False)
    many = Patterns([b"name-%d" % number for number in range(50_000)])
    for number in range(50_000, 60_000):
        assert many.verdict(b"folder/name-%d" % number, is_folder=False) is None
    assert time.monotonic() - started < 5


ATOMS = st.sampled_from(
    "a b a b * ** / / ? [ab] [!a] [^a] []a] [a-c] [a- [b-a] [[:alpha:]] [[:x:]] [[:a] [\\]a] \\ \\* \\/ ! # é . - ] "
    "*** **/ /** a/ .md".split()
    + [" ", "\\ ", "\t"]
)
PATTERNS = st.lists(ATOMS, min_size=1, max_size=6).map("".join)
LISTS = st.lists(PATTERNS, min_size=1, max_size=4).map("\n".join)
PART = st.sampled_from(["a", "b", "ab", "aab", "c", "é", "a b", "a ", "#a", "!a", "*", "a.md", "]", "[a-", " a", "\\"])
FILES = st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", path], check=True, env=GIT)
    (path / ".git" / "info").mkdir(exist_ok=True)
    return path


@settings(max_examples=250, deadline=None)
@given(FILES, LISTS, st.lists(st.tuples(st.lists(PART, max_size=2).map("/".join), LISTS), max_size=3), PATTERNS)
def test_git_finds_the_same_files(
    repository: Path, files: list[str], top: str, nested: list[tuple[str, str]], exclude: str
) -> None:
    for entry in repository.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in files:
        path = repository / name
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            make(repository, name)
    write(repository, {".gitignore": top, ".git/info/exclude": exclude})
    for folder, content in nested:
        if (repository / folder).is_dir():
            write(repository / folder, {".gitignore": content})
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "-z"],
        cwd=repository,
        env=GIT,
        capture_output=True,
        check=True,
    )
    expected = sorted(os.fsdecode(listed.stdout).split("\0")[:-1])
    assert names(walk([repository], WalkOptions(hidden=True))) == expected


@settings(max_examples=150, deadline=None)
@given(PATTERNS)
def test_git_ignores_the_same_of_many_names(repository: Path, pattern: str) -> None:
    write(repository, {".gitignore": pattern, ".git/info/exclude": ""})
    parts = ["a", "b", "ab", "aab", "é", "a b", "#a", "!a", "*", "]", "[a-", "\\"]
    paths = [f"{one}/{two}".removesuffix("/") for one in parts for two in ("", *parts)]
    for one in repository.iterdir():
        if one.name not in (".git", ".gitignore"):
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    said = subprocess.run(
        ["git", "check-ignore", "--no-index", "-v", "-n", "--stdin", "-z"],
        cwd=repository,
        env=GIT,
        input=os.fsencode("\0".join(paths)),
        capture_output=True,
    )
    fields = os.fsdecode(said.stdout).split("\0")[:-1]
    expected = {path: matched for matched, path in zip(fields[2::4], fields[3::4], strict=True)}
    assert len(expected) == len(paths)
    patterns = Patterns([pattern.encode()])
    # Nothing of it is there, so git takes each path for a file, and looks at the folder over it as such.
    for path in paths:
        folder, _, _ = path.rpartition("/")
        above = bool(folder) and patterns.verdict(folder.encode(), is_folder=True)
        decided = above or patterns.verdict(path.encode(), is_folder=False) is not None
        assert decided == bool(expected[path]), path


# Globs


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), ["a.md", "a.txt", "docs/a.md", "docs/sub/b.md", "src/#e", "src/d.py", "src/docs/c.md"]),
        (("*.md",), (), ["a.md", "docs/a.md", "docs/sub/b.md", "src/docs/c.md"]),
        (("/*.md", "d.py"), (), ["a.md", "src/d.py"]),
        (("docs/",), (), ["docs/a.md", "docs/sub/b.md", "src/docs/c.md"]),
        (("/docs",), (), ["docs/a.md", "docs/sub/b.md"]),
        (("docs/**/*.md",), (), ["docs/a.md", "docs/sub/b.md"]),
        (("*.md",), ("docs",), ["a.md"]),
        ((), ("*.md", "/src/d.py"), ["a.txt", "src/#e"]),
        (("a.md",), ("a.md",), []),
        ((), ("#*",), ["a.md", "a.txt", "docs/a.md", "docs/sub/b.md", "src/d.py", "src/docs/c.md"]),
    ],
)
def test_globs_choose_files(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    make(tmp_path, "a.md", "a.txt", "docs/a.md", "docs/sub/b.md", "src/docs/c.md", "src/d.py", "src/#e")
    found = walk([tmp_path], WalkOptions(include, exclude))
    assert names(found) == expected
    assert set(reasons(found).values()) <= {"excluded", "not included"}


def test_globs_hold_for_named_sources_and_are_relative_to_the_root(tmp_path: Path) -> None:
    make(tmp_path, "one/a.md", "one/b.md", "two/a.md", "three/sub/a.md")
    sources = [tmp_path / "one" / "a.md", tmp_path / "one" / "b.md", tmp_path / "two", tmp_path / "three" / "sub"]
    found = walk(sources, WalkOptions(exclude=("/two", "b.md", "three")))
    assert names(found) == ["one/a.md"]
    assert reasons(found) == {"one/b.md": "excluded", "two/": "excluded", "three/sub/": "excluded"}
    assert names(walk(sources, WalkOptions(include=("three", "/one/b.md")))) == ["one/b.md", "three/sub/a.md"]


@pytest.mark.parametrize("glob", ["", "/", " ", "[a", "a\\", "[[:nothing:]]", "!a", "a\0b", "\ud800"])
def test_a_glob_that_can_match_nothing_is_refused(tmp_path: Path, glob: str) -> None:
    for options in (WalkOptions(include=(glob,)), WalkOptions(exclude=("*.md", glob))):
        with pytest.raises(InvalidInputError, match="clude glob") as caught:
            walk([tmp_path], options)
        assert repr(glob) in str(caught.value)
    with pytest.raises(InvalidInputError, match="one string"):
        walk([tmp_path], WalkOptions(include="*.md"))  # type: ignore[arg-type]
