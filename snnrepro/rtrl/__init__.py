"""From real-time recurrent learning to local rules (Zenke & Neftci 2021): what the exact gradient is, and what a local rule leaves out.

`networks`: a recurrent layer of LIF neurons and its readout; `gradients`: exact RTRL, its approximations, and backpropagation through
time; `rules`: learning signals of three-factor rules, and local losses; `counts`: how many numbers and products each method takes;
`reference`: the same network in torch.
"""
