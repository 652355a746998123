"""FORCE: the compiled network against a plain one and closed forms, recursive least squares, resumption, refusals."""

import contextlib
import math
import re

import numpy as np
import pytest

from snnrepro.errors import UserError
from snnrepro.files import read_npz, write_npz
from snnrepro.force import networks, reference, rls
from snnrepro.force.networks import Izhikevich, Learning, Lif, Network, Theta
from snnrepro.kernels import force as kernel
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


@pytest.mark.parametrize(("largest", "off"), [(np.pi, 2e-15), (100, 2e-14), (1e6, 1e-9)])
def test_one_less_the_cosine(largest, off):
    v = np.linspace(-largest, largest, 2001)
    assert max(abs(kernel.versine(value) - (1 - math.cos(value))) for value in v) < off


@pytest.mark.parametrize("size", [1, 63, 64, 200])
def test_a_weighted_sum(size):
    a, b = np.random.default_rng(size).standard_normal((2, size))
    assert kernel.weighted_sum(a, b, np.full(64, np.nan)) == pytest.approx(math.fsum(a * b), abs=1e-13)


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


OUTER = {"lif": 25.0, "theta": 20.0, "izhikevich": 4e3}


def driven(kind: str, count: int):
    """A small network with an outer signal of three channels, of which one is silent half the time."""
    network, v, teacher = small(kind)
    random = np.random.default_rng(2)
    drive = random.uniform(-1, 1, (count, 3))
    drive[: count // 2, 1] = 0
    return network._replace(inputs=OUTER[kind] * random.uniform(-1, 1, (3, 60))), v, teacher, drive


@EACH
def test_an_outer_signal_is_that_of_the_plain_network(kind):
    network, v, teacher, drive = driven(kind, 3000)
    decoder = 1e-3 * np.random.default_rng(1).standard_normal((2, 60)) * (1e3 if kind == "izhikevich" else 1)
    state, alone = networks.start(network, v, 1.0), networks.start(network, v, 1.0)
    state.decoder[:] = alone.decoder[:] = decoder
    ours = networks.run(network, state, 3000, None, None, 10**6, drive)
    theirs, _, _ = reference.run(network, v, 3000, teacher, None, decoder, drive)
    assert ours.spikes == theirs.spikes > 60
    assert np.array_equal(ours.spike_steps, theirs.spike_steps)
    assert np.array_equal(ours.spike_units, theirs.spike_units)
    np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=1e-12, atol=1e-15)
    undriven = networks.run(network, alone, 3000, None, None, 10**6)
    assert not np.array_equal(undriven.spike_units, ours.spike_units)
    plain, _, _ = reference.run(network._replace(inputs=None), v, 3000, teacher, None, decoder)
    assert np.array_equal(undriven.spike_units, plain.spike_units)


@EACH
def test_a_driven_run_in_pieces_is_the_run(kind):
    """While the decoder learns: each piece, and each stretch between two updates, takes its own rows of the signal."""
    network, v, teacher, drive = driven(kind, 2000)
    learning = Learning(50, 1900, 30, 2.0 if kind == "izhikevich" else 1e-5)
    whole, pieces = (networks.start(network, v, learning.initial) for _ in range(2))
    at_once = networks.run(network, whole, 2000, teacher[:2000], learning, 10**6, drive)
    theirs, _, _ = reference.run(network, v, 2000, teacher, learning, drive=drive)
    assert np.array_equal(at_once.spike_units, theirs.spike_units)
    outputs, done = [], 0
    for count in (3, 997, 1000):
        part = slice(done, done + count)
        outputs.append(networks.run(network, pieces, count, teacher[part], learning, 0, drive[part]).outputs)
        done += count
    assert np.array_equal(np.concatenate(outputs), at_once.outputs)


def alone(model, dt=5e-5, rise=2e-3, fall=20e-3, v=0.0):
    """One neuron without weights, with an outer signal of weight 1."""
    nothing = networks.columns(np.zeros((1, 1)))
    network = Network(model, dt, rise, fall, nothing, np.zeros((1, 1)), np.ones((1, 1)))
    return network, networks.start(network, np.array([v]), 1.0)


