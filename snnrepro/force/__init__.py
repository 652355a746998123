"""FORCE training of spiking networks (Nicola & Clopath 2017).

`networks`: three neuron models in a sparse network with a learned feedback loop; `rls`: recursive least squares; `teachers`: what is
taught; `scores`: how well it was learned; `reference`: the same in plain NumPy.
"""
