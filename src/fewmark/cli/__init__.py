"""The command line: parse, call, print. One command a verb, each imported only when it is used."""

from __future__ import annotations

import signal
import sys

from fewmark.cli.app import app
from fewmark.core.errors import FewmarkError


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Exit codes: 0 done; 1 something fell short; 2 the request was wrong."""
    import click

    if argv is None:
        _stop_once()
    try:
        result = app.main(args=argv, prog_name="fewmark", standalone_mode=False)
    except FewmarkError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; everything measured so far is saved", err=True)
        code = 128 + (_stopped_by or signal.SIGINT)
    except BrokenPipeError:
        code = 0
    else:
        code = result if isinstance(result, int) else 0
    if argv is None:
        sys.exit(code)
    return code


_stopped_by = 0  # the signal that ended the work, if one did


def _stop_once() -> None:
    """The first Ctrl-C or SIGTERM stops the work; further ones do not disturb what is then being saved and closed."""

    def stop(number: int, frame: object) -> None:
        global _stopped_by
        _stopped_by = number
        for handled in heeded:
            signal.signal(handled, signal.SIG_IGN)
        raise KeyboardInterrupt

    # A signal that whoever started us wants ignored, or handles, is left alone.
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    heeded = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    for number in heeded:
        signal.signal(number, stop)
