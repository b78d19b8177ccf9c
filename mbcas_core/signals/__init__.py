"""From counters to usage, throttling and demand."""
