"""Networks that compute with the time of one spike a neuron, with exact gradients.

`exact`: spike times of leaky neurons in closed form; `ttfs`: networks of them (Göltz et al. 2021); `delays`: learned delays between
their layers (Göltz et al. 2025); `nonleaky`: the form of Mostafa (2017), in the exponential of time; `s4nn`: discrete time (Kheradpisheh
& Masquelier 2020).
"""
