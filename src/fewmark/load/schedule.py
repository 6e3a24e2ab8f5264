"""When each planned request is due: at its time, when a stream is free, or after its session's turn before."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from typing import Final

from fewmark.load.records import RequestPlan

MAX_WAITING: Final = 4_096  # turns held back for the end of the one before, beyond which no plan is taken
MAX_SESSIONS: Final = 100_000  # whose last end is remembered


class Schedule:
    """Hands out plans that are due, in order, and turns of a session one after the other.

    Times are ns of the real-time clock. Plans are added as they come (`add`); `finished` says that no more will.
    """

    def __init__(self, *, timed: bool, start_ns: int = 0) -> None:
        self.start_ns = start_ns
        self._timed = timed
        self._plans: deque[RequestPlan] = deque()
        self._ready: list[tuple[int, int, RequestPlan]] = []  # turns whose time is known
        self._waiting: dict[str, deque[RequestPlan]] = {}  # of sessions in flight
        self._n_waiting = 0
        self._ends: OrderedDict[str, int] = OrderedDict()
        self.finished = False

    def __len__(self) -> int:
        return len(self._plans) + len(self._ready) + self._n_waiting

    def add(self, plan: RequestPlan) -> None:
        """One more planned request."""
        self._plans.append(plan)

    @property
    def n_fresh(self) -> int:
        """Plans that nothing but their own time holds back."""
        return len(self._plans)

    @property
    def is_blocked(self) -> bool:
        """Whether so many turns wait for others that no further plan is taken."""
        return self._n_waiting >= MAX_WAITING

    def take(self, now_ns: int) -> tuple[RequestPlan, int | None] | None:
        """A plan that is due and the time at which it was; None for the time: as soon as a stream is free."""
        if self._ready and self._ready[0][0] <= now_ns:
            ready_ns, _, plan = heapq.heappop(self._ready)
            self._busy(plan)
            return plan, ready_ns
        while self._plans and not self.is_blocked:
            plan = self._plans[0]
            due_ns = self._due(plan)
            if due_ns is not None and due_ns > now_ns:
                return None
            self._plans.popleft()
            session = plan.session
            if session is not None:
                if session in self._waiting:
                    self._waiting[session].append(plan)
                    self._n_waiting += 1
                    continue
                ended = self._ends.get(session)
                if ended is not None and ended + _ns(plan.think_s) > now_ns:
                    self._waiting[session] = deque()
                    self._push(ended + _ns(plan.think_s), plan)
                    continue
            self._busy(plan)
            return plan, due_ns
        return None

    def next_ns(self) -> int | None:
        """When the next plan will be due, if its time is known and nothing else holds it back."""
        times = [self._ready[0][0]] if self._ready else []
        if self._plans and not self.is_blocked:
            times.append(self._due(self._plans[0]) or 0)
        return min(times, default=None)

    def ended(self, plan: RequestPlan, end_ns: int) -> None:
        """A request has ended: its session's next turn becomes due after its thinking time."""
        session = plan.session
        if session is None:
            return
        self._ends[session] = end_ns
        self._ends.move_to_end(session)
        if len(self._ends) > MAX_SESSIONS:
            self._ends.popitem(last=False)
        waiting = self._waiting.get(session)
        if waiting:
            turn = waiting.popleft()
            self._n_waiting -= 1
            self._push(max(end_ns + _ns(turn.think_s), self._due(turn) or 0), turn)
        else:
            self._waiting.pop(session, None)

    def drop(self, until_ns: int) -> list[tuple[RequestPlan, int | None]]:
        """Give up every plan; those that should have been sent by then, with their time."""
        plans: list[tuple[RequestPlan, int | None]] = [(plan, due) for due, _, plan in self._ready if due <= until_ns]
        if self._timed:
            plans += [(plan, due) for plan in self._plans if (due := self._due(plan)) is not None and due <= until_ns]
        self._plans.clear()
        self._ready.clear()
        self._waiting.clear()
        self._n_waiting = 0
        self.finished = True
        return plans

    def _due(self, plan: RequestPlan) -> int | None:
        if not self._timed or plan.planned_send_s is None:
            return None
        return self.start_ns + _ns(plan.planned_send_s)

    def _busy(self, plan: RequestPlan) -> None:
        if plan.session is not None:
            self._waiting.setdefault(plan.session, deque())

    def _push(self, due_ns: int, plan: RequestPlan) -> None:
        heapq.heappush(self._ready, (due_ns, plan.index, plan))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
