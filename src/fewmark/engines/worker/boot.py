"""Starts a worker in any interpreter, on any host, from source text that arrives on standard input.

The parent runs ``PYTHON -c COMMAND`` behind whatever prefix, and writes one line: this file's text and the sources of
`fewmark.core` and `fewmark.engines`. Nothing is installed and no file is written on the other side. This file must
be readable by any Python 3, so that an old one can say that it is too old.
"""

import importlib.abc
import importlib.util
import json
import sys

COMMAND = (
    "import json,sys;m=json.loads(sys.stdin.buffer.readline());g={'__name__':'fewmark_boot'};"
    "exec(m['boot'],g);g['start'](m)"
)


class SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from a mapping of dotted name to (is a package, source text)."""

    def __init__(self, sources):  # type: ignore[no-untyped-def]
        self.sources = sources

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        if fullname not in self.sources:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=self.sources[fullname][0])

    def get_source(self, fullname):  # type: ignore[no-untyped-def]
        return self.sources[fullname][1]

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        name = module.__name__
        exec(compile(self.sources[name][1], "<worker>/" + name.replace(".", "/"), "exec"), module.__dict__)


def start(message):  # type: ignore[no-untyped-def]
    """Install the sources that the parent sent and serve its requests."""
    if sys.version_info < (3, 11):  # noqa: UP036 (an older one does get here)
        error = "a worker needs Python 3.11 or newer, not " + sys.version.split()[0]
        sys.stdout.write(json.dumps({"fewmark": 1, "event": "refused", "error": error}) + "\n")
        sys.exit(1)
    sys.meta_path.insert(0, SourceFinder(message["sources"]))  # type: ignore[no-untyped-call]
    sys.path[:] = [entry for entry in sys.path if entry]  # an import must not find files of the working directory
    from fewmark.engines.worker.program import serve

    sys.exit(serve(message.get("lease_s")))
