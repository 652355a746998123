"""Kheradpisheh & Masquelier (2020), Temporal backpropagation for spiking neural networks with one spike per neuron (S4NN).

Settings: the authors' code. Times are in steps.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snnrepro.data import Split, ann_control, mnist, mnist_5k
from snnrepro.data.caltech import faces_and_motorbikes
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.first_spike import s4nn
from snnrepro.first_spike.s4nn import Answers, Images, Network, Settings
from snnrepro.peers.s4nn import spike_times_snntorch

SCORES = ("lenient", "potential", "lowest")
PUBLISHED = Settings()


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained."""

    images: str = "mnist-60k"
    validation: int = 5000
    hidden: int = 400
    epochs: int = 100
    shuffled: bool = True  # a new order in each epoch
    settings: Settings = PUBLISHED
    tail: int = 10  # last epochs whose mean is shown


@dataclass(frozen=True)
class Data:
    """Grey values and classes of the three parts."""

    pixels: tuple[np.ndarray, np.ndarray, np.ndarray]
    label: tuple[np.ndarray, np.ndarray, np.ndarray]
    split: Split


def _digits(recipe: Recipe) -> Data:
    """Digits; the validation part is drawn once from the training part."""
    split = mnist_5k() if recipe.images == "mnist-5k" else mnist()
    if split.tag != recipe.images:
        raise UserError("kheradpisheh2020: this experiment needs all of MNIST; run `snnrepro data get mnist`")
    return _held_out(split, recipe.validation)


def _held_out(split: Split, validation: int) -> Data:
    """Training samples without the validation part, that part, and the test samples."""
    order = np.random.default_rng(0).permutation(len(split.x_train))
    kept, held = order[validation:], order[:validation]
    x, test = (np.round(part * 255).astype(np.uint8) for part in (split.x_train, split.x_test))
    y = split.y_train
    without = split._replace(x_train=split.x_train[kept], y_train=y[kept])
    return Data((x[kept], x[held], test), (y[kept], y[held], split.y_test), without)


@dataclass(frozen=True)
class Trained:
    """A network after training; scores in the order of `SCORES`, a row an epoch."""

    selected: Network  # at the epoch that is best on the validation samples, ties broken by the potential
    online: np.ndarray  # (epochs, 3), of the training images just before their update
    validation: np.ndarray
    test: np.ndarray
    dead: np.ndarray  # (epochs,) hidden neurons that got new weights

    def best(self, scores: np.ndarray) -> int:
        """First epoch with the largest tie-broken accuracy."""
        return int(scores[:, 1].argmax())


def _scores(network: Network, given: Images, label: np.ndarray, p: Settings) -> list[float]:
    found = s4nn.score(s4nn.respond(network, given, p), label, p)
    return [found[name] for name in SCORES]


def _train(recipe: Recipe, data: Data, seed: int, told, checkpoint: Path | None = None) -> Trained:
    """Train a network; goes on from the checkpoint where there is one."""
    p = recipe.settings
    given = [s4nn.encode(part, p.end) for part in data.pixels]
    classes = int(data.label[0].max()) + 1
    network = s4nn.initial_network((given[0].size, recipe.hidden, classes), p, np.random.default_rng([seed, 0]))
    selected = Network(*(w.copy() for w in network))
    online, validation, test, dead = [], [], [], []
    if checkpoint is not None and checkpoint.exists():
        kept = read_npz(checkpoint)
        network, selected = Network(kept["hidden"], kept["output"]), Network(kept["best_hidden"], kept["best_output"])
        online, validation, test, dead = (kept[name].tolist() for name in ("online", "validation", "test", "dead"))
    for epoch in range(len(online), recipe.epochs):
        random = np.random.default_rng([seed, 1, epoch])
        count = len(data.label[0])
        order = random.permutation(count) if recipe.shuffled else np.arange(count)
        answers, silent = s4nn.train_epoch(network, given[0], data.label[0], p, order)
        found = s4nn.score(answers, data.label[0][order], p)
        online.append([found[name] for name in SCORES])
        dead.append(len(silent))
        validation.append(_scores(network, given[1], data.label[1], p))
        test.append(_scores(network, given[2], data.label[2], p))
        if len(validation) == 1 or validation[-1][1] > max(row[1] for row in validation[:-1]):
            selected = Network(*(w.copy() for w in network))
        s4nn.redraw(network, silent, p, random)  # after the test, as the official code does
        told(epoch + 1, online=online[-1][1], test=test[-1][1])
        if checkpoint is not None:
            state = {
                "hidden": network.hidden,
                "output": network.output,
                "best_hidden": selected.hidden,
                "best_output": selected.output,
            }
            curves = {"online": online, "validation": validation, "test": test, "dead": dead}
            write_npz(checkpoint, state | {name: np.array(curve) for name, curve in curves.items()})
    return Trained(selected, *(np.array(curve) for curve in (online, validation, test, dead)))


