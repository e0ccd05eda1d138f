"""The simulation against what queueing theory says, and against what the engine promises."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import mean

import pytest

from lrem_os.config_query import ServeSettings
from lrem_os.planning.calibration import Calls
from lrem_os.planning.simulate import Costs, simulate
from lrem_os.planning.traffic import Arrival, Outcome, Traffic, summarise

FREE = Costs(embed=Calls(points=((1, 1e-6), (64, 1e-6))), reason=None, service_ms=0, search_ms=[0.0])
PATIENT = ServeSettings(reason_deadline_ms=1e7, embed_deadline_ms=1e7, reason_limit_s=1e4, embed_limit_s=1e4)


def hard(number: int) -> list[Arrival]:
    return Traffic(1.0, 1.0, seed=number).arrivals(1500)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_reasoner_without_batches_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    costs = replace(FREE, reason=Calls(points=((1, load), (2, 2 * load))))
    settings = PATIENT.model_copy(update={"reason_batch": 1, "queue_limit": 10_000})
    waits = [mean(o.latency_ms for o in simulate(hard(seed), costs, settings).outcomes) / 1000 for seed in range(2)]
    expected = load + load * load / (2 * (1 - load))  # M/D/1 with one arrival a second
    assert mean(waits) == pytest.approx(expected, rel=0.1)


def test_cores_are_shared_as_theory_says() -> None:
    """M/M/1 processor sharing: the mean is ``s / (1 - load)``, whatever the distribution of the work."""
    costs = replace(FREE, search_ms=[500.0], cores=1)
    found = [mean(o.latency_ms for o in simulate(hard(seed), costs, PATIENT).outcomes) / 1000 for seed in range(2)]
    assert mean(found) == pytest.approx(0.5 / (1 - 0.5), rel=0.1)


def test_batches_form_when_queries_wait() -> None:
    costs = replace(FREE, reason=Calls(points=((1, 1.0), (64, 1.0))))
    arrivals = [replace(query, at_s=query.at_s / 8) for query in hard(1)]  # eight a second, and a call takes one
    found = simulate(arrivals, costs, PATIENT.model_copy(update={"reason_batch": 64}))
    assert found.mean_batch["reason"] == pytest.approx(8, rel=0.1)
    assert found.busy["reason"] == pytest.approx(1, abs=0.02)
    assert max(o.latency_ms for o in found.outcomes) <= 2000.1  # the call under way, and its own


def test_alone_a_query_takes_the_sum_of_its_parts() -> None:
    costs = Costs(
        embed=Calls(points=((1, 0.010),)),
        reason=Calls(points=((1, 0.100),)),
        probe=Calls(points=((1, 0.005),)),
        service_ms=3,
        search_ms=[20.0],
    )
    arrivals = [Arrival(float(at), f"query {at}", at % 2 == 1) for at in range(10)]
    outcomes = simulate(arrivals, costs, ServeSettings()).outcomes
    assert [o.latency_ms for o in outcomes[::2]] == pytest.approx([10 + 5 + 3 + 20] * 5)
    assert [o.latency_ms for o in outcomes[1::2]] == pytest.approx([10 + 5 + 100 + 3 + 20] * 5)
    assert [o.route for o in outcomes] == ["direct", "reasoned"] * 5
    by_rule = simulate(arrivals, costs, ServeSettings(), hard_by_rule=True).outcomes
    assert by_rule[1].latency_ms == pytest.approx(10 + 100 + 3 + 20)  # a rule needs no probe


def test_what_was_asked_before_asks_no_model() -> None:
    costs = replace(FREE, embed=Calls(points=((1, 0.01),)), reason=Calls(points=((1, 0.1),)))
    known = [Arrival(0, "one", True), Arrival(0, "two", False)]
    found = simulate([replace(known[0], at_s=1), replace(known[1], at_s=2)], costs, ServeSettings(), warm=known)
    assert [(o.cached, o.route) for o in found.outcomes] == [(True, "reasoned"), (True, "direct")]
    assert all(o.latency_ms < 1 for o in found.outcomes)
    assert found.mean_batch == {}


def test_a_reasoner_that_is_too_slow_is_not_waited_for() -> None:
    costs = replace(FREE, reason=Calls(points=((1, 1.0),)))
    found = summarise(simulate(hard(0), costs, ServeSettings(reason_deadline_ms=200)).outcomes)
    assert found.reasoned_share < 0.01
    assert found.degraded_share > 0.99
    assert found.degraded["reasoner_slow"] > found.degraded["reasoner_timeout"]
    assert found.p99_ms <= 200.1  # the deadline holds


def test_models_on_the_same_device_slow_each_other_down() -> None:
    costs = replace(FREE, embed=Calls(points=((1, 0.1),)), reason=Calls(points=((1, 0.5),)), cores=2)
    arrivals = [Arrival(0, "one", True), Arrival(0.2, "two", False)]
    took = {
        where: [o.latency_ms for o in simulate(arrivals, replace(costs, models=where), PATIENT).outcomes]
        for where in ("elsewhere", "gpu", "cpu")
    }
    assert took["elsewhere"] == pytest.approx([600, 100])
    assert took["gpu"] == pytest.approx([700, 200])  # 0.1 s of each at half speed
    assert took["cpu"] == pytest.approx(took["gpu"])  # a call of a model takes all cores


def test_the_same_seed_gives_the_same() -> None:
    costs = replace(FREE, search_ms=[5.0, 10.0, 20.0], reason=Calls(points=((1, 0.05),)))
    traffic = Traffic(20.0, 0.3, 0.5, seed=7)
    first, again = (simulate(traffic.arrivals(300), costs, ServeSettings(), seed=1).outcomes for _ in range(2))
    assert first == again
    assert first != simulate(traffic.arrivals(300), costs, ServeSettings(), seed=2).outcomes


def test_traffic_has_the_shares_that_are_asked_for() -> None:
    traffic = Traffic(rate=50.0, hard_share=0.2, repeat_share=0.4, pool=30)
    found = traffic.arrivals(5000)
    known = {query.text: query.hard for query in traffic.known()}
    assert len(known) == 30
    assert found[-1].at_s == pytest.approx(100, rel=0.06)
    assert mean(query.text in known for query in found) == pytest.approx(0.4, abs=0.03)
    fresh = [query for query in found if query.text not in known]
    assert len({query.text for query in fresh}) == len(fresh)
    assert mean(query.hard for query in fresh) == pytest.approx(0.2, abs=0.03)
    assert all(query.hard == known[query.text] for query in found if query.text in known)


def test_a_summary_counts() -> None:
    found = summarise(
        [Outcome(10, "direct"), Outcome(30, "reasoned", (), True), Outcome(20, "direct", ("late",), True)]
    )
    assert (found.queries, found.p50_ms, found.hard_p50_ms) == (3, 20, 25)
    assert (found.reasoned_share, found.degraded_share) == (1 / 3, 1 / 3)
    assert found.degraded == {"late": 1}
    assert math.isnan(summarise([Outcome(10, "direct")]).hard_p50_ms)
