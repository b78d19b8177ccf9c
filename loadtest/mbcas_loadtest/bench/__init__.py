"""Benchmarks: what each part of MBCAS costs on this machine."""
