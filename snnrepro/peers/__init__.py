"""The same network in other people's simulators: a second opinion that shares parameters and input with ours, and no code."""
