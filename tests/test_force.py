"""FORCE: the compiled network against a plain one, recursive least squares, resumption, refusals."""

import re

import numpy as np
import pytest

from snnrepro.errors import UserError
from snnrepro.files import read_npz, write_npz
from snnrepro.force import networks, reference, rls
from snnrepro.force.networks import Izhikevich, Learning, Lif, Network, Theta
from snnrepro.peers.force import run_brian2

SETTINGS = {
    "lif": (Lif(), 5e-5, 2e-3, 20e-3, 0.1, 30.0, True),
    "theta": (Theta(), 5e-5, 2e-3, 20e-3, 10.0, 1e4, True),
    "izhikevich": (Izhikevich(b=-2.0, threshold=-19.2), 0.04, 2.0, 20.0, 5e3, 5e3, False),
}
EACH = pytest.mark.parametrize("kind", SETTINGS)


def small(kind: str, n: int = 60, k: int = 2, seed: int = 0):
    """A network, its initial potentials and a teacher."""
    model, dt, rise, fall, gain, strength, balanced = SETTINGS[kind]
    random = np.random.default_rng(seed)
    static = networks.static_weights(n, gain, 0.2, balanced, random)
    network = Network(model, dt, rise, fall, static, strength * random.uniform(-1, 1, (k, n)))
    v = {"lif": random.uniform(-65, 30, n), "theta": random.uniform(-np.pi, np.pi, n)}.get(
        kind, random.uniform(-60, 30, n)
    )
    phase = np.arange(40_000) * dt * (1e-3 if kind == "izhikevich" else 1.0)
    return network, v, np.stack([np.sin(10 * np.pi * phase + j) for j in range(k)], 1)


@EACH
def test_spikes_are_those_of_the_plain_network(kind):
    """Without learning, with a decoder that feeds back: all sums run in the same order, so that every spike is the same."""
    network, v, teacher = small(kind)
    decoder = 1e-3 * np.random.default_rng(1).standard_normal((2, 60)) * (1e3 if kind == "izhikevich" else 1)
    state = networks.start(network, v, 1.0)
    state.decoder[:] = decoder
    ours = networks.run(network, state, 6000, None, None, listed=10**6)
    theirs, _, _ = reference.run(network, v, 6000, teacher, None, decoder)
    assert ours.spikes == theirs.spikes > 60
    assert np.array_equal(ours.spike_steps, theirs.spike_steps)
    assert np.array_equal(ours.spike_units, theirs.spike_units)
    np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=1e-12, atol=1e-15)


@EACH
def test_learning_is_that_of_the_plain_network(kind):
    """Until rounding tells: the networks are chaotic."""
    network, v, teacher = small(kind)
    initial = 2.0 if kind == "izhikevich" else 1e-5
    learning = Learning(100, 10**6, 20, initial)
    state = networks.start(network, v, initial)
    ours = networks.run(network, state, 3000, teacher[:3000], learning, listed=10**6)
    theirs, phi, p = reference.run(network, v, 3000, teacher, learning)
    assert ours.spikes == theirs.spikes
    assert np.array_equal(ours.spike_units, theirs.spike_units)
    np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(state.decoder, phi, rtol=1e-6, atol=1e-9 * np.abs(phi).max())
    np.testing.assert_allclose(rls.matrix(state.rls), p, rtol=1e-6, atol=1e-9 * initial)
    assert np.abs(phi).max() > 0


def test_pending_updates_are_the_same_algebra():
    random = np.random.default_rng(0)
    n, k = 40, 3
    state, decoder = rls.start(n, 0.5), np.zeros((k, n))
    p, phi = 0.5 * np.eye(n), np.zeros((k, n))
    for _ in range(53):
        r, error = random.random(n), random.standard_normal(k)
        c = p @ r
        phi -= np.outer(error, c)
        p -= np.outer(c, c) / (1 + r @ c)
        rls.update(state, decoder, r, error)
    assert state.count[0] == 53 % rls.PENDING
    np.testing.assert_allclose(decoder, phi, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rls.matrix(state), p, rtol=1e-10, atol=1e-12)
    rls.flush(state)
    np.testing.assert_allclose(rls.matrix(state), p, rtol=1e-10, atol=1e-12)


@EACH
def test_a_run_in_pieces_is_the_run(kind):
    network, v, teacher = small(kind)
    learning = Learning(50, 2500, 30, 2.0 if kind == "izhikevich" else 1e-5)
    whole, pieces = (networks.start(network, v, learning.initial) for _ in range(2))
    at_once = networks.run(network, whole, 3000, teacher[:3000], learning)
    found, done = [], 0
    for count in (1, 7, 992, 1000, 1000):
        found.append(networks.run(network, pieces, count, teacher[done : done + count], learning).outputs)
        done += count
    assert np.array_equal(np.concatenate(found), at_once.outputs)
    assert np.array_equal(whole.decoder, pieces.decoder)
    assert np.array_equal(rls.matrix(whole.rls), rls.matrix(pieces.rls))


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    network, v, teacher = small("lif")
    learning = Learning(50, 2500, 30, 1e-5)
    whole = networks.start(network, v, learning.initial)
    at_once = networks.run(network, whole, 3000, teacher[:3000], learning)
    first = networks.start(network, v, learning.initial)
    networks.run(network, first, 1234, teacher[:1234], learning)
    assert first.rls.count[0] % rls.PENDING  # some terms are pending
    write_npz(tmp_path / "state.npz", networks.pack(first))
    again = networks.unpack(read_npz(tmp_path / "state.npz"))
    rest = networks.run(network, again, 3000 - 1234, teacher[1234:3000], learning)
    assert np.array_equal(rest.outputs, at_once.outputs[1234:])
    for a, b in zip(networks.pack(whole).values(), networks.pack(again).values(), strict=True):
        assert np.array_equal(a, b)


