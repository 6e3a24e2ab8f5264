"""The engine `openai`: a server of the OpenAI protocol, running elsewhere or started here.

`fewmark.engines.openai.options` and `fewmark.engines.servers.options` say which engine options there are,
`fewmark.engines.openai.traffic` which workload options.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fewmark.core import Deployment, InputError, Sample, Status, Workload
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import without_secrets
from fewmark.engines.base import Availability, CaseFailure, Effort, Window
from fewmark.engines.checkpoints.source import check_single, unsupported
from fewmark.engines.openai.abandoned import MAX_SETTLE_S, count_abandoned, wait_until_idle
from fewmark.engines.openai.account import make_facts, make_sample, remedies
from fewmark.engines.openai.asking import (
    ask,
    authorization,
    context_length,
    counters,
    read_key,
    root_url,
    served_models,
    server_version,
)
from fewmark.engines.openai.batch import run_batch
from fewmark.engines.openai.failures import failure_of, is_cut
from fewmark.engines.openai.options import ClientOptions, Given, default_ids, read_client_options
from fewmark.engines.openai.traffic import MadePrompt, check_traffic, make_traffic
from fewmark.engines.servers.managed import ManagedServer
from fewmark.engines.servers.options import is_managed, read_server_options
from fewmark.engines.worker.scratch import temporary_folder
from fewmark.load.cache_reset import reset_by_command, reset_by_request
from fewmark.load.client import LoadError, run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.goodput import Tier
from fewmark.load.mixes import RequestMix, Segment
from fewmark.load.plans import BodyOptions, make_plans
from fewmark.load.prompts import PromptMaker, TextPrompts, TokenIdPrompts, overhead_from_usage
from fewmark.load.records import FINISHED, LoadResult, RequestPlan, RequestRecord
from fewmark.load.request_metrics import e2e_latency_s
from fewmark.load.server_metrics import compare_with_server, requests_in_flight
from fewmark.load.settings import LoadSettings
from fewmark.load.statistics import run_statistics
from fewmark.load.validity import Thresholds, judge

GREETING_TOKENS: Final = 32
GREETING_S: Final = 300.0
WARM_UP_STREAMS: Final = 16
WARM_UP_TOKENS: Final = 16


class OpenAIEngine:
    """Closed and open loops, and static batches, on a server of the OpenAI protocol."""

    def __init__(self) -> None:
        self._server: ManagedServer | None = None
        self._endpoint: Endpoint | None = None
        self._options: ClientOptions
        self._body: BodyOptions
        self._prompts: PromptMaker
        self._folder: Path | None = None
        self._context: int | None = None
        self._latency_s: dict[tuple[float, float], float] = {}
        self._saturated: dict[tuple[object, ...], float] = {}
        self._reset: str | None = None
        self._stands_in: str | None = None
        self._n_abandoned = 0
        self._facts: dict[str, Json] = {}

    @classmethod
    def probe(cls) -> Availability:
        """Always available: what a server needs, it says when it is started."""
        return Availability(True)

    def load(self, deployment: Deployment) -> None:
        """Start the server, or find it, and ask it once. Raises `CaseFailure`."""
        given = thaw(deployment.engine_options)
        check_single(given, "openai")
        self._options = options = read_client_options(given)
        if is_managed(given):
            self._folder = temporary_folder("server")
            key, mask = read_key(options.endpoint("http://127.0.0.1"))
            self._server = ManagedServer(deployment, given, read_server_options(given), self._folder, key, mask)
            self._server.start(self._is_ready)
            self._context = self._server.model.context
        else:
            assert options.url is not None
            self._endpoint = options.endpoint(options.url)
            read_key(self._endpoint)
        self._body = options.body(self._served_model(deployment), self._takes_ignore_eos(), self._extra_body())
        self._prompts = self._prompt_maker()
        self._greet()
        room = context_length(self._where(), self._body.model)
        self._context = min((n for n in (self._context, room) if n is not None), default=None)
        self._reset = self._reset_route()
        found = self._server.facts() if self._server is not None else {"url": root_url(self._where())}
        told = {
            "engine_version": server_version(self._where()),
            "served_model": self._body.model,
            "route": self._body.route,
            "ignore_eos": self._body.ignore_eos,
            "prompts": "ids" if isinstance(self._prompts, TokenIdPrompts) else "text",
            "prompt_overhead_tokens": getattr(self._prompts, "overhead_tokens", None),
        }
        self._facts |= {name: value for name, value in (found | told).items() if value is not None}

    def check(self, workload: Workload) -> None:
        """Refuse what the server has no room for, and rates beyond one that was too much for it."""
        check_traffic(workload)
        n_in, n_out = workload.input_tokens, workload.output_tokens
        if self._context is not None and n_in + n_out > self._context and not workload.options:
            raise unsupported(
                f"{n_in:g} input and {n_out:g} output tokens exceed the context of {self._context} tokens; a server "
                f"cuts such answers short"
            )
        beyond = self._saturated.get(_shape(workload))
        if beyond is not None and workload.request_rate is not None and workload.request_rate >= beyond:
            raise CaseFailure(
                Status.INVALID, f"not sent: at {beyond:g} requests/s the server was over-saturated before"
            )

    def run(self, workload: Workload, *, seed: int) -> Sample:
        """A static batch, all of its requests at once; or one window of a loop."""
        if workload.batch_size is not None:
            self._settle()
            self._require_server()
            return run_batch(workload, self._plans(workload, seed), self._where(), self._options.transport)
        window = self.window(workload, Effort(), seed=seed)
        if not window.is_valid or window.sample is None:
            raise CaseFailure(Status.INVALID, "; ".join(window.reasons))
        return window.sample

    def window(self, workload: Workload, effort: Effort, *, seed: int) -> Window:
        """One window: warmed up, driven, judged, with the server's own counters beside. Raises `CaseFailure`."""
        costs: dict[str, float] = {}
        if (took := self._settle()) is not None:
            costs["settle_s"] = took
        self._require_server()
        began = time.perf_counter()
        if effort.warm_up:
            self._warm_up(workload, effort, seed)
            costs["warm_up_s"] = time.perf_counter() - began
        if (took := self._empty_cache()) is not None:
            costs["cache_reset_s"] = took
        endpoint, tiers = self._where(), [Tier(f"tier {n}", limits) for n, limits in enumerate(effort.tiers, 1)]
        latency_s = self._latency_s.get((workload.input_tokens, workload.output_tokens))
        traffic = make_traffic(workload, effort, seed, latency_s, self._options.transport)
        before = counters(endpoint, self._options.metrics)
        plans = make_plans(traffic.specs, self._prompts.fresh(), self._body, traffic.send_times)
        result = self._drive(plans, traffic.settings)
        after = counters(endpoint, self._options.metrics) if before is not None else None
        self._require_answers(result)
        shares = any(workload.options.get(name) for name in ("shared_prefix_share", "turns", "trace"))
        report = None if before is None or after is None else compare_with_server(before, after, result, shares)
        statistics = run_statistics(result, workload.concurrency, tiers)
        verdict = judge(result, statistics, workload.concurrency, _thresholds(effort), traffic.thinks)
        if statistics.saturation.oversaturated and workload.request_rate is not None:
            shape = _shape(workload)
            self._saturated[shape] = min(workload.request_rate, self._saturated.get(shape, workload.request_rate))
        return Window(
            make_sample(result, statistics),
            verdict.is_valid,
            tuple(reason.message for reason in verdict.reasons if reason.is_fatal),
            () if verdict.is_valid else remedies(verdict),
            make_facts(result, statistics, verdict, report, self._stands_in) | _set(effort),
            costs,
        )

    def close(self) -> None:
        """Stop the server that was started, and remove what was written for it."""
        if self._server is not None:
            self._server.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def environment(self) -> JsonObject:
        """The server, its version, and how it is asked."""
        held = self._server.facts() if self._server is not None else {}
        return self._facts | {name: value for name, value in held.items() if value is not None}

    def _where(self) -> Endpoint:
        if self._server is not None:
            return self._options.endpoint(self._server.url)
        assert self._endpoint is not None
        return self._endpoint

    def _is_ready(self) -> bool:
        assert self._server is not None
        return ask(self._where(), self._server.kind.ready).is_ok

    def _require_server(self) -> None:
        """The server is there, started again where it was one of ours and is gone."""
        if self._server is not None:
            self._server.ensure(self._is_ready)

    def _served_model(self, deployment: Deployment) -> str:
        if self._options.served_model is not None:
            return self._options.served_model
        if self._server is not None:
            return self._server.name
        served = served_models(self._where())
        if len(served) != 1 or deployment.model in served:
            return deployment.model
        self._stands_in = (
            f"the server lists one model alone, {served[0]!r}, and was asked for that in place of "
            f"{deployment.model!r}: engine_options.served_model says what it calls a model"
        )
        return served[0]

    def _takes_ignore_eos(self) -> bool:
        if self._options.ignore_eos is not None:
            return self._options.ignore_eos
        return self._server is None or self._server.kind.takes_ignore_eos

    def _extra_body(self) -> JsonObject:
        return {} if self._server is None else self._server.kind.extra_body

    def _prompt_maker(self) -> PromptMaker:
        options, server = self._options, self._server
        by_ids = options.route == "completions" and (server is None or server.kind.takes_ids)
        if (options.prompts or ("ids" if by_ids else "text")) == "ids":
            if options.route == "chat":
                raise unsupported("the chat route takes no token ids: give a tokenizer")
            vocabulary = None if server is None else server.model.vocabulary
            return TokenIdPrompts(options.ids or default_ids(vocabulary))
        return self._text_prompts()

    def _text_prompts(self) -> TextPrompts:
        tokenizer = self._options.tokenizer
        if tokenizer is None and self._server is not None and self._server.model.tokenizer is not None:
            tokenizer = str(self._server.model.tokenizer)
        if tokenizer is None:
            raise unsupported("prompts of an exact length as text need a tokenizer: the path of a tokenizer.json")
        try:
            return TextPrompts(Path(tokenizer))
        except InputError as error:
            raise unsupported(" ".join(str(error).split())) from None

    def _greet(self) -> None:
        """Ask once: whether the server answers, takes what every request says, and what it adds to prompts."""
        result, n_prompt = self._ask_once()
        while (failure := self._failure(result)) is not None:
            if failure.status is not Status.UNSUPPORTED or not self._asks_less(failure.reason):
                raise failure
            result, n_prompt = self._ask_once()
        usage = result.records[0].prompt_tokens
        if isinstance(self._prompts, TextPrompts) and usage is not None:
            self._prompts.overhead_tokens = usage - n_prompt
        if usage is None:
            self._facts["usage"] = "none: tokens cannot be counted"

    def _ask_once(self) -> tuple[LoadResult, int]:
        prompt = self._prompts.fresh().make((Segment("greeting", GREETING_TOKENS),))
        maker = MadePrompt(prompt)
        [plan] = make_plans([next(RequestMix.of(GREETING_TOKENS, 1).requests())], maker, self._body)
        settings = LoadSettings(1, workers=0, stall_timeout_s=GREETING_S, request_timeout_s=GREETING_S)
        return self._drive([plan], settings), GREETING_TOKENS - overhead_from_usage(prompt, GREETING_TOKENS)

    def _asks_less(self, refusal: str) -> bool:
        """Leave away what the server has refused; whether there was anything."""
        said = refusal.lower()
        if self._body.ignore_eos and self._options.ignore_eos is None and "ignore_eos" in said:
            self._body = self._options.body(self._body.model, False, self._extra_body())
            return True
        if isinstance(self._prompts, TokenIdPrompts) and self._options.prompts is None and "prompt" in said:
            self._prompts = self._text_prompts()
            return True
        return False

    def _warm_up(self, workload: Workload, effort: Effort, seed: int) -> None:
        """Rounds of short requests; what they take tells how long a request of the workload is."""
        streams = min(workload.concurrency or 1, WARM_UP_STREAMS)
        n_out = int(min(workload.output_tokens, WARM_UP_TOKENS))
        mix = RequestMix.of(int(workload.input_tokens), n_out)
        specs = [spec for spec, _ in zip(mix.requests(seed), range(streams * effort.warm_up), strict=False)]
        limit_s = max((effort.limit_s or 900.0) / 2, 1.0)
        settings = LoadSettings(
            streams, workers=0, duration_s=limit_s, drain_s=limit_s, stall_timeout_s=limit_s, request_timeout_s=limit_s,
            transport=self._options.transport,
        )  # fmt: skip
        result = self._drive(make_plans(specs, self._prompts.fresh(), self._body), settings)
        self._require_answers(result)
        self._note_latency(workload, result.records, n_out)

    def _note_latency(self, workload: Workload, records: Iterable[RequestRecord], n_out: int) -> None:
        known = [r for r in records if r.status in FINISHED and e2e_latency_s(r) is not None]
        if not known:
            return
        e2e = sum(e2e_latency_s(r) or 0.0 for r in known) / len(known)
        first = min((r.first_chunk_s or 0.0) - (r.send_s or 0.0) for r in known) if known[0].first_chunk_s else 0.0
        decode_s = (e2e - first) / max(n_out - 1, 1) * max(workload.output_tokens - 1, 0)
        self._latency_s[workload.input_tokens, workload.output_tokens] = first + decode_s

    def _plans(self, workload: Workload, seed: int) -> list[RequestPlan]:
        mix = RequestMix.of(int(workload.input_tokens), int(workload.output_tokens))
        specs = [spec for spec, _ in zip(mix.requests(seed), range(workload.sequences), strict=False)]
        return list(make_plans(specs, self._prompts.fresh(), self._body))

    def _settle(self) -> float | None:
        """Wait until the server has ended what was abandoned; seconds that it took, None where nothing was."""
        if not self._n_abandoned:
            return None
        began, self._n_abandoned = time.perf_counter(), 0
        endpoint, route = self._where(), self._options.metrics

        def in_flight() -> float | None:
            found = counters(endpoint, route)
            return None if found is None else requests_in_flight(found)

        is_idle = wait_until_idle(in_flight, self._ask_once)
        if is_idle is None and self._server is None:
            time.sleep(min(max(self._latency_s.values(), default=0.0), MAX_SETTLE_S))
            self._facts["abandoned_requests"] = "may run on: the server does not tell what it works at"
        elif not is_idle and self._server is not None:
            self._server.stop()  # what it may still work at ends with it
        elif not is_idle:
            self._facts["abandoned_requests"] = f"still run after {MAX_SETTLE_S:g} s"
        return time.perf_counter() - began

    def _drive(self, plans: Iterable[RequestPlan], settings: LoadSettings) -> LoadResult:
        try:
            result = run_load(plans, self._where(), settings)
        except InputError as error:
            raise unsupported(" ".join(str(error).split())) from None
        except LoadError as error:
            raise CaseFailure(Status.INVALID, " ".join(str(error).split())) from None
        self._n_abandoned += count_abandoned(result.records)
        return result

    def _require_answers(self, result: LoadResult) -> None:
        """Raise the failure that all requests share, or that the server has gone meanwhile."""
        failure = self._failure(result)
        if failure is not None:
            raise failure
        if self._server is not None:
            self._server.answered()

    def _failure(self, result: LoadResult) -> CaseFailure | None:
        failure, server = failure_of(result.records, root_url(self._where())), self._server
        if server is not None and not server.is_alive:
            return server.failure()
        if server is not None and failure is not None and failure.status is Status.TIMEOUT:
            server.stop()  # whatever it hangs in, the next case would wait for it as well
        if failure is None and server is None and is_cut(result.records) and not self._answers():
            return CaseFailure(Status.CRASHED, "the server went away while it was measured")
        return failure

    def _answers(self) -> bool:
        return ask(self._where(), "/v1/models").status is not None

    def _reset_route(self) -> str | None:
        chosen = self._options.cache_reset
        if chosen is False:
            return None
        if isinstance(chosen, str):
            return chosen
        return None if self._server is None else self._server.kind.reset

    def _empty_cache(self) -> float | None:
        """Seconds that it took; None where nothing is to be emptied."""
        command, began = self._options.cache_reset_command, time.perf_counter()
        if self._reset is None and command is None:
            return None
        try:
            if command is not None:
                done = reset_by_command(command)
            else:
                assert self._reset is not None
                endpoint = self._where()
                done = reset_by_request(endpoint.url, self._reset, authorization(endpoint))
        except InputError as error:
            raise unsupported(" ".join(str(error).split())) from None
        if not done.ok:
            self._facts["cache_reset"] = without_secrets(done.detail)
            self._reset = None
        return time.perf_counter() - began


def _thresholds(effort: Effort) -> Thresholds:
    given: Given = effort.thresholds
    return Thresholds(**given)


def _set(effort: Effort) -> dict[str, Json]:
    """What was set of the verdict."""
    return {"thresholds": dict(effort.thresholds)} if effort.thresholds else {}


def _shape(workload: Workload) -> tuple[object, ...]:
    return workload.input_tokens, workload.output_tokens, workload.options
