"""The commands that serve others."""

from __future__ import annotations

from pathlib import Path

import click

from semsearch.cli.options import indexes_option
from semsearch.cli.output import printable
from semsearch.errors import SemsearchError


@click.command()
@indexes_option
@click.option("-i", "--index", "names", multiple=True, help="Serve this index; may be given more than once.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option(
    "--api-key",
    envvar="SEMSEARCH_API_KEY",
    show_envvar=True,
    help="What each request must bring; better by environment.",
)
@click.option("--allow-host", "hosts", multiple=True, help="A host name that requests may come to the server by.")
@click.option("--allow-origin", "origins", multiple=True, help="An origin whose pages may ask: https://example.org.")
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1), help="Requests worked on at once.")
@click.option(
    "--queue", default=256, show_default=True, type=click.IntRange(0), help="Requests that may wait; more are refused."
)
@click.option("--rerank", "reranker", metavar="MODEL", help="A cross-encoder that requests may ask for.")
@click.option("--model", help="Where the indexes' model is now, if it was moved.")
def serve(
    indexes: Path,
    names: tuple[str, ...],
    host: str,
    port: int,
    api_key: str | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    threads: int,
    queue: int,
    reranker: str | None,
    model: str | None,
) -> None:
    """Serve indexes by HTTP: all of the folder, or those that are named.

    GET /api/search?query=... searches; /docs describes all there is. Another host than this machine's own needs an API
    key. SIGTERM finishes what is under way.
    """
    try:
        from semsearch.server.app import create_app
        from semsearch.server.run import is_any, is_loopback, listen
        from semsearch.server.run import serve as run
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the server needs {error.name}; install it: pip install 'semsearch[server]'") from None
    from semsearch.server.guard import LOOPBACK
    from semsearch.server.service import Service
    from semsearch.store.catalog import find_index

    if not is_loopback(host) and not api_key:
        raise click.UsageError(
            f"--host {host} lets other machines ask; give a key that they must bring, as SEMSEARCH_API_KEY or --api-key"
        )
    for name in names:
        find_index(indexes, name)
    service = Service(indexes, names, model=model, reranker=reranker, threads=threads, waiting=queue)
    for name in service.names():  # opened now, so that the first request need not wait for it
        try:
            service.searcher(name).search("ready", k=1)
        except SemsearchError as error:
            if names:
                raise
            click.echo(f"{click.style('warning', fg='yellow')}: {printable(str(error))}", err=True)
    own = f"[{host}]" if ":" in host else host
    allowed = [*LOOPBACK, *hosts, "*" if is_any(host) else own]
    with listen(host, port) as listening:
        address = f"http://{own}:{listening.getsockname()[1]}"
        app = create_app(service, hosts=allowed, origins=origins, api_key=api_key)
        served = ", ".join(service.names()) or f"nothing yet: semsearch index FOLDER adds to {indexes}"
        run(app, listening, lambda: click.echo(f"serving {served} at {address}", err=True))