def test_a_leaky_neuron_relaxes_to_its_bias():
    network, state = alone(Lif(bias=-50.0), v=-65.0)
    networks.run(network, state, 400, None, None)  # two time constants
    assert state.v[0] == pytest.approx(-50 - 15 * math.exp(-2), rel=1e-3)


def test_a_neuron_is_refractory_for_its_time():
    network, state = alone(Lif())
    found = networks.run(network, state, 99, None, None, 100, np.full((99, 1), 1e6))
    assert set(np.diff(found.spike_steps)) == {41}  # 2 ms are 40 steps without movement, and one that moves
    free, state = alone(Lif(refractory=0.0))
    found = networks.run(free, state, 50, None, None, 100, np.full((50, 1), 1e6))
    assert set(np.diff(found.spike_steps)) == {1}


@pytest.mark.parametrize("current", [25.0, 100.0])
def test_a_theta_neuron_spikes_at_the_root_of_its_current(current):
    """v' = 1 - cos v + pi^2 (1 + cos v) s goes round in 1 / sqrt(s) seconds."""
    network, state = alone(Theta(), dt=1e-5, v=-3.0)
    found = networks.run(network, state, 100_000, None, None, 1000, np.full((100_000, 1), current))
    assert 1 / (np.diff(found.spike_steps[1:]).mean() * 1e-5) == pytest.approx(math.sqrt(current), rel=0.01)


def test_an_izhikevich_neuron_moves_as_written():
    """A step with the old potential in both equations, and a spike, by hand."""
    model = Izhikevich(b=-2.0)
    network, state = alone(model, 0.04, 2.0, 20.0, v=-30.0)
    networks.run(network, state, 1, None, None, 0, np.full((1, 1), 70.0))
    v = -30 + 0.04 * (2.5 * 30 * -10 + 70 + 1000) / 250
    u = 0.04 * 0.01 * (-2 * 30)
    assert (state.v[0], state.u[0]) == pytest.approx((v, u), rel=1e-12)
    state.v[0], state.u[0] = 29.0, 5.0
    networks.run(network, state, 1, None, None)
    assert state.v[0] == -65
    assert state.u[0] == pytest.approx(5 + 0.04 * 0.01 * (-2 * 89 - 5) + 200, rel=1e-12)


def test_a_filtered_spike_is_the_double_exponential():
    """Of area 1, that begins at 0: (exp(-t / fall) - exp(-t / rise)) / (fall - rise)."""
    network, state = alone(Lif())  # above threshold: a spike in the first step, and none later
    seen = []
    for _ in range(4000):
        spikes = networks.run(network, state, 1, None, None).spikes
        seen.append((spikes, state.rate[0]))
    spikes, rate = np.array(seen).T
    assert spikes.sum() == spikes[0] == 1
    assert rate[0] == 0
    t = 5e-5 * np.arange(4000)
    expected = (np.exp(-t / 20e-3) - np.exp(-t / 2e-3)) / 18e-3
    assert rate.sum() * 5e-5 == pytest.approx(1, rel=0.03)
    assert np.abs(rate - expected).max() < 0.02 * expected.max()
    assert rate.argmax() == pytest.approx(expected.argmax(), abs=2)


def test_a_spike_reaches_others_through_the_same_filter():
    weights = np.array([[0.0, 0.0], [3.0, 0.0]])
    network = Network(Lif(bias=-60.0), 5e-5, 2e-3, 20e-3, networks.columns(weights), np.zeros((1, 2)))
    state = networks.start(network, np.array([0.0, -60.0]), 1.0)
    for _ in range(300):
        networks.run(network, state, 1, None, None)
        assert state.current == pytest.approx([0.0, 3 * state.rate[0]], rel=1e-12)
    assert state.current[1] > 0


@EACH
def test_the_decoder_is_fed_back(kind):
    """A positive output with positive feedback excites."""
    network, v, _ = small(kind)
    count = {}
    for sign in (1, -1):
        positive = network._replace(feedback=sign * 0.1 * np.abs(network.feedback))
        state = networks.start(positive, v, 1.0)
        state.decoder[:] = 1e-3 if kind != "izhikevich" else 1.0
        count[sign] = networks.run(positive, state, 4000, None, None).spikes
    assert count[1] > 1.2 * count[-1]


