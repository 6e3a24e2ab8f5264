"""`fewmark serve`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command("serve")
@click.argument("source", required=False, metavar="[STORE_OR_FILE]")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; any but loopback needs a token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8484, show_default=True, help="0 for any free one.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further name of this server. Repeatable.")
@click.option("--model", default="auto", show_default=True, help="Model that predicts unmeasured cells.")
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Whether to add public measurements of similar deployments to small tables.",
)
@click.option(
    "--allow-runs",
    is_flag=True,
    help="Let whoever may append start campaigns on this machine: catalogue suites, and what was run before.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="FILE",
    help="With --allow-runs, a further suite that may be started. Repeatable.",
)
@click.option("--mcp", is_flag=True, help="Speak MCP on standard input and output, for an assistant; read-only.")
@click.option(
    "--rate-limit",
    type=float,
    metavar="N",
    help="Requests per second of one client.  [default: 50 if not on this machine]",
)
def command(
    source: str | None,
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    model: str,
    prior: bool,
    allow_runs: bool,
    suites: tuple[str, ...],
    mcp: bool,
    rate_limit: float | None,
) -> None:
    """Serve the app and the API on a store, on a result file, or on a packaged dataset.

    A store also accepts new measurements. To serve other machines, set FEWMARK_TOKEN: clients that send it may read,
    and those that send FEWMARK_WRITE_TOKEN may also append.
    """
    try:
        from fewmark.web.server import serve
    except ModuleNotFoundError as error:
        from fewmark.core.errors import InputError

        raise InputError(
            "fewmark serve needs the extra web", got=error.name, hint="pip install 'fewmark[web]'"
        ) from None
    from fewmark.web.settings import LOCAL_HOSTS, Limits, Settings, is_loopback

    store, data = _source(source)
    if (allow_runs or suites) and store is None:
        raise click.UsageError("campaigns measure into a store: --allow-runs needs one")
    if suites and not allow_runs:
        raise click.UsageError("--suite goes with --allow-runs")
    if suites:
        from fewmark.suites import load_suite

        for suite in suites:
            load_suite(suite)  # what is wrong with it is said now
    limit = rate_limit if rate_limit is not None else 0.0 if is_loopback(host) else 50.0
    settings = Settings(
        store=store, data=data, model=model, prior=prior, hosts=(*LOCAL_HOSTS, host, *allow_host),
        read_token=os.environ.get("FEWMARK_TOKEN"), write_token=os.environ.get("FEWMARK_WRITE_TOKEN"),
        allow_runs=allow_runs, suites=tuple(str(Path(suite).resolve()) for suite in suites),
        limits=Limits(requests_per_s=limit),
    )  # fmt: skip
    try:
        if mcp:
            from fewmark.web.mcp import make_server

            make_server(settings).run()
            return
        from fewmark.web.server import serve
    except ModuleNotFoundError as error:
        from fewmark.core.errors import InputError

        extra = "web,mcp" if mcp else "web"
        hint = f"pip install 'fewmark[{extra}]'"
        raise InputError(f"fewmark serve needs the extra {extra}", got=error.name, hint=hint) from None
    serve(settings, host, port, started=lambda url: click.echo(f"fewmark is at {url}  (Ctrl-C stops it)", err=True))


def _source(source: str | None) -> tuple[str | None, str | None]:
    """The store's URL, or the file: what begins as SQLite, or is named as a store is, is one."""
    from fewmark.core.errors import InputError

    if source is None or "://" in source:
        return source or os.environ.get("FEWMARK_STORE", "sqlite:///fewmark.db"), None
    path = Path(source)
    if path.is_file():
        with path.open("rb") as stream:
            is_store = stream.read(16) == b"SQLite format 3\x00" or path.stat().st_size == 0
        return (f"sqlite:///{path}", None) if is_store else (None, source)
    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        return f"sqlite:///{path}", None
    from fewmark import datasets

    if source in datasets.names():
        return None, source
    hint = f"a store (fewmark.db, sqlite:///…, postgresql://…), a result file, or one of {', '.join(datasets.names())}"
    raise InputError("there is no such store or file", got=source, hint=hint)