# The digits -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Accuracy, spike times, spikes before the decision, and what is left of it with fewer time steps or jittered pixels."""

    recipe: Recipe = Recipe()
    ends: tuple[int, ...] = (256, 128, 64, 32, 16, 8, 4)
    jitter: tuple[int, ...] = (16, 64, 128, 240)  # grey values
    shown: int = 16  # hidden neurons whose weights are kept


def _first(answers: Answers) -> np.ndarray:
    return answers.output.min(1)


def _jittered(pixels: np.ndarray, width: int, random: np.random.Generator) -> np.ndarray:
    """Active pixels moved by a uniform random amount up to `width` grey values."""
    moved = pixels.astype(np.int64) + random.integers(-width, width + 1, pixels.shape)
    return np.where(pixels > 0, np.clip(moved, 0, 255), 0).astype(np.uint8)


def digits(config: Digits, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train on digits, choose the epoch on the validation samples, and look at what that network does with the test samples."""
    recipe = config.recipe
    data = _digits(recipe)

    def told(epoch: int, **now: float) -> None:
        progress(epoch, recipe.epochs, **now)

    trained = _train(recipe, data, seed, told, checkpoint)
    p, network = recipe.settings, trained.selected
    early = {"first_online": float(trained.online[0, 1]), "first_test": float(trained.test[0, 1])}
    if recipe.epochs == 1:
        return Result({}, {}, early, data.split.tag)
    label, given = data.label[2], s4nn.encode(data.pixels[2], p.end)
    answers = s4nn.respond(network, given, p)
    decided, true = _first(answers), answers.output[np.arange(len(label)), label]
    others = (answers.output.sum(1) - true) / (answers.output.shape[1] - 1)
    image = np.repeat(np.arange(len(label)), np.diff(given.starts))
    before = np.bincount(image[given.times < decided[image]], minlength=len(label))
    hidden_before = (answers.hidden < decided[:, None]).sum(1)
    chosen, best = trained.best(trained.validation), trained.best(trained.test)
    metrics = {
        "lenient": float(trained.test[chosen, 0]),
        "accuracy": float(trained.test[chosen, 1]),
        "lowest": float(trained.test[chosen, 2]),
        "last_epochs": float(trained.test[-recipe.tail :, 1].mean()),
        "selected_on_test": float(trained.test[best, 1]),
        "selected_on_test_lenient": float(trained.test[:, 0].max()),
        "tie_gap": float(trained.test[chosen, 0] - trained.test[chosen, 1]),
        "first_tie_gap": float(trained.test[0, 0] - trained.test[0, 1]),
        "online": float(trained.online[-1, 1]),
        "decision_time": float(decided.mean()),
        "true_ahead_of_others": float((others - true).mean()),
        "silent_outputs": float((decided == p.end).mean()),
        "input_spikes": float(np.diff(given.starts).mean()),
        "input_spikes_before": float(before.mean()),
        "hidden_spikes": float((answers.hidden < p.end).sum(1).mean()),
        "hidden_spikes_before": float(hidden_before.mean()),
        "negative_hidden": float((network.hidden < 0).mean()),
        "negative_output": float((network.output < 0).mean()),
    }
    untrained = s4nn.initial_network((given.size, recipe.hidden, 10), p, np.random.default_rng([seed, 0]))
    before_training = _scores(untrained, given, label, p)
    metrics |= {"untrained": before_training[1], "untrained_gap": before_training[0] - before_training[1]}
    metrics["ann"] = float(ann_control(data.split, (recipe.hidden,), (seed,), epochs=20)[0])
    metrics["gap_to_ann"] = metrics["ann"] - metrics["accuracy"]
    over_ends = []
    for end in config.ends:
        shorter = p._replace(end=end)
        found = s4nn.respond(network, s4nn.encode(data.pixels[2], end), shorter)
        scores = s4nn.score(found, label, shorter)
        over_ends.append((end, *(scores[name] for name in SCORES), _first(found).mean()))
        metrics[f"accuracy_at_{end}"] = scores["potential"]
        metrics[f"loss_at_{end}"] = metrics["accuracy"] - scores["potential"]
    random = np.random.default_rng([seed, 2])
    over_jitter = [(0, *(metrics[name] for name in ("lenient", "accuracy", "lowest")))]
    for width in config.jitter:
        scores = _scores(network, s4nn.encode(_jittered(data.pixels[2], width, random), p.end), label, p)
        over_jitter.append((width, *scores))
        metrics[f"accuracy_jitter_{width}"] = scores[1]
    classes = answers.output.shape[1]
    tied = answers.output == decided[:, None]
    answer = np.where(decided == p.end, answers.late.argmax(1), np.where(tied, answers.crossed, -np.inf).argmax(1))
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (label, answer), 1)
    order = np.argsort(-(answers.hidden < p.end).mean(0), kind="stable")[: config.shown]
    arrays = {
        "online": trained.online,
        "validation": trained.validation,
        "test": trained.test,
        "dead": trained.dead,
        "times_by_class": np.array([answers.output[label == k].mean(0) for k in range(classes)]),
        "decision_by_class": np.array([decided[label == k].mean() for k in range(classes)]),
        "decided": decided.astype(np.int16),
        "input_before": before.astype(np.int16),
        "hidden_before": hidden_before.astype(np.int16),
        "confusion": confusion,
        "weights": network.hidden[:, order].T.astype(np.float32),
        "over_ends": np.array(over_ends),
        "over_jitter": np.array(over_jitter),
    }
    return Result(metrics, arrays, early, data.split.tag)


# What breaks it, and one setting varied -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Controls:
    """Smaller networks on few digits: shuffled spike times, and other margins of the target times."""

    recipe: Recipe
    margins: tuple[int, ...] = (1, 3, 10, 30)


def controls(config: Controls, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """The same training with the times of each image shuffled among its pixels, with the images in one order, and with other margins;
    an ordinary network on the same digits.
    """
    data, recipe = _digits(config.recipe), config.recipe
    random = np.random.default_rng([seed, 3])
    shuffled = replace(data, pixels=tuple(random.permuted(part, axis=1) for part in data.pixels))
    cases = {
        f"margin_{m}": (replace(recipe, settings=recipe.settings._replace(margin=m)), data) for m in config.margins
    }
    cases |= {"shuffled": (recipe, shuffled), "one_order": (replace(recipe, shuffled=False), data)}
    metrics, early, curves = {}, {}, {}
    for k, (name, (chosen, given)) in enumerate(cases.items()):

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * recipe.epochs + epoch, len(cases) * recipe.epochs, **now)

        trained = _train(chosen, given, seed, told)
        early = early or {"first_online": float(trained.online[0, 1])}
        if recipe.epochs == 1:
            return Result({}, {}, early, data.split.tag)
        p = chosen.settings
        answers = s4nn.respond(trained.selected, s4nn.encode(given.pixels[2], p.end), p)
        metrics[f"accuracy_{name}"] = float(trained.test[trained.best(trained.validation), 1])
        metrics[f"decision_{name}"] = float(_first(answers).mean())
        curves[f"curve_{name}"] = trained.test[:, 1]
    metrics["ann"] = float(ann_control(data.split, (recipe.hidden,), (seed,), epochs=20)[0])
    few, many = config.margins[0], config.margins[-1]
    metrics["decision_grows_with_margin"] = metrics[f"decision_margin_{many}"] - metrics[f"decision_margin_{few}"]
    return Result(metrics, curves | {"margins": np.array(config.margins)}, early, data.split.tag)


# The official protocol ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AsPublished:
    """All training digits, in the same order in every epoch, and test digits that choose the epoch; its network is then shown the training
    digits on which the weights of the authors were scored, as they are, with fewer steps, and with jittered pixels.
    """

    recipe: Recipe = Recipe(validation=0, shuffled=False)
    ends: tuple[int, ...] = (128, 64, 32, 16, 8, 4)
    jitter: tuple[int, ...] = (16, 64, 128, 240)  # grey values


def as_published(config: AsPublished, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Accuracy as the official code counts and selects it: the best lenient count over the epochs, on the test digits themselves. The
    network of the best tie-broken count is the one that is compared with the weights of the authors.
    """
    recipe, data = config.recipe, _digits(config.recipe)
    (train, _, test), (label, _, true) = data.pixels, data.label
    data = replace(data, pixels=(train, test, test), label=(label, true, true))

    def told(epoch: int, **now: float) -> None:
        progress(epoch, recipe.epochs, **now)

    trained = _train(recipe, data, seed, told, checkpoint)
    early = {"first_online": float(trained.online[0, 1]), "first_test": float(trained.test[0, 1])}
    if recipe.epochs == 1:
        return Result({}, {}, early, data.split.tag)
    best, tail = int(trained.test[:, 0].argmax()), trained.test[-recipe.tail :].mean(0)
    metrics = {
        "lenient": float(trained.test[best, 0]),
        "accuracy": float(trained.test[best, 1]),
        "epoch": best + 1,
        "last_epochs_lenient": float(tail[0]),
        "last_epochs": float(tail[1]),
    }
    known, over_ends, over_jitter = _on_known_digits(config, trained.selected, np.random.default_rng([seed, 2]))
    arrays = {"online": trained.online, "test": trained.test, "over_ends": over_ends, "over_jitter": over_jitter}
    return Result(metrics | known, arrays, early, data.split.tag)


def _on_known_digits(
    config: AsPublished, network: Network, random: np.random.Generator
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """What the network does with the 5,000 embedded digits, all of them training digits.

    Returns:
        metrics; a row `(steps, scores, decision time)` for each number of steps; a row `(grey values, scores)` for each jitter.
    """
    p, digits = config.recipe.settings, mnist_5k()
    pixels = np.round(np.concatenate([digits.x_train, digits.x_test]) * 255).astype(np.uint8)
    label = np.concatenate([digits.y_train, digits.y_test])
    over_ends, over_jitter, metrics = [], [], {}
    for end in (p.end, *config.ends):
        shorter = p._replace(end=end)
        answers = s4nn.respond(network, s4nn.encode(pixels, end), shorter)
        scores = s4nn.score(answers, label, shorter)
        over_ends.append((end, *(scores[name] for name in SCORES), _first(answers).mean()))
        metrics[f"known_at_{end}"] = scores["potential"]
        if end == p.end:
            metrics |= {f"known_{name}": scores[name] for name in SCORES}
            metrics["known_decision_time"] = float(_first(answers).mean())
            metrics["known_hidden_spikes"] = float((answers.hidden < end).sum(1).mean())
    for width in config.jitter:
        scores = _scores(network, s4nn.encode(_jittered(pixels, width, random), p.end), label, p)
        over_jitter.append((width, *scores))
        metrics[f"known_jitter_{width}"] = scores[0]
    return metrics, np.array(over_ends), np.array(over_jitter)


# A second opinion -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOpinion:
    """One network on a few digits: here, in plain NumPy, and in snnTorch."""

    images: int = 40
    hidden: int = 60
    warm: int = 400  # images learned before, so that weights of both signs take part
    end: int = 64


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spike times against snnTorch, and updates against the plain reference."""
    split = mnist_5k()
    random = np.random.default_rng([seed, 4])
    rows = random.permutation(len(split.x_train))[: config.warm + config.images]
    pixels, label = np.round(split.x_train[rows] * 255).astype(np.uint8), split.y_train[rows]
    p = Settings(end=config.end, decay=1e-3, least_active=0.0)
    network = s4nn.initial_network((pixels.shape[1], config.hidden, 10), p, random)
    warm, rest = slice(0, config.warm), slice(config.warm, None)
    s4nn.train_epoch(network, s4nn.encode(pixels[warm], p.end), label[warm], p, np.arange(config.warm))
    times = (255 - pixels[rest].astype(np.int64)) * p.end // 255
    ours = s4nn.respond(network, s4nn.encode(pixels[rest], p.end), p)
    theirs = spike_times_snntorch(times, list(network), p.thresholds, p.end)
    progress(1, 2)
    expected = network
    for k in range(config.images):
        expected, _, _ = s4nn.reference_update(expected, times[k], int(label[rest][k]), p)
    learned = Network(*(w.copy() for w in network))
    s4nn.train_epoch(learned, s4nn.encode(pixels[rest], p.end), label[rest], p, np.arange(config.images))
    progress(2, 2)
    metrics = {
        "snntorch_differences": float(
            sum((a != b).sum() for a, b in zip((ours.hidden, ours.output), theirs, strict=True))
        ),
        "spikes": float((theirs[0] < p.end).sum() + (theirs[1] < p.end).sum()),
        "update_error": float(
            np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(learned, expected, strict=True)])
        ),
        "changed": float(np.abs(learned.hidden - network.hidden).max()),
    }
    arrays = {
        "ours": ours.hidden,
        "snntorch": theirs[0],
        "ours_output": ours.output,
        "snntorch_output": theirs[1],
    }
    return Result(metrics, arrays, data=split.tag)


# Faces and motorbikes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Faces:
    """Caltech's faces and motorbikes, where they are at hand."""

    recipe: Recipe = Recipe("caltech-faces-motorbikes", 50, hidden=4, epochs=30, settings=PUBLISHED._replace(rate=0.1))


def faces(config: Faces, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Two classes of grey pictures with four hidden neurons."""
    recipe = config.recipe
    data = _held_out(faces_and_motorbikes(), recipe.validation)
    trained = _train(recipe, data, seed, lambda epoch, **now: progress(epoch, recipe.epochs, **now), checkpoint)
    chosen = trained.best(trained.validation)
    metrics = {"accuracy": float(trained.test[chosen, 1]), "lenient": float(trained.test[chosen, 0])}
    arrays = {"test": trained.test, "weights": trained.selected.hidden.T.astype(np.float32)}
    return Result(metrics, arrays, {"first_online": float(trained.online[0, 1])}, data.split.tag)


# Experiments ----------------------------------------------------------------------------------------------------------------

QUICK = Recipe("mnist-5k", 400, epochs=15, tail=5)
FIVE, TEN = tuple(range(5)), tuple(range(10))


def _one_epoch(config):
    """The first epoch."""
    return replace(config, recipe=replace(config.recipe, epochs=1))


EXPERIMENTS = {
    "digits": Experiment(digits, Digits(QUICK), Digits(), (0, 1), TEN, replay=_one_epoch),
    "controls": Experiment(
        controls,
        Controls(replace(QUICK, hidden=100, epochs=8), (1, 3, 10)),
        Controls(Recipe("mnist-5k", 400, hidden=100, epochs=40)),
        (0, 1),
        FIVE,
        replay=_one_epoch,
    ),
    "as_published": Experiment(
        as_published,
        AsPublished(replace(QUICK, validation=0, shuffled=False)),
        AsPublished(),
        (0,),
        FIVE,
        replay=_one_epoch,
    ),
    "second_opinion": Experiment(second_opinion, SecondOpinion(), SecondOpinion(), (0,), FIVE),
    "faces": Experiment(faces, Faces(replace(Faces().recipe, epochs=2)), Faces(), (0,), FIVE),
}