def test_it_learns_from_first_to_last():
    """One-based steps i with first < i < last and i mod every = 1."""
    network, v, teacher = small("lif")
    for learning, updates in (
        (Learning(100, 200, 20, 1e-5), [101, 121, 141, 161, 181]),
        (Learning(101, 181, 20, 1e-5), [121, 141, 161]),
        (Learning(100, 181, 20, 1e-5), [101, 121, 141, 161]),
    ):
        state = networks.start(network, v, 1e-5)
        changed, before = [], 0
        for i in range(1, 251):
            networks.run(network, state, 1, teacher[i - 1 : i], learning)
            if state.rls.count[0] != before:
                changed.append(i)
            before = state.rls.count[0]
        assert changed == updates


def test_an_update_lowers_the_error():
    """Right after an update the same filtered spikes give an output that is nearer to the teacher: by 1 / (1 + r'Pr)."""
    random = np.random.default_rng(0)
    state, decoder = rls.start(30, 0.5), random.standard_normal((2, 30))
    for _ in range(20):
        r, target = random.random(30), random.standard_normal(2)
        error = decoder @ r - target
        quadratic = float(r @ rls.matrix(state) @ r)
        scale = rls.update(state, decoder, r, error)
        assert scale == pytest.approx(1 + quadratic)
        np.testing.assert_allclose(decoder @ r - target, error * (1 - quadratic), rtol=1e-9)  # by the old P


def test_p_is_the_inverse_of_the_correlations():
    random = np.random.default_rng(0)
    state, decoder = rls.start(20, 0.5), np.zeros((1, 20))
    rates = random.random((40, 20))
    for r in rates:
        rls.update(state, decoder, r, np.ones(1))
    expected = np.linalg.inv(2 * np.eye(20) + rates.T @ rates)
    np.testing.assert_allclose(rls.matrix(state), expected, rtol=1e-9, atol=1e-12)


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
            lambda: networks.start(small("lif")[0]._replace(feedback=np.zeros((0, 60))), np.zeros(60), 1.0),
            "force: the network has no output",
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
            lambda: started("lif", np.full((20, 2), np.nan), Learning(0, 9, 1, 1.0)),
            "force: give a finite teacher of shape (20, 2) to learn from",
        ),
        (lambda: with_drive(np.zeros((19, 3))), "force: give a finite outer signal of shape (20, 3)"),
        (lambda: with_drive(np.zeros((20, 2))), "force: give a finite outer signal of shape (20, 3)"),
        (lambda: with_drive(np.full((20, 3), np.inf)), "force: give a finite outer signal of shape (20, 3)"),
        (lambda: with_drive(np.zeros((20, 3)), inputs=None), "force: give a finite outer signal of shape (20, 0)"),
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


def with_drive(drive, **changed):
    network, v, _, _ = driven("lif", 20)
    network = network._replace(**changed)
    return networks.run(network, networks.start(network, v, 1.0), 20, None, None, 0, drive)


# Input that does not fit ----------------------------------------------------------------------------------------------------

NOTHING = networks.Columns(np.zeros(1, int), np.zeros(0, np.uint32), np.zeros(0))
ONCE = Learning(0, 9, 1, 1.0)


def begun(v=None, **changed):
    """The state of a small network, changed."""
    network, usual, _ = small("lif")
    return networks.start(network._replace(**changed), usual if v is None else v, 1.0)


def weights(**changed):
    """Its static weights, changed."""
    return small("lif")[0].static._replace(**changed)


def ran(count=20, learning=None, listed=0, state=None, **changed):
    """A run of a changed network from the state of the usual one."""
    network, _, teacher = small("lif")
    now = begun()._replace(**(state or {}))
    return networks.run(network._replace(**changed), now, count, teacher[:20], learning, listed)


