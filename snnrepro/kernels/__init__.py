"""Compiled loops, forward and backward. Each is held equal to a plain reference by a test."""
