"""The commands that serve others."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from semsearch.cli import output
from semsearch.cli.indexing import ask_if_much, indexer_of
from semsearch.cli.options import Command, indexes_option, indexes_or_url_option, together
from semsearch.encoder.processors import processors
from semsearch.errors import IndexNotFoundError, SemsearchError

if TYPE_CHECKING:
    import socket

    from semsearch.server.service import Service

_names = click.option("-i", "--index", "names", multiple=True, help="Serve this index; may be given more than once.")
_threads = click.option(
    "--threads", default=8, show_default=True, type=click.IntRange(1), help="Requests worked on at once."
)
_queue = click.option(
    "--queue", default=256, show_default=True, type=click.IntRange(0), help="Requests that may wait; more are refused."
)
_model = click.option("--model", help="Where the indexes' model is now, if it was moved.")


def _processes() -> int:
    """How many processes search if nothing is said; on one processor others would gain nothing."""
    return min(processors(), 4) if processors() > 1 else 0


def _address(port: int) -> Callable[[Command], Command]:
    """The options of where a server listens and whom it answers."""
    return together(
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option(
            "--port", default=port, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
        ),
        click.option(
            "--api-key",
            envvar="SEMSEARCH_API_KEY",
            show_envvar=True,
            help="What each request must bring; better by environment.",
        ),
        click.option(
            "--allow-host", "hosts", multiple=True, help="A host name that requests may come to the server by."
        ),
        click.option(
            "--allow-origin", "origins", multiple=True, help="An origin whose pages may ask: https://example.org."
        ),
    )


@click.command()
@click.argument("given", metavar="[INDEX]...", nargs=-1)
@indexes_or_url_option
@_names
@_address(8765)
@click.option(
    "--processes",
    default=_processes,
    show_default="one for each processor, up to 4",
    type=click.IntRange(0),
    help="Processes that search; 0 searches in the server's own, with less memory and more slowly.",
)
@_threads
@_queue
@click.option("--rerank", "reranker", metavar="MODEL", help="A cross-encoder that requests may ask for.")
@_model
@click.option(
    "--watch",
    "watched",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True),
    help="Meanwhile keep the index of this folder or file up to date, as semsearch watch does; several make one index.",
)
@click.option("--cluster", metavar="ADDRESS", help="Serve on a Ray cluster: its head's HOST:PORT, or auto for our own.")
@click.option(
    "--replicas",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="On a cluster: nodes that have each shard, and nodes that take requests.",
)
@click.option(
    "--allow-partial", is_flag=True, help="On a cluster: answer without shards that no node has any more, and say so."
)
@click.pass_context
def serve(
    context: click.Context,
    given: tuple[str, ...],
    indexes: Any,
    names: tuple[str, ...],
    host: str,
    port: int,
    api_key: str | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    processes: int,
    threads: int,
    queue: int,
    reranker: str | None,
    model: str | None,
    watched: tuple[Path, ...],
    cluster: str | None,
    replicas: int,
    allow_partial: bool,
) -> None:
    """Serve indexes by HTTP: all of the folder, or those that are named.

    GET /api/search?query=... searches; /docs describes all there is. Another host than this machine's own needs an API
    key. SIGTERM finishes what is under way.

    With --watch the index that is named, or else the one of the folder's name, is served as it is, and brought up to
    date at once, and then whenever the folder changes.

    With --cluster the shards of the indexes are on the nodes of a Ray cluster, each of which listens at the address.
    """
    names = tuple(dict.fromkeys((*given, *names)))
    if isinstance(indexes, str) and cluster is None:
        raise click.UsageError("an object store needs --cluster, whose nodes read from it")
    _check_cluster_options(context, cluster)
    _share_processors()
    try:
        from semsearch.server.app import create_app
        from semsearch.server.run import serve as run
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the server needs {error.name}; install it: pip install 'semsearch[server]'") from None
    from semsearch.server.searching import Searchers, SearchProcesses
    from semsearch.server.service import Service

    if cluster is not None:
        if port == 0:
            raise click.UsageError("on a cluster all nodes listen at one port; give it with --port")
        by_url = isinstance(indexes, str)
        _check(host, api_key, indexes, () if by_url else names)
        served = names if by_url or names else tuple(Searchers(indexes).names())
        where = indexes.rstrip("/") if by_url else str(indexes.resolve())
        making = (_anywhere(model), _anywhere(reranker), threads, queue, tuple(_allowed(host, hosts)), origins, api_key)
        _serve_on(cluster, host, port, where, served, replicas, allow_partial, *making)
        return
    keeping = _Keeping(indexes, names[0] if len(names) == 1 else None, watched, model) if watched else None
    own = keeping.name if keeping else None  # which need not be there yet
    _check(host, api_key, indexes, tuple(name for name in names if name != own))
    if own and names and own not in names:
        names = (*names, own)
    searchers = Searchers(indexes, names, model, reranker)
    searching = SearchProcesses(processes, searchers.of) if processes else None
    service = Service(searchers, searching, threads=threads, waiting=queue)
    with closing(service), _listening(host, port, hosts) as (listening, allowed, address):
        for name in service.names():  # opened now, so that the first request need not wait for it
            try:
                service.search(name, ["ready"], {"k": 1})
            except SemsearchError as error:
                if names:
                    raise
                output.print_warning(str(error))
        app = create_app(service, hosts=allowed, origins=origins, api_key=api_key)

        def ready() -> None:
            click.echo(f"serving {_served(service, indexes, own)} at {address}", err=True)
            if keeping:
                keeping.start()

        try:
            run(app, listening, ready)
        finally:
            if keeping:
                keeping.end()


def _check_cluster_options(context: click.Context, cluster: str | None) -> None:
    """See that no option is given that does nothing."""
    idle = {"processes", "watched"} if cluster is not None else {"replicas", "allow_partial"}
    for option in context.command.params:
        if option.name in idle and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} does nothing {'with' if cluster else 'without'} --cluster")


def _anywhere(model: str | None) -> str | None:
    """A model's name; of one that is a folder the path from everywhere."""
    return str(Path(model).resolve()) if model and Path(model).is_dir() else model