def plain(count=20, learning=None, decoder=None, drive=None, v=None, teacher=None, **changed):
    """The same in the plain network."""
    network, usual, usually = small("lif")
    given = usually if teacher is None else teacher
    return reference.run(network._replace(**changed), usual if v is None else v, count, given, learning, decoder, drive)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.static_weights(4.0, 1.0, 0.5, False, None), "static_weights: 4.0 neurons"),
        (lambda: networks.static_weights(4, np.nan, 0.5, False, None), "static_weights: the gain is nan; give a fin"),
        (lambda: networks.columns(np.ones(3)), "columns: the matrix has shape (3,); give (n, n)"),
        (lambda: networks.columns(np.ones((3, 2))), "columns: the matrix has shape (3, 2); give (n, n)"),
        (
            lambda: networks.columns(np.full((2, 2), np.nan)),
            "columns: the matrix has shape (2, 2); give (n, n), of fin",
        ),
        (lambda: networks.dense(weights(values=np.ones(1))), "dense: 742 rows and 1 values; give 742 of each"),
        (lambda: networks.dense(weights(rows=weights().rows + 9)), "dense: rows 9 to 68; give neurons 0 to 59"),
        (lambda: begun(feedback=np.ones(60)), "force: feedback has shape (60,); give (k, n)"),
        (lambda: begun(np.zeros(0), feedback=np.ones((1, 0)), static=NOTHING), "force: the network has no neurons"),
        (lambda: begun(static=weights(values=np.ones(1))), "force: 742 rows and 1 values of static weights; give 742"),
        (
            lambda: begun(static=weights(starts=weights().starts - 2 * np.eye(1, 61, dtype=int)[0])),
            "force: starts of the",
        ),
        (
            lambda: begun(static=weights(starts=weights().starts + 99 * np.eye(1, 61, 5, int)[0])),
            "force: starts of the",
        ),
        (
            lambda: begun(static=weights(rows=weights().rows + 9)),
            "force: static weights go to neurons 9 to 68; give 0 to",
        ),
        (lambda: begun(inputs=np.ones(60)), "force: inputs have shape (60,); give (m, 60)"),
        (lambda: begun(inputs=np.ones((1, 59))), "force: inputs have shape (1, 59); give (m, 60)"),
        (lambda: begun(inputs=np.full((1, 60), np.nan)), "force: the inputs hold NaN"),
        (lambda: begun(np.full(60, np.nan)), "force: the potentials hold NaN"),
        (lambda: begun(static=weights(values=np.full(742, np.inf))), "force: the static weights hold NaN"),
        (lambda: begun(feedback=np.full((2, 60), np.nan)), "force: the feedback hold NaN"),
        (lambda: begun(model="lif"), "force: the model is 'lif'; give Lif, Theta or Izhikevich"),
        (lambda: begun(model=Lif(tau=np.nan)), "force: a parameter is not finite in Lif(tau=nan"),
        (lambda: begun(model=Lif(threshold=-65.0)), "force: the reset is not below the spike in Lif("),
        (lambda: begun(model=Izhikevich(peak=-80.0)), "force: the reset is not below the spike in Izhikevich("),
        (lambda: begun(model=Lif(tau=-1.0)), "force: tau must be positive, and refractory 0 or more"),
        (lambda: begun(model=Lif(refractory=-1e-3)), "force: tau must be positive, and refractory 0 or more"),
        (lambda: begun(model=Izhikevich(c=0.0)), "force: the capacitance c is 0.0; it must be positive"),
        (lambda: begun(rise=np.inf), "force: rise is inf; it must be positive and finite"),
        (lambda: ran(feedback=np.ones(60)), "force: feedback has shape (60,); give (k, n)"),
        (lambda: ran(-1), "force: count is -1; give a whole number of 0 or more"),
        (lambda: ran(20.0), "force: count is 20.0; give a whole number"),
        (lambda: ran(listed=-1), "force: listed is -1; give a whole number"),
        (lambda: ran(model="lif"), "force: the model is 'lif'; give Lif, Theta or Izhikevich"),
        (lambda: ran(static=NOTHING), "force: static weights are for 0 neurons, feedback for 60"),
        (
            lambda: ran(static=weights(rows=np.zeros(1, int))),
            "force: 1 rows and 742 values of static weights; give 742",
        ),
        (lambda: ran(inputs=np.ones(60)), "force: inputs have shape (60,); give (m, 60)"),
        (lambda: ran(inputs=np.ones((1, 3))), "force: inputs have shape (1, 3); give (m, 60)"),
        (
            lambda: ran(state={"u": np.zeros(2)}),
            "force: u of the state is float64 of shape (2,); give float64 of shape (60,)",
        ),
        (lambda: ran(state={"v": np.full(60, -50)}), "force: v of the state is int64 of shape (60,); give float64"),
        (lambda: ran(state={"free": np.zeros(60)}), "force: free of the state is float64 of shape (60,); give int64"),
        (
            lambda: ran(state={"z": np.zeros(1)}),
            "force: z of the state is float64 of shape (1,); give float64 of shape (2,)",
        ),
        (
            lambda: ran(state={"decoder": np.zeros((2, 1))}),
            "force: decoder of the state is float64 of shape (2, 1); give",
        ),
        (lambda: ran(state={"step": np.zeros(0, int)}), "force: step of the state has shape (0,); give (1,)"),
        (lambda: ran(learning=ONCE._replace(every=0)), "force: the decoder learns every 0 steps; give a whole number"),
        (lambda: ran(learning=ONCE._replace(every=2.5)), "force: the decoder learns every 2.5 steps"),
        (lambda: networks.unpack({}), "force: there is no array 'v'; give what pack gave"),
        (lambda: plain(feedback=np.ones(60)), "force: feedback has shape (60,); give (k, n)"),
        (lambda: plain(-1), "force: count is -1; give a whole number"),
        (lambda: plain(static=NOTHING), "force: static weights are for 0 neurons, feedback for 60"),
        (lambda: plain(v=np.zeros(1)), "force: give finite potentials of shape (60,), not (1,)"),
        (lambda: plain(v=np.full(60, np.nan)), "force: give finite potentials"),
        (lambda: plain(decoder=np.zeros((2, 1))), "force: the decoder has shape (2, 1); give (2, 60)"),
        (lambda: plain(learning=ONCE._replace(every=0)), "force: the decoder learns every 0 steps"),
        (
            lambda: plain(learning=ONCE, teacher=np.zeros((20, 1))),
            "force: give a teacher of shape (20, 2) to learn from",
        ),
        (
            lambda: plain(learning=ONCE, teacher=np.zeros((9, 2))),
            "force: give a teacher of shape (20, 2) to learn from",
        ),
        (lambda: plain(learning=ONCE, teacher=np.full((20, 2), np.nan)), "force: the teacher holds NaN"),
        (lambda: plain(drive=np.ones((20, 1))), "force: an outer signal needs inputs of shape (m, 60)"),
        (lambda: plain(drive=np.ones((20, 1)), inputs=np.ones((1, 1))), "force: an outer signal needs inputs of shape"),
        (
            lambda: plain(drive=np.ones((20, 1)), inputs=np.ones((2, 60))),
            "force: the outer signal has shape (20, 1); give",
        ),
        (
            lambda: plain(drive=np.ones((9, 2)), inputs=np.ones((2, 60))),
            "force: the outer signal has shape (9, 2); give",
        ),
        (lambda: plain(drive=np.full((20, 1), np.nan), inputs=np.ones((1, 60))), "force: the outer signal holds NaN"),
    ],
)
def test_input_that_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_state_of_another_network_is_refused():
    """The compiled loop would read past its end."""
    (network, *_), (_, v, _) = small("lif", n=90), small("lif")
    with pytest.raises(
        UserError, match=r"^force: v of the state is float64 of shape \(60,\); give float64 of shape \(90,\)"
    ):
        networks.run(network, begun(v), 20, None, None)


