"""Recorded series whose samples are short enough for a control loop of seconds, as scenarios."""

from functools import partial

from mbcas_loadtest.workloads.rates import find_traces
from mbcas_loadtest.workloads.replay import Service, describe, draw_recorded
from mbcas_loadtest.workloads.scenario import Scenario, Tier
from mbcas_loadtest.workloads.traces import Unit

SECONDS = 3_000
"""The shortest of these series has 3,436 s; where each seed begins is drawn."""


def _scenario(
    name: str,
    source: tuple[str, str],
    service: Service,
    *,
    unit: Unit = "cpu_millicores",
    sample_seconds: float = 1.0,
) -> Scenario:
    file_name, series_id = source
    return Scenario(
        name=f"trace-{name}",
        tier=Tier.RECORDED,
        title=f"{series_id}, {unit} every {sample_seconds:g} s",
        shows="what a system makes of a load that was recorded",
        modelled=describe(unit, sample_seconds, service),
        seconds=SECONDS,
        draw_node=partial(
            draw_recorded,
            path=find_traces() / file_name,
            series_id=series_id,
            service=service,
            stretch_seconds=SECONDS,
        ),
    )


SCENARIOS = (
    _scenario("demeter", ("cpu_demeter.csv.gz", "demeter/cars/fixed24"), Service()),
    _scenario(
        "kepler",
        ("cpu_kepler.csv.gz", "kepler/nx12/all_containers"),
        Service(scale=0.1),  # It is a whole node's.
        sample_seconds=3.0,
    ),
    _scenario("ai4dl", ("cpu_ai4dl.csv.gz", "ai4dl/vr/exec2"), Service(), sample_seconds=20.0),
    _scenario(
        "azurellm",
        ("rps_azurellm.csv.gz", "azurellm/code"),
        Service(request_usec=100_000.0, cost_cv=0.5),
        unit="rps",
    ),
    _scenario(
        "nasa",
        ("rps_nasa.csv.gz", "nasa/jul95/busiest-day-1s"),
        Service(request_usec=150_000.0),
        unit="rps",
    ),
    _scenario(
        "pbscaler",
        ("rps_pbscaler.csv.gz", "pbscaler/onlineboutique/frontend"),
        Service(request_usec=8_000.0),
        unit="rps",
    ),
)