def _serve_on(cluster: str, host: str, port: int, indexes: str, names: tuple[str, ...], *how: Any) -> None:
    """Serve on a cluster until a signal comes."""
    try:
        from semsearch.cluster.connection import connected
        from semsearch.cluster.serving import Serving, deployed
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--cluster needs {error.name}; install it: pip install 'semsearch[cluster]'") from None
    if not names:
        raise IndexNotFoundError(f"name the indexes of {indexes!r} to serve; semsearch index --cluster makes them")
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with connected(cluster) as connection:
        signal.signal(signal.SIGTERM, interrupt)
        with deployed(connection, Serving(indexes, names, *how), host, port, output.print_warning):
            own = f"[{host}]" if ":" in host else host
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            click.echo(f"serving {', '.join(names)} at http://{own}:{port} of each node; Ctrl-C ends it", err=True)
            while not stop.wait(1.0):
                connection.see()


class _Keeping:
    """An index that is kept up to date in a thread."""

    def __init__(self, indexes: Path, name: str | None, paths: tuple[Path, ...], model: str | None) -> None:
        try:
            from semsearch.indexer.watch import watch
        except ModuleNotFoundError as error:
            raise click.UsageError(f"--watch needs {error.name}; install it: pip install 'semsearch[watch]'") from None
        indexer = indexer_of(indexes, name, paths, model=model)
        if not indexer.path.exists():
            ask_if_much(indexer, paths)
        self.name = indexer.path.name
        self._stop = threading.Event()
        self._updates = watch(indexer, paths, self._stop)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="semsearch-watch")

    def start(self) -> None:
        """Begin with it."""
        self._thread.start()

    def _run(self) -> None:
        try:
            for done in self._updates:
                output.print_update(done, err=True)
        except BaseException as error:
            self._error = error
            signal.raise_signal(signal.SIGTERM)  # the server ends, and then tells

    def end(self) -> None:
        """Break off an update under way, and wait for the thread's end; raise what it failed with."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error:
            raise self._error


@click.command()
@indexes_option
@_names
@click.option(
    "--http", is_flag=True, help="Serve by HTTP, as many clients as come, instead of one by stdin and stdout."
)
@_address(8766)
@_threads
@_queue
@_model
@click.pass_context
def mcp(
    context: click.Context,
    indexes: Path,
    names: tuple[str, ...],
    http: bool,
    host: str,
    port: int,
    api_key: str | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    threads: int,
    queue: int,
    model: str | None,
) -> None:
    """Offer indexes to agents as tools of the Model Context Protocol: search, show, similar, list_indexes.

    The agent starts it, and speaks to it by stdin and stdout; with --http it is a server of its own, at /mcp. An index
    is opened when it is first asked for.
    """
    if not http:
        for name, option in (
            ("host", "--host"),
            ("port", "--port"),
            ("hosts", "--allow-host"),
            ("origins", "--allow-origin"),
        ):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{option} is of the server that --http starts; give --http, too")
    _share_processors()
    try:
        from semsearch.server.mcp import PATH, create_app, serve_stdio
        from semsearch.server.run import serve as run
    except ModuleNotFoundError as error:
        raise click.UsageError(f"this needs {error.name}; install it: pip install 'semsearch[mcp]'") from None
    from semsearch.server.searching import Searchers
    from semsearch.server.service import Service

    _check(host, api_key, indexes, names)
    service = Service(Searchers(indexes, names, model), threads=threads, waiting=queue)
    if not http:
        if sys.stdin.isatty():
            told = f"{_served(service, indexes)}, to an agent that speaks the protocol on stdin; Ctrl-D ends it"
            click.echo(f"serving {told}", err=True)
        serve_stdio(service)
        return
    with _listening(host, port, hosts) as (listening, allowed, address):
        app = create_app(service, hosts=allowed, origins=origins, api_key=api_key)
        run(app, listening, lambda: click.echo(f"serving {_served(service, indexes)} at {address}{PATH}", err=True))


def _share_processors() -> None:
    """Have NumPy use one thread for each request, before it is imported."""
    # Of many requests each has few multiplications, and several threads for one wait for those of another.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _check(host: str, api_key: str | None, indexes: Path, names: tuple[str, ...]) -> None:
    """See that others need a key, and that the indexes that are named are there."""
    from semsearch.server.run import is_loopback
    from semsearch.store.catalog import find_index

    if not is_loopback(host) and not api_key:
        raise click.UsageError(
            f"--host {host} lets other machines ask; give a key that they must bring, as SEMSEARCH_API_KEY or --api-key"
        )
    for name in names:
        find_index(indexes, name)


@contextmanager
def _listening(host: str, port: int, hosts: tuple[str, ...]) -> Iterator[tuple[socket.socket, list[str], str]]:
    """A socket that listens, the host names that requests may come by, and the address to tell people."""
    from semsearch.server.run import listen

    own = f"[{host}]" if ":" in host else host
    with listen(host, port) as listening:
        yield listening, _allowed(host, hosts), f"http://{own}:{listening.getsockname()[1]}"


def _allowed(host: str, hosts: tuple[str, ...]) -> list[str]:
    """The names that requests may come by to a server that listens on a host."""
    from semsearch.server.guard import LOOPBACK
    from semsearch.server.run import is_any

    own = f"[{host}]" if ":" in host else host
    return [*LOOPBACK, *hosts, "*" if is_any(host) else own]


def _served(service: Service, indexes: Path, coming: str | None = None) -> str:
    names = service.names()
    if coming and coming not in names:
        names.append(f"{coming} when it is made")
    return ", ".join(names) or f"nothing yet: semsearch index FOLDER adds to {indexes}"
