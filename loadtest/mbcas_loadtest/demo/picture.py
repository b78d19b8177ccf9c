"""The demo's result as one picture for a README."""

from mbcas_loadtest.demo.record import DemoRecord


def picture_svg(record: DemoRecord) -> str:
    return str(record)
