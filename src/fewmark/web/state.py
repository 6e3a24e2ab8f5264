"""The folder beside a store where a server keeps what must outlive it: uploads on their way, and campaigns."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Final

SQLITE: Final = "sqlite:///"
SUFFIX: Final = ".serve"


def state_folder(store: str) -> Path:
    """``fewmark.db.serve`` beside an SQLite store; for what else is served a folder of the user's, one for each."""
    path = store.removeprefix(SQLITE).partition("?")[0]
    if store.startswith(SQLITE) and path not in ("", ":memory:"):
        return Path(path + SUFFIX)
    base = os.environ.get("XDG_STATE_HOME")
    where = Path(base) if base else Path.home() / ".local" / "state"
    return where / "fewmark" / "serve" / blake2b(store.encode(), digest_size=8).hexdigest()
