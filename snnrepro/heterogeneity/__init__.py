"""Networks whose neurons differ in their time constants, and learn them (Perez-Nieves, Leung, Dragotti & Goodman 2021).

`networks` trains them on the compiled layers of `snnrepro.surrogate`; `reference` is the same network in the form of the paper, in plain
torch.
"""
