"""Landmark papers on learning in spiking neural networks, reproduced and checked."""

__version__ = "0.1.0"