def test_static_weights():
    random = np.random.default_rng(0)
    weights = networks.dense(networks.static_weights(400, 0.5, 0.1, False, random))
    assert (weights != 0).mean() == pytest.approx(0.1, abs=0.005)
    assert weights[weights != 0].std() == pytest.approx(0.5 / (0.1 * 20), rel=0.02)
    balanced = networks.dense(networks.static_weights(400, 0.5, 0.1, True, random))
    assert np.abs(balanced.sum(1)).max() < 1e-12
    assert np.array_equal(networks.dense(networks.columns(weights)), weights)


def test_it_learns_a_sine():
    random = np.random.default_rng(3)
    n = 300
    static = networks.static_weights(n, 0.1, 0.1, True, random)
    network = Network(Lif(), 5e-5, 2e-3, 20e-3, static, 30.0 * random.uniform(-1, 1, (1, n)))
    state = networks.start(network, random.uniform(-65, 30, n), 2.5e-6)
    teacher = np.sin(10 * np.pi * np.arange(80_000) * 5e-5)[:, None]
    networks.run(network, state, 60_000, teacher[:60_000], Learning(10_000, 60_000, 50, 2.5e-6))
    after = networks.run(network, state, 20_000, None, None).outputs[:, 0]
    lags = [np.corrcoef(after[:4000], teacher[lag : lag + 4000, 0])[0, 1] for lag in range(0, 4000, 50)]
    assert max(lags) > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: networks.static_weights(10, 1.0, 0.0, False, np.random.default_rng(0)),
            "static_weights: 10 neurons, share 0.0; give 1 or",
        ),
        (lambda: rls.start(3, -1.0), "rls: P starts at -1.0; give a positive number"),
        (
            lambda: networks.start(small("lif")[0]._replace(dt=0.1), small("lif")[1], 1.0),
            "force: a time step of 0.1 is longer than a",
        ),
        (
            lambda: networks.start(small("lif")[0], np.zeros(3), 1.0),
            "force: feedback is for 60 neurons, potentials have shape (3,)",
        ),
        (
            lambda: started("lif", None, Learning(0, 9, 1, 1.0)),
            "force: give a finite teacher of shape (20, 2) to learn from",
        ),
        (
            lambda: started("izhikevich", None, None, 1e300),
            "force: a potential is not finite at about step 20; use a smaller time step",
        ),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        call()


def started(kind, teacher, learning, feedback=1.0):
    network, v, _ = small(kind)
    network = network._replace(feedback=feedback * network.feedback)
    state = networks.start(network, v, 1.0)
    state.z[:] = 1.0
    return networks.run(network, state, 20, teacher, learning)


def test_a_p_that_is_not_positive_is_named():
    state = rls.start(3, 1.0)
    np.fill_diagonal(state.p, -1.0)
    with pytest.raises(UserError, match="P is not positive any more"):
        rls.update(state, np.zeros((1, 3)), np.ones(3), np.ones(1))


def test_brian2_spikes_at_the_same_steps():
    """For the first 100 ms, while the decoder learns; later rounding decides, and statistics are compared."""
    network, v, teacher = small("lif", n=120, k=1, seed=5)
    learning = Learning(100, 10**6, 50, 2.5e-6)
    state = networks.start(network, v, learning.initial)
    ours = networks.run(network, state, 10_000, teacher[:10_000], learning, listed=10**6)
    theirs = run_brian2(network, v, 10_000, teacher[:10_000], learning)
    early, late = ours.spike_steps < 2000, theirs.spike_steps < 2000
    assert early.sum() > 200
    assert np.array_equal(ours.spike_steps[early], theirs.spike_steps[late])
    assert np.array_equal(ours.spike_units[early], theirs.spike_units[late])
    np.testing.assert_allclose(ours.outputs[:2000], theirs.outputs[:2000], rtol=1e-6, atol=1e-9)
    assert ours.spikes == pytest.approx(len(theirs.spike_steps), rel=0.05)
    errors = [np.sqrt(np.mean((found.outputs[5000:] - teacher[5000:10_000]) ** 2)) for found in (ours, theirs)]
    assert errors[0] == pytest.approx(errors[1], rel=0.5)


def test_brian2_refuses_other_neurons():
    network, v, teacher = small("theta")
    with pytest.raises(UserError, match=r"^Brian2: this second opinion knows LIF neurons only$"):
        run_brian2(network, v, 10, teacher, Learning(0, 9, 1, 1.0))
