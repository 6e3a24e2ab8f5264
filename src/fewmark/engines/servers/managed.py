"""A deployment's own server: its model made ready, its command filled in, started, restarted and stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fewmark.core import Deployment
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import without_secrets
from fewmark.engines.base import CaseFailure
from fewmark.engines.checkpoints.folder import write_folder
from fewmark.engines.checkpoints.gguf import TYPES, write_random
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.checkpoints.source import model_source, unsupported
from fewmark.engines.environments.folders import environment_python
from fewmark.engines.servers.kinds import ServerKind
from fewmark.engines.servers.options import ServerOptions
from fewmark.engines.servers.process import ServerProcess, free_port
from fewmark.engines.servers.reasons import is_port_taken

HOST: Final = "127.0.0.1"
PORT_ATTEMPTS: Final = 3
MOST_RESTARTS: Final = 3  # one after the other without a request that was answered
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class _Model:
    """What the server is told to serve; the folder of its tokenizer and its vocabulary, where they are known."""

    argument: str
    is_local: bool = False
    is_random: bool = False
    tokenizer: Path | None = None
    vocabulary: int | None = None
    context: int | None = None


class ManagedServer:
    """The server of a deployment.

    Parameters
    ----------
    deployment : Deployment
    given : Mapping
        Its engine options.
    options : ServerOptions
        What they say of the server.
    folder : Path
        For the model, where only its shape is known.
    key : str or None
        Handed to the server by its own variable.
    """

    def __init__(
        self,
        deployment: Deployment,
        given: JsonObject,
        options: ServerOptions,
        folder: Path,
        key: str | None,
        mask: Callable[[str], str] = without_secrets,
    ) -> None:
        self.kind = options.kind
        self._deployment, self._options, self._mask = deployment, options, mask
        self._key = key
        self._process: ServerProcess | None = None
        self._port = self.n_starts = self._restarts = 0
        self.start_s = 0.0
        if key is not None and self.kind.key_variable is None and "command" not in given:
            raise unsupported(f"{self.kind.name} takes its key from no variable: start it yourself, and give its url")
        self.model = _prepare(deployment, given, self.kind, folder)
        self._names = self._programs()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self._port}"

    @property
    def name(self) -> str:
        """What its model is served as."""
        served = any("{name}" in word for word in self.kind.command)
        return self._deployment.model if served else self.model.argument

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.is_alive

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is ready. Raises `CaseFailure` with what its log says."""
        began = time.perf_counter()
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.stop()  # what is left of one that is gone
            self._port = free_port()
            self._process = ServerProcess(self._command(), self._environment(), self.kind.name, self._mask)
            try:
                self._process.wait_until(is_ready, self._options.start_timeout_s)
                break
            except CaseFailure:
                if attempt == PORT_ATTEMPTS or not is_port_taken(self._process.tail()):
                    raise
        self.n_starts += 1
        self.start_s = time.perf_counter() - began

    def ensure(self, is_ready: Callable[[], bool]) -> None:
        """Start it again if it is gone. Raises `CaseFailure`, also where it goes whenever it was started."""
        if self.is_alive:
            return
        if self._restarts >= MOST_RESTARTS:
            raise self.failure()
        self._restarts += 1
        self.start(is_ready)

    def answered(self) -> None:
        """It has answered a request: what happens next is no start that fails again."""
        self._restarts = 0

    def failure(self) -> CaseFailure:
        """Why it is gone."""
        if self._process is None:
            return unsupported("the server was not started")
        return self._process.failure()

    def stop(self) -> None:
        """Stop it and what came of it."""
        if self._process is not None:
            self._process.stop()

    def facts(self) -> dict[str, Json]:
        """What was started: JSON values."""
        log = None if self._process is None else self._process.log
        return {
            "server": self.kind.name,
            "server_command": [self._mask(word) for word in self._command()],
            "server_start_s": round(self.start_s, 3),
            "server_log": None if log is None else str(log),
            "weights": "random" if self.model.is_random else None,
        }

    def _command(self) -> list[str]:
        known = {"model": self.model.argument, "name": self._deployment.model, "host": HOST, "port": str(self._port)}
        words = [_filled(word, {**self._names, **known}) for word in self.kind.command]
        flags = self.kind.flags
        if (precision := self._deployment.precision) is not None and "precision" in flags:
            words += [flags["precision"], self.kind.precisions.get(precision, precision)]
        if (size := self._deployment.tensor_parallel_size) is not None and "tensor_parallel_size" in flags:
            words += [flags["tensor_parallel_size"], str(size)]
        if self.model.is_random and "random" in flags:
            words += flags["random"].split()
        return [*words, *self._options.arguments]

    def _environment(self) -> dict[str, str]:
        out = {**self.kind.environment, **(OFFLINE if self.model.is_local else {}), **self._options.environment}
        if self._key is not None and self.kind.key_variable is not None:
            out[self.kind.key_variable] = self._key
        return out

    def _programs(self) -> dict[str, str]:
        """The interpreter and the program, found where they are installed."""
        text, kind, options = " ".join(self.kind.command), self.kind, self._options
        own = environment_python(kind.engine) if kind.engine is not None else None
        found: dict[str, str] = {}
        if "{python}" in text:
            here = all(importlib.util.find_spec(module) is not None for module in kind.modules)
            chosen = options.python or (str(own) if own is not None else sys.executable if here else None)
            if chosen is None:
                raise unsupported(f"the server {kind.name} is not installed here: {kind.install}")
            found["python"] = chosen
        if "{program}" in text:
            program = options.program or _program(kind.program or "", own)
            if program is None:
                raise unsupported(f"there is no program {kind.program} here: {kind.install}")
            found["program"] = program
        return found


def _filled(word: str, known: Mapping[str, str]) -> str:
    """The word with the names in braces that are known; other braces stay (a JSON value may hold some)."""
    for name, value in known.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _program(name: str, own: Path | None) -> str | None:
    for beside in (own, Path(sys.executable)):
        if beside is not None and os.access(path := beside.with_name(name), os.X_OK):
            return str(path)
    return shutil.which(name)


def _prepare(deployment: Deployment, given: JsonObject, kind: ServerKind, folder: Path) -> _Model:
    """Make the model ready. A name that is no shape and no path is the server's to find."""
    model, path = deployment.model, Path(deployment.model)
    if not any("{model}" in word for word in kind.command):
        return _Model(model)
    if path.is_file() and path.suffix == ".gguf":
        return _Model(str(path.absolute()), is_local=True)
    if model not in SHAPES and "config" not in given and not path.exists():
        return _Model(model)
    source = model_source(model, given)
    vocabulary, context = source.fields.get("vocab_size"), source.fields.get("max_position_embeddings")
    if source.checkpoint is not None:
        place = source.checkpoint.absolute()
        has = (place / "tokenizer.json").is_file()
        return _Model(str(place), True, tokenizer=place if has else None, vocabulary=vocabulary, context=context)
    precision = (deployment.precision or "fp32").lower()
    if precision not in TYPES:
        raise unsupported(f"random weights are fp32, fp16 or bf16, not {deployment.precision!r}")
    tokenizer = None
    try:
        if kind.weights == "gguf":
            write_random(folder / "model.gguf", source.fields, precision)
            place = folder / "model.gguf"
        else:
            place = tokenizer = write_folder(folder, source.fields, precision, weights=kind.weights == "folder")
    except KeyError as error:
        raise unsupported(f"no random weights of this configuration: {error}") from None
    except OSError as error:
        raise unsupported(f"the model cannot be written: {error}") from None
    return _Model(str(place), True, True, tokenizer, vocabulary, context)