def updated(decoder=None, rate=None, error=None, **changed):
    state = rls.start(3, 1.0)._replace(**changed)
    given = (np.zeros((2, 3)), np.ones(3), np.ones(2))
    return rls.update(state, *(b if a is None else a for a, b in zip((decoder, rate, error), given, strict=True)))


OBLONG = "rls: P (3, 3), vectors (1, 16); give (n, n) and (n, 16)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rls.start(0, 1.0), "rls: 0 neurons; give a whole number of 1 or more"),
        (lambda: rls.start(2.0, 1.0), "rls: 2.0 neurons; give a whole number of 1 or more"),
        (lambda: rls.start(2, np.inf), "rls: P starts at inf; give a positive number"),
        (lambda: updated(error=np.ones(1)), "rls: decoder (2, 3), rate (3,), error (1,); give (k, n), (n,) and (k,)"),
        (lambda: updated(rate=np.ones(5)), "rls: decoder (2, 3), rate (5,), error (2,)"),
        (lambda: updated(decoder=np.zeros(3)), "rls: decoder (3,), rate (3,), error (2,)"),
        (
            lambda: updated(decoder=np.zeros((2, 3), int)),
            "rls: the decoder is int64, and changes in place; give float64",
        ),
        (lambda: updated(error=np.array([0, np.nan])), "rls: the error is not finite; check the teacher"),
        (lambda: updated(p=np.eye(4, order="F")), "rls: P (4, 4), vectors (3, 16); give (3, 3) and (3, 16)"),
        (lambda: updated(vectors=np.zeros((1, 16))), "rls: P (3, 3), vectors (1, 16); give (3, 3) and (3, 16)"),
        (lambda: updated(p=np.eye(3)), "rls: P changes in place; give float64 in Fortran order"),
        (lambda: updated(p=np.eye(3, dtype=np.float32, order="F")), "rls: P changes in place; give float64"),
        (lambda: updated(count=np.full(1, 16)), "rls: 16 terms are pending; give 0 to 15"),
        (lambda: updated(count=np.full(1, -1)), "rls: -1 terms are pending; give 0 to 15"),
        (lambda: rls.flush(rls.start(3, 1.0)._replace(p=np.eye(3))), "rls: P changes in place; give float64"),
        (lambda: rls.flush(rls.start(3, 1.0)._replace(vectors=np.ones((1, 16)))), OBLONG),
        (lambda: rls.matrix(rls.start(3, 1.0)._replace(vectors=np.ones((1, 16)))), OBLONG),
    ],
)
def test_recursive_least_squares_refuses_what_does_not_fit(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "dt", "rise", "fall", "drive"),
    [(Lif(), 2e-3, 2e-3, 20e-3, 0.0), (Theta(), 0.19, 0.2, 2.0, 1.0), (Izhikevich(), 1.0, 2.0, 20.0, 500.0)],
    ids=["lif", "theta", "izhikevich"],
)
def test_a_time_step_that_is_too_large_for_the_neuron_is_named(model, dt, rise, fall, drive):
    """At a time step thirty times smaller the same network is sound."""
    for smaller, refused in ((1, True), (30, False)):
        network, state = alone(model, dt / smaller, rise, fall)
        if isinstance(model, Lif):
            state.v[:], drive = 30.0, 20.0
        steps = 1000 * smaller
        message = (
            r"^force: potentials jump: 0\.\d+ of all neurons and steps, up to step \d+, move more than 0\.25 of the way"
        )
        with pytest.raises(UserError, match=message) if refused else contextlib.nullcontext():
            networks.run(network, state, steps, None, None, 0, np.full((steps, 1), drive))


