"""Training step of a spiking layer with a leaky readout: our engines and snnTorch, the same work, interleaved in one run.

700-256-20 neurons, 100 steps, batch 128, input density 5 %, one thread. Prints medians and ratios; times differ between machines.
"""

import itertools
import random
import statistics
import time

import torch

from snnrepro import peers, surrogate
from snnrepro.neurons import LIF, Surrogate

ROUNDS = 7
SIZES, STEPS, BATCH, DENSITY = (700, 256, 20), 100, 128, 0.05
P = LIF(reset="subtract", current="new", surrogate=Surrogate("fast_sigmoid", 25.0))


def main() -> None:
    """Time each case in shuffled order, after one round that does not count."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = (torch.rand(STEPS, BATCH, SIZES[0]) < DENSITY).float()
    as_events = surrogate.events(*x.nonzero(as_tuple=True), tuple(x.shape))
    label = torch.randint(SIZES[2], (BATCH,))
    w1, w2 = (torch.randn(n, m).mul_(0.6 / n**0.5).requires_grad_() for n, m in itertools.pairwise(SIZES))

    def finish(spikes: torch.Tensor, engine: str) -> torch.Tensor:
        loss = surrogate.classification_loss(
            surrogate.max_over_time(surrogate.readout(spikes, w2, P, engine=engine)), label
        )
        return torch.autograd.grad(loss, [w1, w2])[0]

    cases = {
        "snnTorch, hidden layer": lambda: finish(peers.lif_snntorch(x, w1, P), "reference"),
        "reference loop": lambda: finish(surrogate.lif(x, w1, P, engine="reference").spikes, "reference"),
        "compiled, dense input": lambda: finish(surrogate.lif(x, w1, P, engine="fast").spikes, "fast"),
        "compiled, events": lambda: finish(surrogate.lif(as_events, w1, P, engine="fast").spikes, "fast"),
    }
    gradients = {name: case() for name, case in cases.items()}
    first = gradients["reference loop"]
    for name, gradient in gradients.items():
        error = float((gradient - first).abs().max() / first.abs().max())
        assert error < 1e-3, f"{name}: gradient differs by {error:.1e}"
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name in random.sample(list(cases), len(cases)):
            start = time.perf_counter()
            cases[name]()
            times[name].append(time.perf_counter() - start)
    best = statistics.median(times["compiled, events"])
    print(f"{'training step':26}{'median ms':>10}{'ratio':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:26}{1e3 * median:10.1f}{median / best:8.2f}")


if __name__ == "__main__":
    main()
