"""Networks that compute with the time of one spike a neuron, with exact gradients."""

from snnrepro.first_spike.nonleaky import membrane, spike_times, weight_sum_penalty

__all__ = ["membrane", "spike_times", "weight_sum_penalty"]
