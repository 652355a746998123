"""Neuromorphic chips emulated: analog substrates with their imperfections, and Loihi in its integers."""
