"""Networks in the Neuromorphic Intermediate Representation (NIR), so that other simulators and chips can read them.

NIR writes a neuron as a differential equation, tau dv/dt = -v + r i, with a reset to a fixed voltage, and says nothing of time steps. Its
readers take steps of forward Euler, v + h/tau (r i - v), of a length h that they choose. A layer of ours decays by beta in a step and adds
gain times its current; it is written with tau = h / (1 - beta), and so is the synapse, so that such a step is ours. With r = 1 the weights
take up what is left, W gain / (1 - beta), over (1 - alpha) where there is a synaptic filter; this suits every reader, while some demand
r = tau / h (`resistance="tau"`), with the weights as they are times gain.

What NIR cannot say (`unsaid`), and the layer as it was, goes into the metadata, so that `from_graph` gives back the very same numbers.
Where a graph has been changed since, or comes from elsewhere, they are computed from its nodes.
"""

import io
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nir
import numpy as np
import torch
from torch import Tensor

from snnrepro import neurons
from snnrepro.errors import UserError
from snnrepro.files import one_line, shown, write_bytes
from snnrepro.neurons import LIF, Adaptation, Surrogate
from snnrepro.surrogate import Network, Trace, lif

Resistance = Literal["one", "tau"]
STEP = 1e-4
"""Step in seconds that snnTorch takes, whatever the network."""
KEY = "snnrepro"
"""Name of our entries in the metadata."""
WEIGHTS, SPIKING, SILENT = (nir.Linear, nir.Affine), (nir.LIF, nir.CubaLIF), (nir.LI, nir.CubaLI)


class Layer(NamedTuple):
    """A layer of neurons and the weights that lead to it.

    Attributes:
        w: weights `(inputs, neurons)`.
        p: neurons.
        v: recurrent weights `(neurons, neurons)`, row = sender, or None.
        spikes: False: a readout, which neither spikes nor resets.
    """

    w: Tensor
    p: LIF
    v: Tensor | None = None
    spikes: bool = True


def layers_of(network: Network, p: LIF, last: LIF | None = None, *, readout: bool = True) -> list[Layer]:
    """The layers of a network of `snnrepro.surrogate`, with the readout or without it (some readers have none)."""
    recurrent = network.recurrent or (None,) * len(network.hidden)
    layers = [Layer(w, p, v) for w, v in zip(network.hidden, recurrent, strict=True)]
    return [*layers, Layer(network.output, last or p, None, False)] if readout else layers


def run(x: Tensor, layers: list[Layer]) -> list[Trace]:
    """What the spiking layers do, one after another; x is `(time, batch, inputs)`."""
    traces = []
    for layer in layers:
        if layer.spikes:
            traces.append(lif(traces[-1].spikes if traces else x, layer.w, layer.p, layer.v))
    return traces


def unsaid(p: LIF) -> list[str]:
    """What NIR cannot say of these neurons: a reader without our metadata will compute something else. Empty: it says everything.

    NIR's neuron has a reset to zero right after the spike, and takes in the current of the same step.
    """
    said = {"reset": ("zero",), "current": ("new",), "refractory": (0, 1), "adaptation": (None,)}
    return [f"{field} {getattr(p, field)!r}" for field, values in said.items() if getattr(p, field) not in values]


# Writing ----------------------------------------------------------------------------------------------------------------------


def to_graph(layers: list[Layer], *, step: float = STEP, resistance: Resistance = "one") -> nir.NIRGraph:
    """A NIR graph: `input`, then `layer<k>_in` and `layer<k>_neurons` for each layer, then `output`.

    A recurrent layer is a graph of its own, as snnTorch writes it. The names are in the order of the alphabet, which some readers need.

    Args:
        layers: of the network, in their order.
        step: step in seconds that the reader will take.
        resistance: `one`, or `tau` for readers that want r = tau / step: snnTorch does for synaptic filters.

    Raises:
        UserError: no layers, shapes that do not fit, weights that are not finite, or parameters that make no sense.
    """
    if not layers:
        raise UserError("NIR: there are no layers to write; give at least one")
    if resistance not in ("one", "tau") or not 0 < step < np.inf:
        raise UserError(f"NIR: resistance {resistance!r}, step {step!r}; choose one of one, tau, and a step in seconds")
    nodes = {"input": nir.Input({"input": np.array([layers[0].w.shape[0]])})}
    edges, before, missing = [], "input", {}
    for k, layer in enumerate(layers):
        _check(k, layer, layers[k - 1] if k else None)
        node, factor = _neurons(layer, step, resistance)
        into, name = f"layer{k:02}_in", f"layer{k:02}_neurons"
        nodes |= {into: _linear(layer.w, factor), name: node}
        if layer.v is not None:
            nodes[name] = _recurrent(node, _linear(layer.v, factor))
        edges += [(before, into), (into, name)]
        before = name
        if layer.spikes and unsaid(layer.p):
            missing[name] = unsaid(layer.p)
    nodes["output"] = nir.Output({"output": np.array([layers[-1].w.shape[1]])})
    about = json.dumps({"step": step, "dt": [layer.p.dt for layer in layers], "unsaid": missing})
    return nir.NIRGraph(nodes, [*edges, (before, "output")], metadata={KEY: about})


