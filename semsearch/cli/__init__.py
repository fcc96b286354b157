"""The command line: parse, call, print."""

from __future__ import annotations

import gc
import os
import sys

import click

from semsearch.cli.commands import cli
from semsearch.cli.output import printable
from semsearch.errors import InvalidInputError, SemsearchError

_USAGE, _ERROR, _INTERRUPTED = 2, 3, 130


def main() -> None:
    """Run `semsearch`; every error is one line on stderr, and tells by its exit code what kind it is."""
    code = _run()
    if code == _INTERRUPTED:
        # After an interruption Python's own exit now and then ends by the signal instead of by the code.
        os._exit(code)
    # Python looks through all objects when it ends, a tenth of the time of a query; what there is to close is closed.
    gc.freeze()
    sys.exit(code)


def _run() -> int:
    try:
        # Not cli.main(): it prints a line of its own before an interruption gets here.
        with cli.make_context("semsearch", sys.argv[1:]) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as done:  # --help and --version end so
        return done.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "semsearch"
        return _fail(f"{error.format_message()} (see: {path} --help)", _USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), _USAGE)
    except InvalidInputError as error:
        return _fail(str(error), _USAGE)
    except SemsearchError as error:
        return _fail(str(error), _ERROR)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; what was committed before is as it was", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, `| head` say: not an error, and there is nowhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f": {error.filename!r}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", _ERROR)


def _fail(message: str, code: int) -> int:
    # A name that stands in it may hold what steers a terminal, or is no character.
    line = printable(" ".join(message.split()))
    click.echo(f"{click.style('error', fg='red')}: {line}", err=True)
    return code
