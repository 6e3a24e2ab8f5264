"""Deciding: prices that make sense, probabilities that hold, the right choice, clear answers where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import fewmark
from fewmark.cli.recommend import command
from fewmark.core import FewmarkError, InputError
from fewmark.decide.cost import hourly_cost, replicas, token_costs
from fewmark.decide.prices import load_prices, price_schema
from fewmark.decide.recommend import recommend
from fewmark.decide.slo import Distribution, Objective, distribution, parse_objectives
from fewmark.interop import write_table

PRICES = """
version: 1
currency: EUR
energy_per_kwh: 0.2
accelerators:
  - {name: H100, per_hour: 3.0, power_w: 500}
  - {name: H100, per_hour: 1.2, spot: true}
  - {name: H100, per_hour: 2.5, region: north}
  - {name: H100 80GB, per_hour: 4}
  - {name: A100, per_hour: 1.5}
"""
SCORES = norm.ppf([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])


def prices_file(tmp_path: Path, text: str = PRICES) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def lognormal(median: list[float], sd: list[float]) -> Distribution:
    return Distribution(SCORES, np.log(np.array(median))[:, None] + np.array(sd)[:, None] * SCORES)


def candidates(n: int) -> pd.DataFrame:
    return pd.DataFrame({"accelerator": ["A100"] * n, "accelerator_count": 1.0, "batch_size": 2.0 ** np.arange(n)})


def test_prices_are_found_by_words_region_and_spot(tmp_path: Path) -> None:
    prices = load_prices(prices_file(tmp_path))
    found = prices.find("Nvidia H100 GPU")
    assert found is not None
    assert found.per_hour == 2.5
    assert prices.find("Nvidia H100 GPU", region="south").per_hour == 3.0
    assert prices.find("Nvidia H100 GPU", spot=True).per_hour == 1.2
    assert prices.find("H100-80GB").per_hour == 4
    assert prices.find("GH1000") is None
    spelled = "accelerators: [{name: NVIDIA H100 80GB HBM3, per_hour: 2}, {name: A100 40GB, per_hour: 1}]"
    other = load_prices(prices_file(tmp_path, spelled))
    assert other.find("H100").per_hour == 2  # the same in another spelling
    assert other.find("A100 80GB") is None
    assert prices.find(None) is None
    cells = pd.DataFrame({"accelerator": ["A100", "H100", "T4"], "accelerator_count": [8.0, 2.0, 1.0]})
    hourly = hourly_cost(cells, prices, region="north")
    assert hourly[:2] == pytest.approx([12.0, 5.0])
    assert np.isnan(hourly[2])
    with pytest.raises(InputError, match="region"):
        hourly_cost(cells, prices, region="moon")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accelerators: [{name: A, per_hour: -1}]", "accelerators.0.per_hour"),
        ("accelerators: [{name: A, per_hour: 0}]", "accelerators.0.per_hour"),
        ("accelerators: [{name: A, per_hour: .nan}]", "accelerators.0.per_hour"),
        ("accelerators: [{name: A, per_hour: 1.0e+9}]", "accelerators.0.per_hour"),
        ("accelerators: [{name: A, per_hour: cheap}]", "accelerators.0.per_hour"),
        ("accelerators: [{name: A}]", "accelerators.0.per_hour"),
        ("accelerators: [{name: '', per_hour: 1}]", "accelerators.0.name"),
        ("accelerators: []", "accelerators"),
        ("accelerators: [{name: A, per_hour: 1}]\nenergy: 3", "energy"),
        ("version: 2\naccelerators: [{name: A, per_hour: 1}]", "version"),
        ("- 1", "mapping"),
        ("a: [", "YAML"),
        ("", "mapping"),
    ],
)
def test_absurd_or_missing_prices_are_refused_by_the_path_of_the_key(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        load_prices(prices_file(tmp_path, text))


def test_the_schema_names_what_a_price_needs() -> None:
    assert price_schema()["$defs"]["Price"]["required"] == ["name", "per_hour"]
    with pytest.raises(InputError, match="there is no such file"):
        load_prices("no/such/file.yaml")


def test_token_costs_by_hand() -> None:
    cells = pd.DataFrame({"input_tokens": [1000.0], "output_tokens": [500.0]})
    one = np.array([1.0])
    out = token_costs(cells, 1000 * one, 3.6 * one, 0.2 * one, 500 * one).iloc[0]
    assert out["cost_per_mtok_all_in"] == pytest.approx(1.0)
    assert out["cost_per_mtok_output"] == pytest.approx(0.8)
    assert out["cost_per_mtok_input"] == pytest.approx(0.1)
    # the two prices charge exactly what the deployment costs
    assert out["cost_per_mtok_input"] * 1000 + out["cost_per_mtok_output"] * 500 == pytest.approx(500 * 1.0)
    assert out["cost_per_mtok_blended"] == pytest.approx(1 / 3)
    assert out["tokens_per_money"] == pytest.approx(1e6)
    assert out["tokens_per_joule"] == 2
    assert list(replicas(2500, np.array([1000.0, 2500.0, 9000.0]))) == [3, 1, 1]
    with pytest.raises(InputError):
        replicas(0, one)


@pytest.mark.parametrize("text", ["ttft=0.5", "ttft_s", "ttft_s=-1", "ttft_s=nan", "ttft_s=soon", "=3", "ttft_p98_s=1"])
def test_a_wrong_objective_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Objective.parse(text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("ttft_s=0.3", 0.3), ("ttft_ms=300", 0.3), ("ttft=300ms", 0.3), ("ttft_ms=300 ms", 0.3), ("TTFT = 3e5 us", 0.3)],
)
def test_a_limit_says_its_unit_in_the_name_or_in_the_value(text, limit):
    assert Objective.parse(text) == Objective("ttft_s", pytest.approx(limit))


@pytest.mark.parametrize("text", ["ttft=0.3", "ttft_ms=3s", "ttft_s=3 parsecs", "throughput_tok_s=3ms"])
def test_a_limit_without_its_unit_or_with_two_is_refused(text):
    with pytest.raises(InputError, match=r"unit"):
        Objective.parse(text)


def test_objectives_have_a_direction_and_one_limit_a_metric() -> None:
    below, above = parse_objectives(["ttft_s=0.5", "throughput_tok_s=100"])
    assert list(below.met(np.array([0.4, 0.6]))) == [True, False]
    assert list(above.met(np.array([90.0, 110.0]))) == [False, True]
    with pytest.raises(InputError, match="only one limit"):
        parse_objectives(["ttft_s=0.5", "ttft_s=0.4"])


class _Normal:
    """A model whose log errors are normal."""

    def __init__(self, sd: float) -> None:
        self.sd = sd

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.where(X["batch_size"] > 100, np.nan, 10.0)

    def predict_interval(self, X: pd.DataFrame, level: float) -> np.ndarray:
        half = norm.ppf(0.5 + level / 2) * self.sd
        return np.column_stack([self.predict(X) * np.exp(-half), self.predict(X) * np.exp(half)])


def test_probabilities_are_those_of_the_intervals() -> None:
    cells = pd.DataFrame({"batch_size": [1.0, 2.0, 128.0]})
    belief = distribution(_Normal(0.3), cells, np.array([np.nan, 9.0, np.nan]))
    for limit in (5.0, 9.0, 10.0, 14.0, 25.0):
        expected = norm.cdf(np.log(limit / 10) / 0.3)
        assert belief.probability(Objective("ttft_s", limit))[0] == pytest.approx(expected, abs=0.01)
        assert belief.probability(Objective("throughput_tok_s", limit))[0] == pytest.approx(1 - expected, abs=0.01)
    assert belief.probability(Objective("ttft_s", 9.5))[1] > 0.99  # measured: all but certain
    assert np.isnan(belief.probability(Objective("ttft_s", 9.5))[2])  # abstained
    assert belief.quantile(0.05)[0] == pytest.approx(10 * np.exp(-1.645 * 0.3), rel=0.02)


def test_the_cheapest_that_is_sure_wins_not_the_cheapest() -> None:
    throughput = lognormal([100, 200, 400], [0.01] * 3)
    latency = lognormal([0.1, 0.3, 0.49], [0.05, 0.05, 0.3])
    slo = Objective("ttft_s", 0.5)
    found = recommend(candidates(3), throughput, np.ones(3), [(slo, latency)], np.zeros(3, dtype=bool))
    assert found.chosen == 1
    assert list(found.table.index) == [1, 0, 2]
    assert found.table.loc[2, "probability"] == pytest.approx(0.53, abs=0.03)
    assert found.table["p_best"].sum() == pytest.approx(1.0, abs=0.01)
    assert found.table.loc[2, "p_best"] == pytest.approx(0.53, abs=0.03)
    assert found.table.loc[2, "regret"] == pytest.approx(0.0, abs=1e-6)
    assert found.table.loc[1, "regret"] > 0.3  # half the time the third would have served for half the money
    # knowing the third for certain is what could change the choice; once it is measured, nothing could
    assert found.next_measurement == 2
    assert found.expected_saving == pytest.approx(0.5 * 0.53, abs=0.05)
    again = recommend(candidates(3), throughput, np.ones(3), [(slo, latency)], np.array([True, False, True]))
    assert again.next_measurement is None
    assert found.table["pareto"].all()


def hanging_together(of: Distribution, correlation: float) -> Distribution:
    n = len(of.log_values)
    return replace(of, correlation=np.where(np.eye(n, dtype=bool), 1.0, correlation))


def test_what_errs_together_is_compared_more_surely_than_it_is_known() -> None:
    alone = lognormal([970, 1000], [0.2, 0.2])
    unknown = np.zeros(2, dtype=bool)
    apart = recommend(candidates(2), alone, np.ones(2), [], unknown)
    together = recommend(candidates(2), hanging_together(alone, 0.9995), np.ones(2), [], unknown)
    assert apart.chosen == together.chosen == 1
    assert apart.table.loc[1, "p_best"] < 0.6
    assert together.table.loc[1, "p_best"] > 0.99
    # measuring cannot change an answer that is known, however little is known of the values
    assert apart.next_measurement is not None
    assert apart.expected_saving > 0.04
    assert together.next_measurement is None


def test_chances_and_worth_are_those_of_the_joint_distribution() -> None:
    median, sd = np.array([900.0, 1000.0, 1050.0]), np.array([0.1, 0.05, 0.3])
    belief = hanging_together(lognormal(list(median), list(sd)), 0.7)
    assert belief.correlation is not None
    found = recommend(candidates(3), belief, np.ones(3), [], np.zeros(3, dtype=bool))
    rng = np.random.default_rng(1)
    score = np.linalg.cholesky(belief.correlation) @ rng.standard_normal((3, 100_000))
    cost = 1 / (median[:, None] * np.exp(sd[:, None] * score))
    for one in range(3):
        assert found.table.loc[one, "p_best"] == pytest.approx((cost.argmin(axis=0) == one).mean(), abs=0.03)
    # once the third is known exactly, the choice falls on the cheaper of it and of what is then expected of the chosen
    assert found.chosen == 2
    second = np.exp(-np.log(1000.0) - 0.7 * 0.05 * score[2] + 0.5 * (1 - 0.49) * 0.05**2)
    worth = np.maximum(cost[2] - second, 0).mean() / cost[2].mean()
    assert found.next_measurement == 2
    assert found.expected_saving == pytest.approx(worth, rel=0.1)


def test_no_world_has_a_rate_that_outgrows_the_load() -> None:
    cells = candidates(2)  # loads 1 and 2; of the second next to nothing is known
    vague = lognormal([100, 150], [0.01, 1.5])
    found = recommend(cells, vague, np.ones(2), [], np.array([True, False]))
    assert 0.3 < found.table.loc[0, "regret"] < 1.2  # at most 2.2 times the rate
    other = recommend(cells.assign(model=["a", "b"]), vague, np.ones(2), [], np.array([True, False]))
    assert other.table.loc[0, "regret"] > 2  # of another deployment it says nothing


class _Joint(_Normal):
    """As much correlation as the loads are near each other."""

    def joint(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        load = np.log2(X["batch_size"].to_numpy())
        near = np.exp(-0.5 * (load[:, None] - load) ** 2)
        return np.zeros(len(X)), self.sd**2 * near, np.full(len(X), self.sd / 3)


def test_a_measured_candidate_errs_with_no_other() -> None:
    cells = pd.DataFrame({"batch_size": [1.0, 2.0, 4.0]})
    belief = distribution(_Joint(0.3), cells, np.array([np.nan, np.nan, 9.0]))
    assert belief.correlation is not None
    assert belief.correlation[0, 1] == pytest.approx(np.exp(-0.5) / (1 + 1 / 9))
    assert (np.diag(belief.correlation) == 1).all()
    assert not belief.correlation[2, :2].any()
    drawn = np.corrcoef(belief.draw(20_000, np.random.default_rng(0)))
    assert drawn == pytest.approx(belief.correlation, abs=0.03)
    assert distribution(_Normal(0.3), cells, np.full(3, np.nan)).correlation is None


def test_a_dominated_candidate_is_off_the_frontier() -> None:
    throughput = lognormal([100, 90, 300], [0.01] * 3)
    latency = lognormal([0.1, 0.2, 0.4], [0.01] * 3)
    found = recommend(
        candidates(3), throughput, np.ones(3), [(Objective("ttft_s", 1.0), latency)], np.zeros(3, dtype=bool)
    )
    assert dict(found.table["pareto"]) == {2: True, 0: True, 1: False}


def test_nobody_meets_it_is_an_answer() -> None:
    found = recommend(
        candidates(2), lognormal([100, 200], [0.1, 0.1]), np.ones(2),
        [(Objective("ttft_s", 0.01), lognormal([0.1, 0.2], [0.1, 0.1]))], np.zeros(2, dtype=bool),
    )  # fmt: skip
    assert found.chosen is None
    assert found.next_measurement is None
    assert found.advice[0].code == "no-candidate"
    assert "0%" in found.advice[0].message
    json.dumps(found.to_dict(), allow_nan=False)


def serving(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for accelerator, speed in (("A100", 1.0), ("Nvidia H100 GPU", 1.8), ("Mystery", 3.0)):
        for ii in (128.0, 512.0, 1024.0):
            for bb in (1.0, 4.0, 16.0, 64.0):
                e2e = (0.2 + ii * (0.02 + 0.0002 * bb)) / speed * float(np.exp(0.01 * rng.standard_normal()))
                rows.append(
                    {"engine": "e", "model": "m", "accelerator": accelerator, "accelerator_count": 1.0,
                     "input_tokens": ii, "output_tokens": ii, "batch_size": bb, "e2e_latency_s": e2e}
                )  # fmt: skip
    return pd.DataFrame(rows)


def request(tmp_path: Path) -> dict[str, Any]:
    write_table(serving(), tmp_path / "t.csv")
    return {"data": tmp_path / "t.csv", "prices": prices_file(tmp_path), "model": "mechanistic", "screened": False}


def test_recommend_from_a_table(tmp_path: Path) -> None:
    answer = fewmark.recommend(
        ["e2e_latency_s=15"], **request(tmp_path), input_tokens=1024, output_tokens=1024, demand_tok_s=20000
    )
    chosen = answer.table.loc[answer.recommendation.chosen]
    # H100: 1024 x 64 / ((0.2 + 1024 x 0.0328) / 1.8) would be cheaper still, but takes 18.8 s
    assert (chosen["accelerator"], chosen["batch_size"]) == ("Nvidia H100 GPU", 16)
    assert chosen["replicas"] == np.ceil(20000 / chosen["throughput_tok_s"])
    assert chosen["fleet_cost_per_hour"] == pytest.approx(chosen["replicas"] * (2.5 + 0.0))
    assert {advice.code for advice in answer.recommendation.advice} == {"unpriced"}
    out = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert out["currency"] == "EUR"
    assert len(out["candidates"]) == 12
    assert out["candidates"][0]["candidate"] == answer.recommendation.chosen


@pytest.mark.slow
def test_without_prices_accelerators_count(tmp_path: Path) -> None:
    answer = fewmark.recommend(["e2e_latency_s=15"], **{**request(tmp_path), "prices": None})
    chosen = answer.table.loc[answer.recommendation.chosen]
    assert chosen["accelerator"] == "Mystery"
    assert np.isnan(chosen["cost_per_mtok_all_in"])
    assert {"no-prices", "workload"} <= {advice.code for advice in answer.recommendation.advice}


@pytest.mark.parametrize(
    "change",
    [
        {"slo": ["ttft_s=0.5"]}, {"slo": ["nonsense=1"]}, {"assurance": 1.5}, {"input_tokens": -3.0},
        {"input_tokens": 7.0}, {"demand_tok_s": -1.0}, {"region": "moon"},
        {"prices": None, "spot": True}, {"model": "nonsense"}, {"data": "no-such-file.csv"},
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_clear_error(change: dict[str, Any], tmp_path: Path) -> None:
    asked = {"slo": ["e2e_latency_s=15"], **request(tmp_path), **change}
    with pytest.raises(FewmarkError):
        fewmark.recommend(asked.pop("slo"), **asked)


def test_no_candidate_with_a_price_is_an_error(tmp_path: Path) -> None:
    asked = request(tmp_path) | {"prices": prices_file(tmp_path, "accelerators: [{name: TPU, per_hour: 1}]")}
    with pytest.raises(InputError, match="no candidate has a price"):
        fewmark.recommend(["e2e_latency_s=15"], **asked)


@pytest.mark.slow
def test_the_command_says_it_and_its_exit_code_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = request(tmp_path)
    arguments = [
        "--data",
        str(asked["data"]),
        "--prices",
        str(asked["prices"]),
        "--model",
        "mechanistic",
        "--no-screen",
    ]
    assert command.main([*arguments, "--slo", "e2e_latency_s=15"], standalone_mode=False) == 0
    assert "recommended: m · e on Nvidia H100 GPU" in capsys.readouterr().out
    assert command.main([*arguments, "--slo", "e2e_latency_s=0.001", "--json"], standalone_mode=False) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["chosen"] is None
    assert "nothing here meets" in captured.err
