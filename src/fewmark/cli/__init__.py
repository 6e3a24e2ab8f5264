"""The command line: parse, call, print. One command a verb, each imported only when it is used."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Final

from fewmark.cli.app import app
from fewmark.cli.terminal import printable_output
from fewmark.core.errors import FewmarkError, InputError


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Exit codes: 0 done; 1 something fell short; 2 the request was wrong."""
    if argv is None:
        _stop_once()
    with printable_output():
        code = _run(argv)
    if argv is None:
        sys.exit(code)
    return code


def _run(argv: list[str] | None) -> int:
    import click

    try:
        if argv is not None and any("\0" in word for word in argv):  # no shell can hand one over; a program can
            raise InputError("an argument holds no NUL", got=next(word for word in argv if "\0" in word))
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
        click.echo(f"interrupted: {_kept(argv)}", err=True)
        code = 128 + (_stopped_by or signal.SIGINT)
    except BrokenPipeError:
        code = 0
    except OSError as error:
        # What a verb reads and writes has errors of its own; what is left is standard output, on a full disk.
        _say(f"error: the output cannot be written\n  got:  {error.strerror or error}")
        code = 2
    except MemoryError:
        _say("error: this needs more memory than there is\n  hint: give it less at once, or run it on another machine")
        code = 2
    else:
        code = result if isinstance(result, int) else 0
    return _flushed(code)


_KEPT: Final = {
    "run": "each cell that was finished is in the store; run it again to go on",
    "demo": "each cell that was finished is in the demo's folder; run it again to go on",
    "import": "files that were said to be stored are, the others are not; import again, nothing is stored twice",
    "evaluate": "each protocol that was shown is written, where a file was named",
}


def _kept(argv: list[str] | None) -> str:
    """What a command that was stopped has left behind."""
    words = sys.argv[1:] if argv is None else argv
    return next((_KEPT[word] for word in words if word in _KEPT), "nothing was written")


def _flushed(code: int) -> int:
    """The exit code, once everything that was printed has been written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except (OSError, ValueError) as error:
        _say(f"error: the output cannot be written\n  got:  {getattr(error, 'strerror', None) or error}")
        code = 2
        with contextlib.suppress(OSError, ValueError):
            # Python would try once more at its end, and say so in its own words.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")


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
