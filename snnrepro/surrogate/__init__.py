"""Spiking layers trained with surrogate gradients (Neftci, Mostafa & Zenke 2019; Zenke & Vogels 2021)."""

from snnrepro.surrogate.derivatives import DERIVATIVES, derivative, spike
from snnrepro.surrogate.layers import Events, Trace, chosen_engine, events, lif, project, readout
from snnrepro.surrogate.losses import (
    accuracy,
    classification_loss,
    last_step,
    lower_bound,
    max_over_time,
    spytorch_penalty,
    upper_bound,
)
from snnrepro.surrogate.training import (
    Network,
    classify,
    evaluate,
    initial_network,
    pack,
    train,
    uniform_network,
    unpack,
)

__all__ = [
    "DERIVATIVES",
    "Events",
    "Network",
    "Trace",
    "accuracy",
    "chosen_engine",
    "classification_loss",
    "classify",
    "derivative",
    "evaluate",
    "events",
    "initial_network",
    "last_step",
    "lif",
    "lower_bound",
    "max_over_time",
    "pack",
    "project",
    "readout",
    "spike",
    "spytorch_penalty",
    "train",
    "uniform_network",
    "unpack",
    "upper_bound",
]
