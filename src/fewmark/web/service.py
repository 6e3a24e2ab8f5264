"""What the routes share: the settings, and the knowledge, which is loaded beside the first requests."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from fewmark.core.errors import FewmarkError
from fewmark.web.settings import Settings
from fewmark.web.state import state_folder

if TYPE_CHECKING:
    from fewmark.web.knowledge import Knowledge


class Service:
    """One server's. Imports of a few seconds, and the first fit, happen in a thread, so that it answers at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._knowledge: Future[Knowledge] = Future()
        self._started = threading.Lock()
        self.recovered: list[str] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to load; once."""
        with self._started:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load, name="fewmark-load", daemon=True)
                self._thread.start()

    def knowledge(self) -> Knowledge:
        """The knowledge; waits until it is loaded. To be called in a thread."""
        self.start()
        return self._knowledge.result()

    @property
    def uploads(self) -> Path:
        """The folder of uploads on their way into the store."""
        assert self.settings.store is not None
        return state_folder(self.settings.store) / "uploads"

    @property
    def is_ready(self) -> bool:
        """Whether the measurements have been read."""
        return self.loaded is not None and self.loaded.is_ready

    @property
    def loaded(self) -> Knowledge | None:
        """The knowledge, where it is loaded by now."""
        done = self._knowledge.done() and self._knowledge.exception() is None
        return self._knowledge.result() if done else None

    def close(self) -> None:
        """Close the store."""
        if self.loaded is not None:
            self.loaded.close()

    def _load(self) -> None:
        try:
            from fewmark.web.knowledge import Knowledge

            knowledge = Knowledge(self.settings)
        except BaseException as error:
            self._knowledge.set_exception(error)
            return
        self._knowledge.set_result(knowledge)  # what was left is imported beside the first requests
        if self.settings.store is not None:
            self._recover(knowledge)
        try:
            snapshot = knowledge.now()
            if snapshot.targets:  # the first page asks for it
                knowledge.fitted(snapshot.targets[0], snapshot)
        except FewmarkError:
            pass  # told to whoever asks

    def _recover(self, knowledge: Knowledge) -> None:
        """Import the uploads that a server before this one did not come to the end of."""
        from fewmark.web.inbox import left_uploads
        from fewmark.web.intake import import_uploads, uploaded

        def take(folder: Path) -> int:
            return sum(file.n_added for file in import_uploads(knowledge, uploaded(folder), folder))

        self.recovered += left_uploads(self.uploads, take)
