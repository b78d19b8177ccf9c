"""The core's views and effects, as messages."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mbcas.v1 import market_pb2, node_link_pb2
from mbcas_core.effects import Order
from mbcas_core.events import CpuResources
from mbcas_core.market.allocate import AllocateAnswer
from mbcas_core.views import (
    ContainerGoodView,
    ContainerView,
    DecisionView,
    GoodDecisionView,
    GoodView,
    HeadroomView,
    MarketView,
    OrderDecisionView,
    PriceView,
    SignalsView,
)
from mbcas_server.clock import Clock


class Answers:
    """Turns records of the core into messages; its monotonic times into times of day."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def market(self, view: MarketView) -> market_pb2.NodeMarket:
        return market_pb2.NodeMarket(
            node=view.node,
            report_time=self._time(view.report_time_seconds),
            round=view.round,
            round_time=self._time(view.round_time_seconds),
            live=view.live,
            frozen=view.frozen,
            allocatable_millicores=view.allocatable_millicores,
            unmanaged_millicores=view.unmanaged_millicores,
            reservation=_good(view.reservation),
            ceiling=_good(view.ceiling),
            containers=[self.container(container) for container in view.containers],
            refusing_pods=view.refusing_pods,
        )

    def container(self, view: ContainerView) -> market_pb2.ContainerMarket:
        return market_pb2.ContainerMarket(
            namespace=view.namespace,
            pod=view.pod,
            container=view.container,
            pod_uid=view.pod_uid,
            mode=market_pb2.Mode.ValueType(view.mode),
            policy=market_pb2.Policy.ValueType(view.policy),
            priority_class=market_pb2.PriorityClass.ValueType(view.priority_class),
            weight=view.weight,
            usage_millicores=view.usage_millicores,
            throttled_ratio=view.throttled_ratio,
            reservation=_container_good(view.reservation),
            ceiling=_container_good(view.ceiling),
            lag_seconds=view.lag_seconds,
            emergency=view.emergency,
            reason=market_pb2.Reason.ValueType(view.reason),
            decision_time=self._time(view.decision_time_seconds),
            min_acceptable_millicores=view.min_acceptable_millicores,
            refused=view.refused,
            credits=view.credits,
            skip_reason=view.skip_reason,
            status_lag_seconds=view.status_lag_seconds,
        )

    def decision(self, view: DecisionView) -> market_pb2.Decision:
        return market_pb2.Decision(
            container=self.container(view.container),
            node=view.node,
            signals=_signals(view.signals),
            headroom=_headroom(view.headroom),
            reservation=_good_decision(view.reservation),
            ceiling_headroom=_good_decision(view.ceiling_headroom),
            order=self._order_decision(view.order),
            summary=view.summary,
        )

    def _order_decision(self, view: OrderDecisionView) -> market_pb2.OrderDecision:
        return market_pb2.OrderDecision(
            time=self._time(view.time_seconds),
            billed_reservation_millicores=view.billed_reservation_millicores,
            billed_ceiling_millicores=view.billed_ceiling_millicores,
            slack_reservation_millicores=view.slack_reservation_millicores,
            slack_ceiling_millicores=view.slack_ceiling_millicores,
            granted_reservation_millicores=view.granted_reservation_millicores,
            granted_ceiling_millicores=view.granted_ceiling_millicores,
            desired_reservation_millicores=view.desired_reservation_millicores,
            desired_ceiling_millicores=view.desired_ceiling_millicores,
            last_order_id=view.last_order_id,
            last_result=view.last_result,
        )

    def _time(self, monotonic_seconds: float | None) -> Timestamp | None:
        if monotonic_seconds is None:
            return None
        ago_seconds = self._clock.now_seconds() - monotonic_seconds
        nanos = round((self._clock.unix_seconds() - ago_seconds) * 1e3) * 1_000_000
        return Timestamp(seconds=nanos // 10**9, nanos=nanos % 10**9)


def allocate_response(answer: AllocateAnswer) -> market_pb2.AllocateResponse:
    """Turns the core's answer into the message."""
    return market_pb2.AllocateResponse(
        allocations=[
            market_pb2.Allocation(
                id=item.id,
                allocation_millicores=item.allocation_millicores,
                rationed=item.rationed,
            )
            for item in answer.allocations
        ],
        price=_price(answer.price),
        price_before=None if answer.price_before is None else _price(answer.price_before),
        unallocated_millicores=answer.unallocated_millicores,
    )


def order_message(order: Order) -> node_link_pb2.Order:
    """Turns an order into the message."""
    return node_link_pb2.Order(
        order_id=order.order_id,
        pod_uid=order.pod_uid,
        namespace=order.namespace,
        pod=order.pod,
        container=order.container,
        expected_generation=order.expected_generation,
        desired=_resources(order.desired),
        burst_usec=order.burst_usec,
        admitted=_resources(order.admitted),
        expires_after=duration(order.expires_after_seconds),
        lane=node_link_pb2.Lane.ValueType(order.lane),
        reason=market_pb2.Reason.ValueType(order.reason),
        restore_exactly=order.restore_exactly,
    )


def duration(seconds: float) -> Duration:
    """Returns the message for a time span, to the millisecond."""
    millis = round(seconds * 1000)
    return Duration(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)


def _resources(value: CpuResources) -> node_link_pb2.CpuResources:
    return node_link_pb2.CpuResources(
        request_millicores=value.request_millicores, limit_millicores=value.limit_millicores
    )


def _price(view: PriceView) -> market_pb2.Price:
    return market_pb2.Price(
        shadow_price=view.shadow_price,
        shadow_price_normalized=view.shadow_price_normalized,
        shortage=view.shortage,
    )


def _good(view: GoodView) -> market_pb2.GoodMarket:
    return market_pb2.GoodMarket(
        supply_millicores=view.supply_millicores,
        demand_millicores=view.demand_millicores,
        floor_millicores=view.floor_millicores,
        target_millicores=view.target_millicores,
        billed_millicores=view.billed_millicores,
        price=_price(view.price),
        floors_reduced=view.floors_reduced,
        exhausted_by_admitted_limits=view.exhausted_by_admitted_limits,
    )


def _container_good(view: ContainerGoodView) -> market_pb2.ContainerGood:
    return market_pb2.ContainerGood(
        admitted_millicores=view.admitted_millicores,
        need_millicores=view.need_millicores,
        target_millicores=view.target_millicores,
        desired_millicores=view.desired_millicores,
        allocated_millicores=view.allocated_millicores,
        applied_millicores=view.applied_millicores,
    )


def _signals(view: SignalsView) -> market_pb2.Signals:
    return market_pb2.Signals(
        sample_count=view.sample_count,
        usage_millicores=view.usage_millicores,
        throttled_ratio_2s=view.throttled_ratio_2s,
        throttled_ratio_15s=view.throttled_ratio_15s,
        demand_millicores=view.demand_millicores,
        variation=view.variation,
        quota_millicores=view.quota_millicores,
        sample_age_seconds=view.sample_age_seconds,
    )


def _headroom(view: HeadroomView) -> market_pb2.Headroom:
    return market_pb2.Headroom(
        workload_class=view.workload_class,
        forecast=view.forecast,
        base_millicores=view.base_millicores,
        tau=view.tau,
        level=view.level,
        usage_millicores=view.usage_millicores,
        recent_need_millicores=view.recent_need_millicores,
        burst_millicores=view.burst_millicores,
        reservation_quantile_millicores=view.reservation_quantile_millicores,
        need_floor_millicores=view.need_floor_millicores,
        emergency_millicores=view.emergency_millicores,
        ceiling_need_millicores=view.ceiling_need_millicores,
        reservation_need_millicores=view.reservation_need_millicores,
        price_response=view.price_response,
        response_shortage=view.response_shortage,
        effective_tau=view.effective_tau,
        demand_factor=view.demand_factor,
    )


def _good_decision(view: GoodDecisionView) -> market_pb2.GoodDecision:
    return market_pb2.GoodDecision(
        takes_part=view.takes_part,
        need_millicores=view.need_millicores,
        floor_millicores=view.floor_millicores,
        reclaim_factor=view.reclaim_factor,
        pod_need_millicores=view.pod_need_millicores,
        pod_floor_millicores=view.pod_floor_millicores,
        pod_cap_millicores=view.pod_cap_millicores,
        pod_weight=view.pod_weight,
        node_supply_millicores=view.node_supply_millicores,
        node_level=view.node_level,
        pod_allocation_millicores=view.pod_allocation_millicores,
        pod_level=view.pod_level,
        container_weight=view.container_weight,
        target_millicores=view.target_millicores,
        class_weight=view.class_weight,
        floors_reduced=view.floors_reduced,
        credit_millicores=view.credit_millicores,
    )
