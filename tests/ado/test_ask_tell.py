"""Ask and tell over somebody else's space."""

import pytest

from fewmark.ado.ask_tell import AskTell
from fewmark.core import InputError

POINTS = [
    {"number_input_tokens": i, "max_output_tokens": 128, "max_concurrency": n, "request_rate": -1, "n_gpus": 1,
     "gpu_memory_utilization": u}
    for n in (1, 8, 64) for i in (128, 512) for u in (0.8, 0.9)
]  # fmt: skip
SAME = {"engine": "vllm", "model": "llama-3.1-8b"}


def test_every_point_is_asked_once():
    search = AskTell(POINTS, "output_throughput", constants=SAME)
    asked = []
    while batch := search.ask(3):
        assert len(batch) <= 3
        for position in batch:
            asked.append(position)
            search.tell(position, 100.0 * POINTS[position]["max_concurrency"] ** 0.8)
    assert sorted(asked) == list(range(len(POINTS)))
    assert search.summary()["n_measured"] == len(POINTS)


def test_what_is_asked_and_not_told_is_not_asked_again():
    search = AskTell(POINTS, "output_throughput", constants=SAME)
    first, second = search.ask(4), search.ask(4)
    assert len({*first, *second}) == 8


def test_a_failure_closes_what_asks_for_more():
    search = AskTell(POINTS, "output_throughput", constants=SAME)
    search.tell(0, None)
    rest = search.ask(len(POINTS))
    same = [n for n, point in enumerate(POINTS) if point["gpu_memory_utilization"] == 0.8]
    assert not set(same) & set(rest)
    assert search.summary()["n_failed"] == 1


def test_values_are_told_in_the_propertys_own_unit():
    search = AskTell(POINTS, "mean_ttft_ms", constants=SAME)
    search.tell(0, 250.0)
    assert search.target == "ttft_s"
    assert float(search.planner.estimate()[0][0]) == pytest.approx(0.25)


def test_columns_and_equal_points():
    points = [{"prompt": 128, "answer": 64, "users": n, "note": "a"} for n in (1, 2, 2)]
    names = {"prompt": "input_tokens", "answer": "output_tokens", "users": "concurrency"}
    search = AskTell(points, "throughput_tok_s", columns=names)
    assert sorted(search.ask(9)) == [0, 1]


@pytest.mark.parametrize(
    ("points", "observed", "said"),
    [
        ([], "output_throughput", "at least one point"),
        (POINTS, "colour", "no metric"),
        ([{"number_input_tokens": 128, "max_output_tokens": 4}], "output_throughput", "request_rate"),
        ([POINTS[0] | {"max_concurrency": -7}], "output_throughput", "no cells"),
    ],
)
def test_what_is_no_space_of_cells_is_refused(points, observed, said):
    with pytest.raises(InputError) as caught:
        AskTell(points, observed)
    assert said in str(caught.value)
