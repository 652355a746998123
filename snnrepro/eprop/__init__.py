"""Eligibility propagation (Bellec et al. 2020): recurrent networks whose gradient is computed forward in time.

`networks`: neurons, a run, gradients in the adjoint and in the online form; `signals`: errors, learning signals, the regulariser of the
rate; `optimisers`: plain descent and Adam as in TensorFlow 1 and as in torch; `tasks`: what is learned; `reference`: the same network in
torch.
"""
