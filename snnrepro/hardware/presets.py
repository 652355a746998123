"""Substrates by name. Each number says where it is from; `founded` sums up how far a preset can be trusted."""

from snnrepro import costs
from snnrepro.errors import UserError
from snnrepro.hardware.matrix import VectorMatrix
from snnrepro.hardware.parts import Cost, FixedPattern, Limits, Readout, Source, TimeGrid, TrialNoise, WeightGrid
from snnrepro.hardware.substrate import Substrate

_DELGRAD = Source("published", "authors' code fastAndDeep, yin_yang_hwAware configuration")
_DEMOS = Source("published", "brainscales2-demos, fp_brainscales; hxtorch, constants.h")
_ROCKPOOL = Source("published", "rockpool, DYNAP-SE2 defaults: 30 % at three standard deviations")
_THRESHOLD = 2.6  # of the DelGrad model, whose numbers are in units of a weight of 30 levels

BSS2_LIMITS = Limits(
    circuits=512,
    rows=256,
    rows_per_input=2,
    merged=2,
    source=Source("published", f"{_DEMOS.where}; two circuits a neuron follow from the published 256-246-10 network"),
)
BSS2_TIME = TimeGrid(
    8e-9 / 6e-6, Source("measured", "label spikes recorded by the authors lie on a grid of 8 ns; tau = 6 us")
)
BSS2_COST = Cost(
    power=0.2,
    seconds=11.8e-6,
    source=Source("measured", "Cramer et al. (2022): about 200 mW for the chip, an image every 11.8 us"),
)

IDEAL = Substrate("ideal")

BSS2_DELGRAD = Substrate(
    "bss2_delgrad",
    weights=WeightGrid(-63, 63, 1 / 30, _DELGRAD),
    neurons=(FixedPattern("threshold", 0.08 / _THRESHOLD, 0.13 / _THRESHOLD, _DELGRAD),),
    noise=TrialNoise(threshold=0.04 / _THRESHOLD, source=_DELGRAD),
    time=BSS2_TIME,
    limits=BSS2_LIMITS,
    cost=BSS2_COST,
)
"""The authors' noise model of BrainScaleS-2, for first-spike neurons with a threshold of 2.6. The time grid is added."""

_SPREAD = 0.08 / _THRESHOLD
_ASSUMED = Source(
    "assumed", "the calibrated spread of the threshold, for all, over the shares that calix's tests ask for"
)
BSS2_UNCALIBRATED = Substrate(
    "bss2_uncalibrated",
    weights=WeightGrid(-63, 63, None, _DEMOS),
    neurons=(
        FixedPattern("threshold", _SPREAD / 0.35, source=_ASSUMED),
        FixedPattern("tau_mem", _SPREAD / 0.45, source=_ASSUMED),
        FixedPattern("tau_syn", _SPREAD / 0.20, source=_ASSUMED),
    ),
    noise=TrialNoise(threshold=0.04 / _THRESHOLD, source=_DELGRAD),
    time=BSS2_TIME,
    readout=Readout(
        8,
        -80 / 45,
        175 / 45,
        2.0,
        Source("assumed", "range by calix's default leak and threshold, 45 steps apart; noise of hxtorch's mock"),
    ),
    limits=BSS2_LIMITS,
    cost=BSS2_COST,
)
"""BrainScaleS-2 before calibration, for networks in time steps."""

BSS2_HAGEN = VectorMatrix(
    "bss2_hagen", source=Source("published", "hxtorch, perceptron mock mode: gain 0.002, noise of 2")
)

DYNAPSE2 = Substrate(
    "dynapse2",
    weights=WeightGrid(
        -15, 15, None, Source("assumed", "4-bit mask over base currents, taken as powers of two; rockpool")
    ),
    neurons=tuple(
        FixedPattern(quantity, 0.1, source=_ROCKPOOL) for quantity in ("threshold", "tau_mem", "tau_syn", "gain")
    ),
    limits=Limits(
        circuits=4096,
        rows=64,
        source=Source("published", "rockpool: 4 chips of 4 cores of 256 neurons, 64 synapses each"),
    ),
)

XYLO = Substrate(
    "xylo",
    weights=WeightGrid(-128, 127, None, Source("published", "rockpool documentation: 8-bit weights")),
    limits=Limits(inputs=16, hidden=1000, outputs=32, source=Source("published", "rockpool documentation")),
)
"""Weights and limits only: decays by bit shifts are not modelled."""


def _of_table(name: str) -> Cost:
    chip = costs.CHIPS[name]
    return Cost(chip.synapse, chip.neuron, source=Source("published", chip.source))


SPINNAKER = Substrate(
    "spinnaker",
    weights=WeightGrid(-32768, 32767, None, Source("assumed", "16-bit weights")),
    cost=_of_table("SpiNNaker"),
)
"""Weights and cost only: fixed-point states are not modelled."""

FOUNDED = {
    "ideal": "no chip: the plain network",
    "bss2_delgrad": "published model, whose accuracy was recorded beside the chip's",
    "bss2_hagen": "published model, in the vendor's own simulation",
    "bss2_uncalibrated": "assumed spreads, from published ratios",
    "dynapse2": "published mismatch and limits, assumed weights",
    "xylo": "published weights and limits, dynamics left out",
    "spinnaker": "assumed weights, dynamics left out",
}
"""How well each preset is founded."""

PRESETS = {
    preset.name: preset for preset in (IDEAL, BSS2_DELGRAD, BSS2_HAGEN, BSS2_UNCALIBRATED, DYNAPSE2, XYLO, SPINNAKER)
}


def preset(name: str) -> Substrate | VectorMatrix:
    """A substrate by its name.

    Raises:
        UserError: no preset has that name.
    """
    if name not in PRESETS:
        raise UserError(f"preset: there is no substrate {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
