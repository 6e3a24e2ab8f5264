"""Starts, stops and follows the campaigns of one store. At most one runs: two would disturb each other's measurements.

Whoever starts a campaign takes the lock of the folder of campaigns and hands it to the campaign's process, which holds
it until it ends, however it ends. A server that is started later thus sees what still runs, and a number of a process
that was given away again is never taken for a campaign.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from fewmark.core.errors import InputError
from fewmark.core.files import write_file
from fewmark.core.processes import is_gone, process_identity
from fewmark.suites import suite_names
from fewmark.web.campaigns.folder import (
    END,
    LOG,
    NAME,
    PROCESS,
    SUITE,
    CampaignFolder,
    Request,
    State,
    campaign_folders,
)
from fewmark.web.settings import Settings
from fewmark.web.state import state_folder

LOCK: Final = "running"
TRIES: Final = 40  # a look at the lock holds it for a moment
BETWEEN_S: Final = 0.05
SECRETS: Final = ("FEWMARK_TOKEN", "FEWMARK_WRITE_TOKEN")


class Campaigns:
    """The campaigns of a store. Cheap to make: everything is in the folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = None if settings.store is None else state_folder(settings.store) / "campaigns"

    @property
    def may_start(self) -> bool:
        """Whether campaigns may be started from here."""
        return self.settings.allow_runs and self.folder is not None

    @cached_property
    def suites(self) -> dict[str, str]:
        """What each suite is loaded by that may be started by name: files named at the start, and the catalogue's."""
        return {Path(name).stem: name for name in self.settings.suites} | {name: name for name in suite_names()}

    def all(self) -> list[CampaignFolder]:
        """Every campaign, the newest first."""
        return [] if self.folder is None else list(campaign_folders(self.folder))

    def get(self, name: str) -> CampaignFolder:
        """One of them. Raises `InputError` if there is none of that name."""
        found = next((one for one in self.all() if one.name == name), None) if NAME.fullmatch(name) else None
        if found is None:
            raise InputError("there is no such campaign", got=name, hint="the page Live lists them")
        return found

    def state(self, campaign: CampaignFolder) -> State:
        """Whether it runs, has ended, or was killed before it could say how it ended."""
        if self.running() == campaign.name:
            return "running"
        return "ended" if campaign.end() is not None else "broken"

    def running(self) -> str | None:
        """The name of the one that runs."""
        lock = self._lock(make=False)
        if lock is not None:
            os.close(lock)
            return None
        assert self.folder is not None
        return (self.folder / LOCK).read_text(encoding="ascii") or None

    def start(self, request: Request, suite: str | None = None) -> CampaignFolder:
        """Start one; `suite` is the text of its own. Raises `InputError` if it may not be, or another runs."""
        self.require_permission()
        assert self.folder is not None
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        lock = self._taken(name)
        try:
            campaign = CampaignFolder(self.folder / name)
            campaign.path.mkdir(mode=0o700)
            if suite is not None:
                write_file(campaign.path / SUITE, suite)
            campaign.write_request(request)
            self._launch(campaign, lock)
        finally:
            os.close(lock)
        return campaign

    def go_on(self, campaign: CampaignFolder) -> None:
        """Start one again that was stopped or killed; what it measured counts. Raises as `start`."""
        self.require_permission()
        lock = self._taken(campaign.name)
        try:
            (campaign.path / END).unlink(missing_ok=True)
            self._launch(campaign, lock)
        finally:
            os.close(lock)

    def stop(self, campaign: CampaignFolder) -> None:
        """Ask one to stop; what is finished is kept. Nothing where it does not run."""
        self.require_permission()
        if self.running() != campaign.name:
            return
        try:
            identity = (campaign.path / PROCESS).read_text(encoding="utf-8")
        except OSError:
            return  # it is being started
        if not is_gone(identity):
            os.kill(int(identity.rsplit(" ", 2)[1]), signal.SIGTERM)

    def require_permission(self) -> None:
        """Raises `InputError` where none may be started."""
        if not self.may_start:
            raise InputError("this server starts no campaigns", hint="fewmark serve --allow-runs")

    def _taken(self, name: str) -> int:
        """The lock, for a campaign of that name."""
        for _ in range(TRIES):
            lock = self._lock(make=True)
            if lock is not None:
                os.truncate(lock, 0)
                os.pwrite(lock, name.encode(), 0)
                return lock
            time.sleep(BETWEEN_S)
        raise InputError("another campaign is running", got=self.running(), hint="stop it on the page Live first")

    def _lock(self, *, make: bool) -> int | None:
        """The lock's descriptor, or None where another process holds it; `make`: to start one."""
        import fcntl

        assert self.folder is not None
        if make:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return os.open(os.devnull, os.O_RDONLY)  # no folder: nothing was ever started
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if make else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _launch(self, campaign: CampaignFolder, lock: int) -> None:
        """Start the process with the lock in its hands, its output in its log, out of reach of the server's Ctrl-C."""
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        environment["FEWMARK_STORE"] = _absolute(str(self.settings.store))
        with (campaign.path / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fewmark.web.campaigns.process", str(campaign.path.resolve())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=[lock],
                start_new_session=True,
            )  # fmt: skip
        write_file(campaign.path / PROCESS, process_identity(process.pid))
        threading.Thread(target=process.wait, name="fewmark-campaign", daemon=True).start()


def _absolute(store: str) -> str:
    scheme, slashes, path = store.partition("sqlite:///")
    return f"{slashes}{Path(path).resolve()}" if not scheme and path else store