def test_jumps_of_less_than_a_thousand_steps_are_no_error():
    """Learning begins with some."""
    network, state = alone(Izhikevich(), 1.0, 2.0, 20.0)
    networks.run(network, state, 999, None, None, 0, np.full((999, 1), 500.0))
    with pytest.raises(UserError, match=r"^force: potentials jump"):
        networks.run(network, state, 1000, None, None, 0, np.full((1000, 1), 500.0))


def test_a_decoder_that_explodes_is_named():
    """A large P makes the first updates overshoot; refractory neurons cannot show it by their rate."""
    network, v, teacher = small("lif", n=100, k=1, seed=1)
    state = networks.start(network, v, 1e3)
    with pytest.raises(UserError, match=r"^force: potentials jump"):
        networks.run(network, state, 10_000, teacher[:10_000], Learning(100, 10**6, 50, 1e3))


def test_a_network_that_runs_away_is_named():
    """Where neurons spike more often than in every tenth step; a burst of fewer than 100 steps is none."""
    network, state = alone(Izhikevich(), 0.04, 2.0, 20.0)
    drive = np.full((100, 1), 1e5)
    short = networks.run(network, networks.unpack(networks.pack(state)), 99, None, None, 0, drive[:99])
    assert 10 < short.spikes < 20
    message = r"^force: the network runs away: 0\.1\d* spikes a neuron and step, up to step 100; use a smaller gain, feedback or"
    with pytest.raises(UserError, match=message):
        networks.run(network, state, 100, None, None, 0, drive)


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