def write(path: Path | str, layers: list[Layer], *, step: float = STEP, resistance: Resistance = "one") -> None:
    """Write a network as a `.nir` file, whole or not at all. Arguments and errors as `to_graph`.

    Raises:
        UserError: the file cannot be written.
    """
    content = io.BytesIO()
    nir.write(content, to_graph(layers, step=step, resistance=resistance))
    write_bytes(Path(path), content.getvalue())


def _check(k: int, layer: Layer, before: Layer | None) -> None:
    """Raise where a layer cannot be written."""
    neurons.check(layer.p)
    inputs, n = layer.w.shape if layer.w.ndim == 2 else (0, 0)
    if min(inputs, n) < 1 or (before is not None and inputs != before.w.shape[1]):
        raise UserError(f"NIR: weights of layer {k} have shape {tuple(layer.w.shape)}; give (neurons before, neurons)")
    if layer.v is not None and tuple(layer.v.shape) != (n, n):
        raise UserError(f"NIR: recurrent weights of layer {k} have shape {tuple(layer.v.shape)}; give ({n}, {n})")
    if not all(torch.isfinite(w).all() for w in (layer.w, layer.v) if w is not None):
        raise UserError(f"NIR: weights of layer {k} hold NaN or infinite values; they cannot be written")
    if before is not None and not before.spikes:
        raise UserError(f"NIR: layer {k - 1} is a readout, but layer {k} follows; put the readout last")


def _linear(w: Tensor, factor: np.ndarray) -> nir.Linear:
    """Weights as NIR has them, (neurons, inputs); those that they came from go into the metadata."""
    raw = w.detach().cpu().numpy()
    return nir.Linear((raw * factor).T.astype(raw.dtype).copy(), metadata={KEY: raw.copy()})


