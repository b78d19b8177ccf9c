"""The domain of MBCAS as a pure state machine: events in, effects out."""
