"""Data sets with their provenance, encoders that turn them into spikes, and the ordinary network to compare with."""

from snnrepro.data.controls import ann_control
from snnrepro.data.encoders import events_to_dense, latency, poisson
from snnrepro.data.registry import FILES, File, Row, fetch, status
from snnrepro.data.sets import Split, fashion_mnist, mnist, mnist_5k

__all__ = [
    "FILES",
    "File",
    "Row",
    "Split",
    "ann_control",
    "events_to_dense",
    "fashion_mnist",
    "fetch",
    "latency",
    "mnist",
    "mnist_5k",
    "poisson",
    "status",
]
