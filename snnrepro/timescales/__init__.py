"""Recurrent networks of adaptive spiking neurons whose time constants are trained: Yin, Corradi & Bohte (2020, 2021)."""
