"""What `mbcasctl explain` says about prices, classes and floors, and when it says nothing."""

from dataclasses import replace

import pytest
from rich.console import Console

from mbcas_core.events import Policy
from mbcas_core.views import DecisionView
from mbcas_server.answers import Answers
from mbcas_server.ctl_explain import explain_view
from mbcas_server.ctl_show import TIMES
from tests.mbcas_server.fakes import VirtualClock, container_view, decision_view


def plain_decision() -> DecisionView:
    decision = decision_view(container_view())
    headroom = replace(
        decision.headroom, price_response="off", response_shortage=0.0, effective_tau=0.05
    )
    return replace(decision, headroom=headroom, reservation=decision.ceiling_headroom)


def told(decision: DecisionView) -> str:
    console = Console(width=400, color_system=None)
    with console.capture() as captured:
        console.print(explain_view(Answers(VirtualClock()).decision(decision)))
    return captured.get()


def test_what_does_not_matter_is_not_told() -> None:
    text = told(plain_decision())

    assert "For at most 5 % throttling" in text
    for word in ("bears more", "first clearing", "classes", "credits", "do not fit"):
        assert word not in text


def test_a_raised_throttling_target_is_told_with_its_cause() -> None:
    decision = plain_decision()
    headroom = replace(
        decision.headroom, price_response="frozen", response_shortage=0.25, effective_tau=0.16875
    )

    text = told(replace(decision, headroom=headroom))

    assert "The others on its node were 25 % short of CPU of late" in text
    assert "the 5 % of its class. For at most 17 % throttling" in " ".join(text.split())


def test_a_scaled_need_is_told_with_its_factor() -> None:
    decision = plain_decision()
    headroom = replace(
        decision.headroom, price_response="two-pass", response_shortage=0.6, demand_factor=0.7
    )

    text = told(replace(decision, headroom=headroom))

    assert "60 % short of CPU, so what it asks for counts 0.70 times" in text


def test_the_weight_of_classes_is_told_apart_from_the_declared_one() -> None:
    decision = plain_decision()
    good = replace(decision.reservation, class_weight=0.25, pod_weight=75.0)

    text = told(replace(decision, reservation=good))

    assert f"weight 75 (300 {TIMES} 0.25 for the classes of its containers)" in text


@pytest.mark.parametrize(("need", "share"), [(480, 150), (120, 120)])
def test_floors_that_do_not_fit_are_told_as_shares_of_floors(need: int, share: int) -> None:
    decision = plain_decision()
    good = replace(
        decision.reservation,
        floors_reduced=True,
        pod_need_millicores=need,
        pod_floor_millicores=300,
        node_level=0.5,
        credit_millicores=-20,
    )

    text = told(replace(decision, reservation=good))

    assert f"50 % of its floor, or its need where that is less: {share}m." in text
    assert "450m after giving 20m for credits" in text


def test_a_pod_capped_below_its_containers_floors_is_told_to_share_by_floors() -> None:
    decision = plain_decision()
    good = replace(
        decision.reservation,
        need_millicores=400,
        floor_millicores=300,
        target_millicores=250,
        pod_level=0.8,
    )

    text = told(replace(decision, reservation=good))

    assert "by its containers' floors. The target is 250m." in text


def test_what_may_be_reclaimed_is_told_of_reservations_alone() -> None:
    decision = plain_decision()
    bounded = replace(decision.reservation, reclaim_factor=0.5, takes_part=True)

    text = told(replace(decision, reservation=bounded, ceiling_headroom=bounded))

    assert text.count("Only 50 % of what could be reclaimed") == 1


@pytest.mark.parametrize(
    ("policy", "need", "words"),
    [
        (Policy.REQUESTS_AND_LIMITS, 400, "of the 400m, 300m count"),
        (Policy.REQUESTS_ONLY, 400, "of the 400m the limit counts"),
        (Policy.REQUESTS_AND_LIMITS, 300, ""),
        (Policy.HARD_QUOTA, 400, ""),
    ],
)
def test_what_the_admitted_limit_keeps_from_the_reservation_is_told(
    policy: Policy, need: int, words: str
) -> None:
    decision = plain_decision()
    headroom = replace(decision.headroom, reservation_need_millicores=need)
    container = replace(decision.container, policy=policy)

    text = " ".join(told(replace(decision, headroom=headroom, container=container)).split())

    if words:
        assert words in text
    else:
        assert "count" not in text.split("3 Needed")[1].split("Its pod bids")[0]


def test_how_long_the_last_order_took_is_told_where_it_was_seen() -> None:
    decision = plain_decision()
    both = replace(decision.container, lag_seconds=0.4, status_lag_seconds=1.25)
    neither = replace(decision.container, lag_seconds=None)

    assert "after 0.4 s the kernel had it and after 1.2 s the pod's status" in told(
        replace(decision, container=both)
    )
    assert "the kernel had it" not in told(replace(decision, container=neither))
