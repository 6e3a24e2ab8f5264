"""A campaign on an accelerator that is public begins with what others measured there; elsewhere with nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewmark import datasets
from fewmark.campaign import run_campaign
from fewmark.core import Case, Cost, Deployment, Measurement, Sample, Workload
from fewmark.models.registry import make_model
from fewmark.store import open_store
from fewmark.tables.repeats import target_cells
from fewmark.verbs.campaign import public
from fewmark.verbs.plan import plan

TARGET = "throughput_tok_s"
SLOWER = 1.2


def mine() -> dict[Case, float]:
    """Seconds of the cells of a deployment like a public one, a fifth slower, under a name of one's own."""
    table = datasets.load("llm-inference-bench", screened=True)
    chosen = table.model.eq("Qwen/Qwen2-7B") & table.accelerator.eq("Nvidia H100 GPU")
    chosen &= table.engine.eq("vLLM") & table.accelerator_count.eq(1)
    X, y = target_cells(table[chosen], "e2e_latency_s")
    deployment = Deployment(engine="vllm", model="Qwen2-7B", accelerator="H100-SXM5-80GB", accelerator_count=1)
    rows = zip(X.input_tokens, X.output_tokens, X.batch_size, y, strict=True)
    return {
        Case(deployment, Workload(ii, oo, batch_size=int(bb))): SLOWER * float(seconds) for ii, oo, bb, seconds in rows
    }


class Machine:
    def __init__(self, store: Any, seconds: dict[Case, float]) -> None:
        self.store, self.seconds = store, seconds

    def run(self, cases: Any) -> Any:
        came = [
            Measurement(c, samples=[Sample(e2e_latency_s=self.seconds[c])], cost=Cost(wall_s=4 * self.seconds[c]))
            for c in cases
        ]
        self.store.add(came)
        return SimpleNamespace(measurements=tuple(came))


@pytest.mark.slow
def test_relatives_that_are_public_spare_most_of_the_measuring() -> None:
    seconds = mine()
    cases = list(seconds)
    assert len(cases) >= 16
    n_runs, errors = [], []
    for relatives in (None, public(cases, TARGET)):
        with open_store(":memory:") as store:
            done = run_campaign(
                cases, store, Machine(store, seconds), model=make_model("auto", target=TARGET), target_error=0.07,
                relatives=relatives, step_cells=1,
            )  # fmt: skip
            n_runs.append(store.count())
        lookup = {
            (c.workload.input_tokens, c.workload.output_tokens, c.workload.batch_size): s for c, s in seconds.items()
        }
        rows = done.table[["input_tokens", "output_tokens", "batch_size"]].itertuples(index=False)
        truth = np.array([bb * oo / lookup[ii, oo, bb] for ii, oo, bb in rows])
        errors.append(float(np.median(np.abs(done.table["value"].to_numpy(dtype=float) / truth - 1))))
        assert done.n_relatives == (0 if relatives is None else len(relatives)) == done.to_dict()["n_relatives"]
    assert n_runs[1] <= 0.6 * n_runs[0]
    assert errors[1] <= 0.05


@pytest.mark.parametrize(("engine", "accelerator"), [("vllm", "Abacus 9000"), ("vllm", None), ("replay", "H100")])
def test_elsewhere_and_where_records_are_replayed_nothing_is_lent(engine: str, accelerator: str | None) -> None:
    deployment = Deployment(engine=engine, model="Qwen2-7B", accelerator=accelerator)
    assert public([Case(deployment, Workload(128, 128, batch_size=1))], TARGET).empty


@pytest.mark.slow
def test_a_plan_of_what_nobody_measured_begins_with_them_too(tmp_path: Any) -> None:
    wanted = tmp_path / "wanted.csv"
    rows = [f"vllm,Qwen2-7B,H100,1,{n},{n},{bb}" for n in (128, 512, 2048) for bb in (1, 16, 64)]
    wanted.write_text(
        "engine,model,accelerator,accelerator_count,input_tokens,output_tokens,batch_size\n" + "\n".join(rows)
    )
    empty = f"sqlite:///{tmp_path / 'none.db'}"
    open_store(empty).close()
    error = {}
    for prior in (False, True):
        _, planner = plan(wanted, data=_one_row(tmp_path), prior=prior)
        error[prior] = planner.forecast().median_ape
        assert (planner.n_relatives > 0) is prior
    assert error[True] < 0.5 * error[False]


def _one_row(folder: Any) -> Any:
    table = folder / "one.csv"
    table.write_text(
        "engine,model,accelerator,input_tokens,output_tokens,batch_size,e2e_latency_s\nvllm,Qwen2-7B,H100,64,64,1,0.5\n"
    )
    return table