def _recurrent(neurons_: nir.NIRNode, weights: nir.Linear) -> nir.NIRGraph:
    """Neurons with weights among them."""
    n = np.array([len(weights.weight)])
    nodes = {"input": nir.Input({"input": n}), "lif": neurons_, "w_rec": weights, "output": nir.Output({"output": n})}
    return nir.NIRGraph(nodes, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")])


def _neurons(layer: Layer, step: float, resistance: Resistance) -> tuple[nir.NIRNode, np.ndarray]:
    """The node of a layer's neurons, and the factor `(neurons,)` of all weights that lead to them."""
    p, n = layer.p, layer.w.shape[1]

    def each(value: Any) -> np.ndarray:
        array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        try:
            return np.broadcast_to(array.astype(float), (n,)).copy()
        except ValueError:
            raise UserError(f"NIR: a parameter has shape {array.shape}; give one number, or {n}") from None

    beta, factor = each(neurons.beta(p)), each(neurons.gain(p))
    mem, zero = step / (1 - beta), np.zeros(n)
    fields = {"r": np.ones(n) if resistance == "one" else mem / step, "v_leak": zero}
    if resistance == "one":
        factor = factor / (1 - beta)
    if layer.spikes:
        fields |= {"v_threshold": each(p.threshold), "v_reset": zero.copy()}
    if p.tau_syn is None:
        fields["tau"] = mem
        kind = nir.LIF if layer.spikes else nir.LI
    else:
        alpha = each(neurons.alpha(p))
        syn = step / (1 - alpha)
        fields |= {"tau_mem": mem, "tau_syn": syn, "w_in": np.ones(n) if resistance == "one" else syn / step}
        factor = factor / (1 - alpha) if resistance == "one" else factor
        kind = nir.CubaLIF if layer.spikes else nir.CubaLI
    about = json.dumps({"resistance": resistance, "parameters": _plain(p)})
    return kind(**fields, metadata={KEY: about}), factor


def _plain(value: Any) -> Any:
    """A parameter as JSON has it, with the type of each array."""
    if isinstance(value, LIF | Adaptation | Surrogate):
        return {field: _plain(part) for field, part in value._asdict().items()}
    if isinstance(value, Tensor):
        return {"tensor": value.detach().tolist(), "type": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": value.tolist(), "type": str(value.dtype)}
    return value


def _restored(value: Any) -> Any:
    """The inverse of `_plain` for one field."""
    if isinstance(value, dict) and "tensor" in value:
        return torch.tensor(value["tensor"], dtype=getattr(torch, value["type"]))
    if isinstance(value, dict) and "array" in value:
        return np.array(value["array"], value["type"])
    return value


def _parameters(fields: dict[str, Any]) -> LIF:
    """Neurons from what `_plain` made of them."""
    made = {field: _restored(value) for field, value in fields.items()}
    made["surrogate"] = Surrogate(**made["surrogate"])
    if made["adaptation"] is not None:
        made["adaptation"] = Adaptation(**{field: _restored(value) for field, value in made["adaptation"].items()})
    return LIF(**made)


# Reading ----------------------------------------------------------------------------------------------------------------------


def read(path: Path | str, *, step: float | None = None) -> list[Layer]:
    """The layers of a `.nir` file (see `from_graph`).

    Raises:
        UserError: the file is missing, truncated, no NIR, or holds what `from_graph` refuses.
    """
    path = Path(path)
    try:
        graph = nir.read(path)
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AssertionError,
        AttributeError,
        IndexError,
        RuntimeError,
    ) as error:
        why = one_line(error)[:150] or type(error).__name__
        raise UserError(f"{shown(path)}: is missing, damaged or no NIR file ({why}); write it again") from None
    try:
        return from_graph(graph, step=step)
    except UserError as error:
        raise UserError(f"{shown(path)}: {error}") from None


def from_graph(graph: nir.NIRGraph, *, step: float | None = None) -> list[Layer]:
    """The layers of a NIR graph that is a chain of weights and neurons, recurrent or not.

    A layer that we wrote, and that nobody has changed, comes back as it was, bit for bit. Otherwise it becomes the neuron that takes NIR's
    Euler steps: reset to zero, the current of the same step, gain 1, weights times r h / tau (and w_in h / tau_syn).

    Args:
        graph: the network; a recurrent layer may be a graph of its own, as snnTorch writes it.
        step: h in seconds; None: as we wrote it down, else 1e-4.

    Raises:
        UserError: a node, a shape of the graph or a parameter that our neurons do not have, or a step that is too long.
    """
    if step is None:
        about = _about(graph, "the graph")
        step = STEP if about is None else about.get("step")
    if not isinstance(step, int | float) or not 0 < step < np.inf:
        raise UserError(f"NIR: the step is {step!r}; give seconds above 0")
    nodes, edges = _flat(graph)
    into = {name: [a for a, b in edges if b == name] for name in nodes}
    out = {name: [b for a, b in edges if a == name] for name in nodes}
    (before,) = (name for name, node in nodes.items() if isinstance(node, nir.Input))
    layers = []
    while not isinstance(nodes[before], nir.Output):
        following = [name for name in out[before] if not (into[name] == [before] and out[name] == [before])]
        if len(following) == 1 and isinstance(nodes[following[0]], nir.Output):
            break
        names = following + (out[following[0]] if len(following) == 1 else [])
        kinds = [type(nodes[name]) for name in names]
        if len(names) != 2 or kinds[0] not in WEIGHTS or kinds[1] not in SPIKING + SILENT:
            raise UserError(
                f"NIR: after {before} come {', '.join(names) or 'no nodes'}; give weights, then neurons, in a chain"
            )
        loops = [name for name in into[names[1]] if name != names[0]]
        if len(loops) > 1 or any(type(nodes[name]) not in WEIGHTS or into[name] != [names[1]] for name in loops):
            raise UserError(
                f"NIR: {names[1]} gets input from {', '.join(loops)}; give one bundle of recurrent weights at most"
            )
        layers.append(_layer(nodes, names[0], names[1], loops[0] if loops else None, step))
        before = names[1]
        if len(layers) > len(nodes):
            raise UserError("NIR: the graph runs in a circle; give a chain of layers")
    if not layers:
        raise UserError("NIR: the graph has no layers between input and output")
    return layers


def _flat(graph: nir.NIRGraph) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Nodes and edges with graphs inside the graph dissolved."""
    nodes, edges = dict(graph.nodes), [tuple(edge) for edge in graph.edges]
    counts = [sum(isinstance(node, kind) for node in nodes.values()) for kind in (nir.Input, nir.Output)]
    if counts != [1, 1]:
        raise UserError(f"NIR: a graph has {counts[0]} inputs and {counts[1]} outputs; give one of each")
    for name in [name for name, node in nodes.items() if isinstance(node, nir.NIRGraph)]:
        inner, links = _flat(nodes.pop(name))
        (entry,) = (k for k, node in inner.items() if isinstance(node, nir.Input))
        (exit_,) = (k for k, node in inner.items() if isinstance(node, nir.Output))
        first = [f"{name}.{b}" for a, b in links if a == entry]
        last = [f"{name}.{a}" for a, b in links if b == exit_]
        nodes |= {f"{name}.{k}": node for k, node in inner.items() if k not in (entry, exit_)}
        kept = [(f"{name}.{a}", f"{name}.{b}") for a, b in links if a != entry and b != exit_]
        edges = [
            pair
            for a, b in edges
            for pair in [(s, e) for s in (last if a == name else [a]) for e in (first if b == name else [b])]
        ] + kept
    unknown = {end for edge in edges for end in edge} - set(nodes)
    if unknown:
        raise UserError(f"NIR: an edge names {', '.join(sorted(unknown))}, which is no node of the graph")
    return nodes, edges


def _layer(nodes: dict[str, nir.NIRNode], weights: str, name: str, loop: str | None, step: float) -> Layer:
    """One layer from its nodes."""
    node, parts = nodes[name], [nodes[weights], *([] if loop is None else [nodes[loop]])]
    for part, where in zip(parts, (weights, loop), strict=False):
        if isinstance(part, nir.Affine) and np.any(part.bias):
            raise UserError(f"NIR: {where} has a bias, which our layers do not have; give an input that always spikes")
    spikes = isinstance(node, SPIKING)
    ours = _as_written(node, parts, spikes, step)
    if ours is not None:
        return ours
    for field in ("v_leak", "v_reset"):
        if np.any(getattr(node, field, 0)):
            raise UserError(f"NIR: {field} of {name} is not 0; shift its voltages so that it is")
    threshold = np.unique(node.v_threshold) if spikes else np.ones(1)
    if len(threshold) != 1:
        raise UserError(
            f"NIR: thresholds of {name} lie between {threshold[0]:g} and {threshold[-1]:g}; give one for all"
        )
    filtered = isinstance(node, nir.CubaLIF | nir.CubaLI)
    times = {"tau_mem": node.tau_mem, "tau_syn": node.tau_syn} if filtered else {"tau_mem": node.tau}
    for field, tau in times.items():
        if not (np.isfinite(tau).all() and (tau > step).all()):
            raise UserError(f"NIR: {field} of {name} is not above the step of {step:g} s; give a shorter step")
    taus = {field: -step / np.log1p(-step / tau) for field, tau in times.items()}
    p = LIF(**({"tau_syn": None} | taus), dt=step, threshold=float(threshold[0]), reset="zero", current="new")
    factor = node.r * step / times["tau_mem"]
    if filtered:
        factor = factor * node.w_in * step / node.tau_syn
    kinds = [part.weight.dtype if part.weight.dtype.kind == "f" else np.dtype(float) for part in parts]
    w, *v = (torch.from_numpy((q.weight.T * factor).astype(kind)) for q, kind in zip(parts, kinds, strict=True))
    return Layer(w, p, *(v or [None]), spikes)


def _as_written(node: nir.NIRNode, parts: list[nir.NIRNode], spikes: bool, step: float) -> Layer | None:
    """The layer of which these nodes were made, or None where there is none, or where they have been changed since."""
    about = _about(node, "neurons")
    if about is None or not all(KEY in part.metadata for part in parts):
        return None
    w, *v = (torch.from_numpy(part.metadata[KEY]) for part in parts)
    try:
        layer = Layer(w, _parameters(about["parameters"]), *(v or [None]), spikes)
        made, factor = _neurons(layer, step, about["resistance"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise _damaged("neurons") from None
    pairs = [(node, made), *((part, _linear(raw, factor)) for part, raw in zip(parts, (w, *v), strict=True))]
    return layer if all(_same(a, b) for a, b in pairs) else None


def _about(node: nir.NIRNode, what: str) -> dict[str, Any] | None:
    """What we wrote into the metadata of a node, or None."""
    if KEY not in node.metadata:
        return None
    try:
        found = json.loads(node.metadata[KEY])
    except (ValueError, TypeError):
        raise _damaged(what) from None
    if not isinstance(found, dict):
        raise _damaged(what)
    return found


def _damaged(what: str) -> UserError:
    return UserError(f"NIR: our metadata of {what} are damaged; write the file again, or remove them")


def _same(a: nir.NIRNode, b: nir.NIRNode) -> bool:
    """Whether two nodes have the same numbers, metadata aside."""
    ours, theirs = (
        {k: v for k, v in vars(node).items() if k not in ("metadata", "input_type", "output_type")} for node in (a, b)
    )
    return type(a) is type(b) and all(np.array_equal(ours[field], theirs[field]) for field in ours)
