"""Networks in NIR: what other simulators make of them, the way back, and files that are none."""

import contextlib
import io
import itertools
import json
import sys

import nir
import numpy as np
import pytest
import torch

from benchmarks.worker import PEERS
from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.hardware import nir as ours
from snnrepro.hardware.nir import Layer
from snnrepro.neurons import LIF, Adaptation, Surrogate
from snnrepro.peers.nir import spikes_snntorch

P = LIF(reset="zero", current="new")


def network(tau_syn=5e-3, recurrent=False, dtype=torch.float32, p=P, **last):
    """Two spiking layers."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=dtype)

    p = p._replace(tau_syn=tau_syn)
    return [
        Layer(0.3 + 0.5 * normal(6, 8), p, 0.3 * normal(8, 8) if recurrent else None),
        Layer(0.2 + 0.5 * normal(8, 4), p._replace(tau_mem=6e-3, **last)),
    ]


def spikes_in(dtype=torch.float32):
    return (torch.rand(200, 3, 6, generator=torch.Generator().manual_seed(1)) < 0.25).to(dtype)


def walk(module, x):
    """Output of a module that nirtorch made, step by step."""
    state, out = None, []
    with torch.no_grad():
        for step in x:
            spikes, state = module(step, state)
            out.append(spikes)
    return torch.stack(out)


# Other simulators ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", ["one", "leak"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["forward", "recurrent"])
@pytest.mark.parametrize("tau_syn", [None, 5e-3], ids=["lif", "current-based"])
def test_snntorch_reads_the_same_spikes(tau_syn, recurrent, gain, tmp_path):
    layers = [layer._replace(p=layer.p._replace(gain=gain)) for layer in network(tau_syn, recurrent)]
    layers = [layer._replace(w=layer.w * (4 if gain == "leak" else 1)) for layer in layers]
    resistance = "one" if tau_syn is None else "tau"  # its synaptic filter takes no other
    ours.write(tmp_path / "net.nir", layers, resistance=resistance)
    theirs = spikes_snntorch(tmp_path / "net.nir", spikes_in())
    expected = ours.run(spikes_in(), layers)[-1].spikes
    assert expected.sum() > 100
    assert torch.equal(theirs, expected)


@pytest.mark.parametrize("synaptic", [False, True])
def test_what_snntorch_writes_has_the_same_spikes_here(synaptic):
    import snntorch
    from snntorch.export_nir import export_to_nir
    from snntorch.import_nir import import_from_nir

    torch.manual_seed(0)
    options = {
        "beta": torch.full((8,), 0.9),
        "threshold": torch.full((8,), 0.4),
        "reset_mechanism": "zero",
        "init_hidden": True,
    }
    kind = snntorch.Synaptic if synaptic else snntorch.Leaky
    cell = kind(**options, **({"alpha": torch.full((8,), 0.7)} if synaptic else {}))
    with contextlib.redirect_stdout(io.StringIO()):
        graph = export_to_nir(torch.nn.Sequential(torch.nn.Linear(6, 8, bias=False), cell), torch.zeros(6))
        theirs = walk(import_from_nir(graph), spikes_in())
    (trace,) = ours.run(spikes_in(), ours.from_graph(graph))
    assert trace.spikes.sum() > 100
    assert torch.equal(theirs, trace.spikes)


@pytest.mark.parametrize("recurrent", [False, True], ids=["forward", "recurrent"])
@pytest.mark.parametrize("tau_syn", [None, 5e-3], ids=["lif", "current-based"])
def test_norse_reads_the_same_spikes(tau_syn, recurrent, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(PEERS)])
    norse = pytest.importorskip("norse.torch.utils.import_nir", reason="norse is not installed (make bench brings it)")
    layers = network(tau_syn, recurrent)
    ours.write(tmp_path / "net.nir", layers)
    theirs = walk(norse.from_nir(nir.read(tmp_path / "net.nir"), dt=ours.STEP), spikes_in())
    expected = ours.run(spikes_in(), layers)[-1].spikes
    assert expected.sum() > 100
    assert torch.equal(theirs, expected)


@pytest.mark.parametrize("resistance", ["one", "tau"])
@pytest.mark.parametrize("tau_syn", [None, 5e-3], ids=["lif", "current-based"])
def test_euler_steps_of_the_written_equation_give_the_same_spikes(tau_syn, resistance):
    layers = network(tau_syn, True, torch.float64)
    graph = ours.to_graph(layers, step=2e-4, resistance=resistance)
    h, s_in = 2e-4, spikes_in(torch.float64)[:, 0].numpy()
    for k, trace in enumerate(ours.run(spikes_in(torch.float64), layers)):
        node, w, v = graph.nodes[f"layer{k:02}_neurons"], graph.nodes[f"layer{k:02}_in"].weight, None
        if isinstance(node, nir.NIRGraph):
            node, v = node.nodes["lif"], node.nodes["w_rec"].weight
        i = u = s = np.zeros(len(w))
        spikes = []
        for x in s_in:
            arriving = w @ x + (0 if v is None else v @ s)
            if tau_syn is None:
                i, tau = arriving, node.tau
            else:
                i, tau = i + h / node.tau_syn * (node.w_in * arriving - i), node.tau_mem
            u = u + h / tau * (node.v_leak - u + node.r * i)
            s = (u > node.v_threshold).astype(float)
            u = np.where(s > 0, node.v_reset, u)
            spikes.append(s)
        assert np.array_equal(trace.spikes[:, 0].numpy(), spikes)
        assert np.sum(spikes) > 50
        s_in = np.array(spikes)
        assert np.all(node.r == 1) or resistance == "tau"


def test_what_nir_cannot_say_is_said():
    assert ours.unsaid(P) == []
    odd = P._replace(reset="subtract", current="old", refractory=3, adaptation=Adaptation(0.1, 1.0))
    assert [line.split()[0] for line in ours.unsaid(odd)] == ["reset", "current", "refractory", "adaptation"]
    about = json.loads(ours.to_graph(network(p=odd, reset="zero")).metadata[ours.KEY])
    assert about["unsaid"]["layer00_neurons"] == ours.unsaid(odd)
    assert about["dt"] == [1e-3, 1e-3]
    assert "unsaid" in about and about["step"] == ours.STEP
    assert json.loads(ours.to_graph(network()).metadata[ours.KEY])["unsaid"] == {}


# There and back -----------------------------------------------------------------------------------------------------------------

ODD = [
    P,
    LIF(),
    LIF(
        reset="subtract_adapted",
        refractory=4,
        refractory_kind="mute",
        adaptation=Adaptation(0.2, np.linspace(0, 1, 8), "leak"),
    ),
    LIF(
        tau_mem=torch.linspace(0.004, 0.02, 8),
        tau_syn=np.linspace(3e-3, 8e-3, 8),
        surrogate=Surrogate("gaussian", 2.0, 0.5),
    ),
]


def same(a, b):
    """Whether two parameters are the same, types of arrays included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple):
        return type(a) is type(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("resistance", ["one", "tau"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", range(len(ODD)))
def test_a_file_gives_back_the_very_same_network(k, dtype, resistance, tmp_path):
    p, (first, second) = ODD[k], network(recurrent=True, dtype=dtype)
    silent = Layer(second.w, LIF(tau_syn=None if k else 4e-3), None, False)
    layers = [first._replace(p=p), silent]
    ours.write(tmp_path / "net.nir", layers, resistance=resistance)
    again = ours.read(tmp_path / "net.nir")
    assert len(again) == 2
    for before, after in zip(layers, again, strict=True):
        assert same(tuple(before), tuple(after))
    for a, b in zip(ours.run(spikes_in(dtype), layers), ours.run(spikes_in(dtype), again), strict=True):
        assert torch.equal(a.spikes, b.spikes) and torch.equal(a.u, b.u)


def test_a_network_of_the_surrogate_chapter_goes_there_and_back():
    net = surrogate.uniform_network((6, 5, 3), True, torch.Generator().manual_seed(0))
    layers = ours.layers_of(net, P, P._replace(tau_mem=20e-3))
    assert [layer.spikes for layer in layers] == [True, False]
    assert len(ours.layers_of(net, P, readout=False)) == 1
    again = ours.from_graph(ours.to_graph(layers))
    for w, found in zip((net.hidden[0], net.output), again, strict=True):
        assert torch.equal(w, found.w)
    assert torch.equal(net.recurrent[0], again[0].v)
    assert again[1].p.tau_mem == 20e-3


def test_a_change_by_somebody_else_is_not_overlooked(tmp_path):
    layers = network(recurrent=True)
    for change in ("w_in", "v_threshold", "tau_mem"):
        graph = ours.to_graph(layers)
        lif = graph.nodes["layer00_neurons"].nodes["lif"]
        setattr(lif, change, getattr(lif, change) * 2)
        nir.write(tmp_path / "net.nir", graph)
        first, second = ours.read(tmp_path / "net.nir")
        assert second.p == layers[1].p
        assert first.p.dt == ours.STEP
        if change == "w_in":
            assert torch.allclose(first.w, 2 * layers[0].w, rtol=1e-6)
        if change == "v_threshold":
            assert first.p.threshold == 2.0
    graph = ours.to_graph(layers)
    graph.nodes["layer01_in"].weight[0, 0] += 1
    changed = ours.from_graph(graph)[1]
    assert changed.w[0, 0] > layers[1].w[0, 0] and torch.allclose(changed.w[1:], layers[1].w[1:], rtol=1e-6)


@pytest.mark.parametrize("tau_syn", [None, 5e-3], ids=["lif", "current-based"])
def test_without_our_metadata_the_spikes_are_the_same(tau_syn):
    layers = network(tau_syn, True, torch.float64)
    graph = ours.to_graph(layers)
    for node in (graph, *graph.nodes.values(), *graph.nodes["layer00_neurons"].nodes.values()):
        node.metadata = {}
    again = ours.from_graph(graph)
    assert again[0].p.dt == ours.STEP != layers[0].p.dt
    for a, b in zip(ours.run(spikes_in(torch.float64), layers), ours.run(spikes_in(torch.float64), again), strict=True):
        assert torch.equal(a.spikes, b.spikes) and a.spikes.sum() > 100
        assert torch.allclose(a.u, b.u, atol=1e-9)


def lif(n, **fields):
    return nir.LIF(
        **({"tau": np.full(n, 0.01), "r": np.ones(n), "v_leak": np.zeros(n), "v_threshold": np.ones(n)} | fields)
    )


def chain(*nodes, edges=None):
    """A graph of somebody else's."""
    named = {"input": nir.Input({"input": np.array([2])}), **{str(k): node for k, node in enumerate(nodes)}}
    named["output"] = nir.Output({"output": np.array([3])})
    names = list(named)
    return nir.NIRGraph(named, edges or list(itertools.pairwise(names)), type_check=False)


W = np.arange(6.0).reshape(3, 2)


def test_a_graph_from_elsewhere():
    v = np.eye(3)
    edges = [("input", "0"), ("0", "1"), ("1", "2"), ("2", "1"), ("1", "output")]
    (layer,) = ours.from_graph(
        chain(nir.Affine(W, np.zeros(3)), lif(3, r=np.full(3, 2.0)), nir.Linear(v), edges=edges), step=1e-3
    )
    assert layer.p.tau_mem == pytest.approx(np.full(3, -1e-3 / np.log(0.9)))
    assert layer.p[1:9] == (None, 1e-3, 1.0, "zero", False, True, "new", "one")
    assert np.allclose(layer.w, 0.2 * W.T) and np.allclose(layer.v, 0.2 * v)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (lambda: chain(), "no layers"),
        (lambda: chain(nir.Linear(W)), "after input come 0, output"),
        (lambda: chain(lif(3)), "after input come 0, output"),
        (lambda: chain(nir.Linear(W), nir.Flatten({"input": np.array([3])}, 0)), "after input come 0, 1"),
        (lambda: chain(nir.Affine(W, np.ones(3)), lif(3)), "0 has a bias"),
        (lambda: chain(nir.Linear(W), lif(3, v_leak=np.ones(3))), "v_leak of 1 is not 0"),
        (lambda: chain(nir.Linear(W), lif(3, v_reset=np.ones(3))), "v_reset of 1 is not 0"),
        (lambda: chain(nir.Linear(W), lif(3, v_threshold=np.array([1.0, 2, 3]))), "thresholds of 1 lie between 1 and 3"),
        (lambda: chain(nir.Linear(W), lif(3, tau=np.full(3, 1e-5))), "tau_mem of 1 is not above the step"),
        (lambda: chain(nir.Linear(W), lif(3), edges=[("input", "0"), ("0", "1"), ("1", "7")]), "names 7"),
        (
            lambda: chain(
                nir.Linear(W), lif(3), nir.Linear(np.eye(3)), nir.Linear(np.eye(3)),
                edges=[("input", "0"), ("0", "1"), ("1", "2"), ("2", "1"), ("1", "3"), ("3", "1"), ("1", "output")],
            ),
            "1 gets input from 2, 3",
        ),
        (
            lambda: chain(
                nir.Linear(W), lif(3), nir.Linear(W.T), lif(2),
                edges=[("input", "0"), ("0", "1"), ("1", "2"), ("2", "3"), ("3", "0")],
            ),
            "runs in a circle",
        ),
        (lambda: nir.NIRGraph({"a": lif(3)}, [], type_check=False), "a graph has 0 inputs and 0 outputs"),
    ],
)  # fmt: skip
def test_a_graph_we_cannot_run_is_one_clear_line(graph, said):
    with pytest.raises(UserError) as error:
        ours.from_graph(graph())
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_or_foreign_file_is_one_clear_line(tmp_path):
    import h5py

    path = tmp_path / "net.nir"
    ours.write(path, network(recurrent=True))
    whole = path.read_bytes()
    broken = [whole[: len(whole) * k // 12] for k in range(12)] + [b"a text\n" * 100]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"net\.nir: is missing, damaged or no NIR file"):
            ours.read(path)
    for make in (
        lambda f: f.create_dataset("x", data=1.0),
        lambda f: f.create_group("node").create_dataset("type", data="?"),
    ):
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(UserError, match=r"net\.nir: is missing, damaged or no NIR file"):
            ours.read(path)
    nir.write(path, lif(3))  # a neuron alone, no graph
    with pytest.raises(UserError, match="damaged or no NIR file"):
        ours.read(path)
    for missing in (tmp_path / "none.nir", tmp_path):
        with pytest.raises(UserError, match="is missing, damaged or no NIR file"):
            ours.read(missing)
    for text in ("{", "[1]"):
        graph = ours.to_graph(network())
        graph.metadata[ours.KEY] = text
        nir.write(path, graph)
        with pytest.raises(UserError, match="our metadata of the graph are damaged"):
            ours.read(path)
    for text in (
        "{}",
        '{"parameters": {"tau_moon": 1}, "resistance": "one"}',
        '{"parameters": 3, "resistance": "one"}',
    ):
        graph = ours.to_graph(network())
        graph.nodes["layer00_neurons"].metadata[ours.KEY] = text
        with pytest.raises(UserError, match="our metadata of neurons are damaged"):
            ours.from_graph(graph)


def test_steps_that_are_none_are_refused():
    graph = ours.to_graph(network())
    for step in (0.0, -1e-3, np.inf, np.nan):
        with pytest.raises(UserError, match="NIR: the step is"):
            ours.from_graph(graph, step=step)
        with pytest.raises(UserError, match="step"):
            ours.to_graph(network(), step=step)
    graph.metadata[ours.KEY] = "{}"
    with pytest.raises(UserError, match="NIR: the step is None; give seconds above 0"):
        ours.from_graph(graph)


def test_whole_numbers_as_weights_are_not_cut():
    def read(kind):
        weights = nir.Linear(np.array([[100, 3], [2, 50], [0, 1]], kind))
        return ours.from_graph(chain(weights, lif(3)))[0].w

    assert torch.equal(read(np.int32), read(np.float64))
    assert read(np.int32)[1, 0] > 0


@pytest.mark.parametrize(
    ("layers", "options", "said"),
    [
        ([], {}, "no layers to write"),
        (network(), {"resistance": "two"}, "resistance 'two'"),
        (network(), {"step": 0.0}, "step 0.0"),
        ([network()[1], network()[0]], {}, "weights of layer 1 have shape (6, 8)"),
        (
            [network()[0]._replace(v=torch.ones(3, 3))],
            {},
            "recurrent weights of layer 0 have shape (3, 3); give (8, 8)",
        ),
        ([network()[0]._replace(w=torch.full((6, 8), torch.inf))], {}, "weights of layer 0 hold NaN or infinite"),
        ([network()[0]._replace(spikes=False), network()[1]], {}, "layer 0 is a readout, but layer 1 follows"),
        ([network()[0]._replace(p=P._replace(reset="half"))], {}, "reset is 'half'"),
        (
            [network()[0]._replace(p=P._replace(tau_mem=np.ones(3)))],
            {},
            "a parameter has shape (3,); give one number, or 8",
        ),
    ],
)
def test_a_network_we_cannot_write_is_one_clear_line(layers, options, said, tmp_path):
    with pytest.raises(UserError) as error:
        ours.write(tmp_path / "net.nir", layers, **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write it"):
        ours.write(tmp_path / "file" / "net.nir", network())
