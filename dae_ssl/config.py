"""What a cell is: frozen, validated settings with the study's values as defaults, and the keys that name its nodes.

Only the standard library is imported here. A method's own settings live beside its code
(`dae_ssl/training/methods/`), as a subclass of `Method` that registers itself when that package is imported.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

SCHEMA = 1
"""Part of every key: raised when the same settings come to mean a different computation."""

KEPT_CELLS = 2**14
"""How many cells' keys are remembered, as they follow from the settings alone; a study has some hundreds."""

Settings = typing.TypeVar("Settings")

STAGES = ("pretrain", "features", "probe", "kmeans")
PARENTS = {"features": "pretrain", "probe": "features", "kmeans": "features"}
"""The stage whose products a stage reads."""


class ConfigError(ValueError):
    """A setting that cannot be; the message is one line with the value, the choices and what to do."""


def require(condition: bool, name: str, value: object, choices: str) -> None:
    """Raise ConfigError naming the setting, its value and what it may be, unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{name}={value!r}: choose {choices}")


def closest(name: object, known: typing.Iterable[str], prefix: str = "") -> str:
    """Return what a message says of a name that is not known: `did you mean NAME? `, or nothing where none is close."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {prefix}{close[0]}? " if close else ""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which image sets a cell reads. They are names, not paths: what a set holds never changes under its name."""

    pretrain: str = "cifar100"
    """The name of the prepared set whose training images are pretrained on, without their labels.

    Source: the paper, which pretrains on CIFAR-100.
    """
    pretrain_images: int | None = None
    """The number of training images that are used for pretraining, a fixed random subset; null uses all of them.

    Source: own choice; the paper uses all of them.
    """
    evaluate: str = "cifar10"
    """The name of the prepared set on which the frozen encoder is evaluated, by the probe and by k-means.

    Source: the paper, which evaluates on CIFAR-10.
    """
    evaluate_images: int | None = None
    """The number of training images of the evaluation set that are used, a fixed random subset; null uses all of them.
    The images held out for validation are among them, and test images are never left out.

    Source: own choice; the paper uses all of them.
    """
    validation_images: int = 5000
    """The number of training images of the evaluation set that are held out for validation, stratified by class. Every
    choice between settings is made on them, never on test images.

    Source: the paper chooses on a validation split and does not give its size, which is an own choice; the published
    code has no such split and looks at the test set alone.
    """
    split_seed: int = 0
    """The seed that decides which images are held out. It is not the seed of the cell, so that cells with different
    seeds are evaluated on the same images.

    Source: own choice.
    """

    def __post_init__(self) -> None:
        for name in ("pretrain", "evaluate"):
            value = getattr(self, name)
            plain = bool(value) and not value.startswith(".") and all(c.isalnum() or c in "-_." for c in value)
            require(plain, f"data.{name}", value, "a data set's name (letters, digits, '-', '_', '.')")
        for name in ("pretrain_images", "evaluate_images"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"data.{name}", value, "null (all) or at least 1")
        require(self.validation_images >= 1, "data.validation_images", self.validation_images, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Views:
    """Random augmentations, in the order of Table 1: crop, resize, flip, colour jitter, then the optional ones."""

    crop: int = 28
    """The side of the square random crop in pixels, at most the side of the image; the crop is resized back to the
    image's own size.

    Source: the paper, Table 1; the published code crops 24 pixels.
    """
    flip: float = 0.8
    """The probability with which a view is mirrored, left to right.

    Source: the paper, Table 1.
    """
    jitter: float = 0.25
    """The strength s of the colour jitter: brightness, contrast and saturation change by at most 0.8 s, and hue by at
    most 0.2 s.

    Source: the paper, Table 1, where s is 0.25; its Figure 9 goes from 0 to 1.5.
    """
    blur_kernel: int | None = None
    """The side in pixels, an odd number, of the kernel of a Gaussian blur whose sigma is drawn uniformly from 0.1 to 2
    pixels; null leaves the blur out.

    Source: the paper, Table 1, where the blur is optional and its kernel is 3; the range of sigma is an own choice.
    """
    solarize: float = 0.0
    """The probability with which a view is solarized; 0 leaves it out.

    Source: the paper, Table 1, where solarizing is optional and its probability is 0.2.
    """
    solarize_threshold: float = 0.75
    """The intensity, between 0 and 1, from which on solarizing inverts a pixel.

    Source: the paper, Table 1.
    """
    frozen: bool = False
    """Whether the two views of an image are drawn once and reused in every epoch, rather than drawn anew in each.

    Source: the paper, which draws fresh views in every epoch; the published code reuses them, which is `true`.
    """

    def __post_init__(self) -> None:
        require(self.crop >= 1, "views.crop", self.crop, "at least 1 pixel")
        for name in ("flip", "solarize", "solarize_threshold"):
            require(0 <= getattr(self, name) <= 1, f"views.{name}", getattr(self, name), "between 0 and 1")
        require(0 <= self.jitter <= 2.5, "views.jitter", self.jitter, "between 0 and 2.5 (hue 0.2 s stays within 0.5)")
        if self.blur_kernel is not None:
            odd = self.blur_kernel >= 1 and self.blur_kernel % 2 == 1
            require(odd, "views.blur_kernel", self.blur_kernel, "null or an odd number of pixels, such as 3")


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The study's tiny networks (Table 3)."""

    embedding_size: int = 64
    """The width d of the embedding z, by which the weight alpha of the embedding loss is divided.

    Source: the paper, Table 3; the paper says 256 in one place and 64 everywhere else, and the published code has 64.
    """

    def __post_init__(self) -> None:
        require(self.embedding_size >= 1, "networks.embedding_size", self.embedding_size, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is trained. Subclasses add their settings and register under `name`; one file each in training/methods."""

    name: ClassVar[str]
    trains: ClassVar[bool] = True
    """False for the floors, which have nothing to optimise."""
    has_encoder: ClassVar[bool] = True
    """False where the representation is the image itself."""
    augments: ClassVar[bool] = True
    """False where training never looks at a view."""
    registry: ClassVar[dict[str, type["Method"]]] = {}

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        super().__init_subclass__()
        if name is not None:
            require(name not in Method.registry, "method", name, "a name that is not registered yet")
            cls.name = name
            Method.registry[name] = cls

    def normalised(self) -> Self:
        """Return the settings with those that cannot matter at their defaults, so that equal cells have equal keys."""
        return self


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Pretraining: Adam, learning-rate schedule, batch size and length."""

    epochs: int = 300
    """The number of epochs of pretraining.

    Source: the paper; the published code's default is 200.
    """
    batch_size: int = 512
    """The number of images in a step, over all ranks together. An incomplete last batch is dropped, so that every step
    contrasts equally many images.

    Source: the paper; the published code keeps the incomplete batch.
    """
    learning_rate: float = 1e-4
    """The learning rate of Adam in pretraining, from which the schedule starts.

    Source: the paper.
    """
    schedule: str = "cosine"
    """How the learning rate goes on: `cosine` lets it fall to zero over the run, step by step, and `constant` keeps it.

    Source: the paper, which has the cosine; the published code has no schedule, which is `constant`.
    """
    checkpoints: tuple[int, ...] = (10, 25, 50, 100, 150, 200, 250, 300)
    """The epochs after which the encoder and example pictures are kept; those of the last epoch always are. They are
    products of the node and so part of its key: choose them before a long run.

    Source: own choice; the paper's Figure 10 needs some of them, among them 50, 100 and 300.
    """

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "optimisation.epochs", self.epochs, "at least 1")
        require(self.batch_size >= 2, "optimisation.batch_size", self.batch_size, "at least 2")
        require(self.learning_rate > 0, "optimisation.learning_rate", self.learning_rate, "a number above 0")
        require(self.schedule in ("cosine", "constant"), "optimisation.schedule", self.schedule, "cosine or constant")
        for epoch in self.checkpoints:
            require(epoch >= 1, "optimisation.checkpoints", self.checkpoints, "epochs of at least 1")

    def kept_epochs(self) -> tuple[int, ...]:
        """Return the epochs whose encoder is kept, ascending, the last epoch included."""
        return tuple(sorted({epoch for epoch in self.checkpoints if epoch <= self.epochs} | {self.epochs}))


@dataclass(frozen=True, kw_only=True)
class Features:
    """Representations of the evaluation set, as stored in HDF5."""

    epoch: int | None = None
    """The epoch whose encoder is used, one of the kept ones; null uses the last.

    Source: the paper, which evaluates the last epoch, and earlier ones in its Figure 10.
    """
    dtype: str = "float16"
    """The type in which features are stored; products are computed in float32 whatever it is.

    Source: own choice, which halves the 2 GB that the features of 60,000 images take; the published code holds them in
    memory as float32.
    """

    def __post_init__(self) -> None:
        require(self.dtype in ("float16", "float32"), "features.dtype", self.dtype, "float16 or float32")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The linear classifier on frozen features."""

    epochs: int = 200
    """The number of epochs for which the classifier is trained.

    Source: the paper; the published code's default is 150.
    """
    batch_size: int = 512
    """The number of features in a step of the classifier.

    Source: the paper.
    """
    learning_rates: tuple[float, ...] = (1e-3,)
    """The learning rates of Adam, without a schedule. A classifier is trained with each, and the one with the best
    validation accuracy is read on test.

    Source: the paper, whose learning rate is 0.001.
    """
    seeds: tuple[int, ...] = (0,)
    """The seeds of the classifier's initial weights; the order of its batches is the same for all. A classifier is
    trained with each, in one pass, and their accuracies are averaged.

    Source: own choice.
    """
    labels_per_class: int | None = None
    """The number of labelled images of each class that the classifier is trained on; null uses all of them.

    Source: own choice; the paper uses all of them.
    """

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "probe.epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "probe.batch_size", self.batch_size, "at least 1")
        require(bool(self.learning_rates), "probe.learning_rates", self.learning_rates, "at least one")
        rates = {f"{rate:g}" for rate in self.learning_rates if rate > 0}
        different = len(rates) == len(self.learning_rates)
        require(different, "probe.learning_rates", self.learning_rates, "different numbers above 0")
        require(len(set(self.seeds)) == len(self.seeds) > 0, "probe.seeds", self.seeds, "one or more different seeds")
        if self.labels_per_class is not None:
            require(self.labels_per_class >= 1, "probe.labels_per_class", self.labels_per_class, "null or at least 1")


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """Clustering of the test representations."""

    clusters: int = 10
    """The number of centres.

    Source: the paper, which has 10 centres.
    """
    restarts: int = 10
    """The number of starts by k-means++, of which the one with the least inertia is kept.

    Source: own choice; the paper names scikit-learn's KMeans without it.
    """
    seed: int = 0
    """The seed of the starts.

    Source: own choice; the published code has no seed.
    """

    def __post_init__(self) -> None:
        require(self.clusters >= 2, "kmeans.clusters", self.clusters, "at least 2")
        require(self.restarts >= 1, "kmeans.restarts", self.restarts, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One complete setting, seed included. `method` has no default: it is what a study compares."""

    method: Method
    """The name of what is trained, such as `dae`; a method's own settings are written `method.NAME`.

    Source: the paper for `dae`, `ae` and `simclr`; for every other, what stands with the method.
    """
    data: Data = field(default_factory=Data)
    views: Views = field(default_factory=Views)
    networks: Networks = field(default_factory=Networks)
    optimisation: Optimisation = field(default_factory=Optimisation)
    features: Features = field(default_factory=Features)
    probe: Probe = field(default_factory=Probe)
    kmeans: KMeans = field(default_factory=KMeans)
    seed: int = 0
    """The seed of pretraining: of the initial weights, of the order of the images and of every random view.

    Source: own choice; the paper does not give one.
    """
    precision: str = "fp32"
    """The arithmetic of pretraining: `fp32`; `tf32`, which stores float32 and multiplies in TensorFloat-32 on GPUs that
    have it; or `bf16`. Features, probe and k-means are computed in float32 whatever it is.

    Source: own choice; the paper does not say. The published code has PyTorch's default, which on its GPUs is
    TensorFloat-32 in convolutions and float32 in matrix products.
    """

    def __post_init__(self) -> None:
        require(self.precision in ("fp32", "tf32", "bf16"), "precision", self.precision, "fp32, tf32 or bf16")
        require(0 <= self.seed < 2**32, "seed", self.seed, "between 0 and 4294967295")
        epoch, kept = self.features.epoch, self.optimisation.kept_epochs()
        if epoch is not None and self.method.trains:
            require(epoch in kept, "features.epoch", epoch, f"null (the last) or a kept checkpoint: {_listed(kept)}")

    def stages(self) -> tuple[str, ...]:
        """Return the stages this cell has, in order; raw pixels need no pretraining."""
        return STAGES if self.method.has_encoder else STAGES[1:]

    def parent(self, stage: str) -> str | None:
        """Return the stage whose products this one reads; None for the first, which reads images only."""
        parent = PARENTS.get(stage)
        return parent if parent in self.stages() else None


def _listed(choices: typing.Iterable[object]) -> str:
    return ", ".join(str(choice) for choice in choices)


# ---------------------------------------------------------------------------------- settings <-> plain values


def settings(value: Any) -> Any:
    """Return dataclasses as plain JSON values, defaults included; a method carries its name first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"name": value.name} if isinstance(value, Method) else {}
        return named | {name: settings(part) for name, part in _converted(typing.cast(Any, value))}
    if isinstance(value, tuple):
        return [settings(item) for item in value]
    return value


@functools.lru_cache(maxsize=1024)
def _converted(part: Any) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a dataclass as the types they are annotated with; most cells share most of their parts.

    So that a cell built by hand with 1 for 1.0 has the key of one built by `cell`.
    """
    return tuple(
        (name, _convert(hint, getattr(part, name), name)) for name, hint in _hints(typing.cast(Any, type(part))).items()
    )


def cell(given: Mapping[str, Any] | None = None, /, **more: Any) -> Cell:
    """Build a cell from nested plain values, `{"method": {"name": "dae", "alpha": 1}, "seed": 1}`.

    A bare string for `method` stands for its name. The method's own settings may also stand beside it, by their short
    names: `cell(method="dae", alpha=1, seed=1)` is the same cell. Raises ConfigError for an unknown key or an
    impossible value.
    """
    return build(Cell, _nested(dict(given or {}) | more))


def _nested(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings with those of the method, which may stand beside it, below `method`."""
    parts = {f.name for f in dataclasses.fields(Cell)}
    beside = {name: value for name, value in given.items() if name not in parts}
    method = given.get("method")
    below = {"name": method} if isinstance(method, str) else dict(method) if isinstance(method, Mapping) else {}
    kind = Method.registry.get(str(below.get("name")))
    if not beside or kind is None:
        return given  # which is complete, or is refused as it stands
    known = [f.name for f in dataclasses.fields(kind)]
    for name, value in beside.items():
        if name not in known:
            hint = closest(name, [*parts, *known])
            raise ConfigError(f"unknown setting {name}: {hint}choose from {_listed([*sorted(parts), *known])}")
        require(name not in below, name, value, f"one value: method has {name}={below.get(name)!r}")
    return {name: value for name, value in given.items() if name in parts} | {"method": below | beside}


def method(name: str, given: Mapping[str, Any], where: str = "method") -> Method:
    """Build the settings of the method registered under `name`."""
    if name not in Method.registry:
        choices = f"{closest(name, Method.registry)}choose {_listed(sorted(Method.registry))}"
        raise ConfigError(f"{where}={name!r}: {choices}")
    return build(Method.registry[name], given, f"{where}.")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def build(kind: type[Settings], given: Mapping[str, Any], prefix: str = "") -> Settings:
    """Build a dataclass of settings from nested plain values, `prefix` being what messages put before a name.

    Raises ConfigError for an unknown key, a missing one or an impossible value.
    """
    known: Any = kind
    hints = _hints(known)
    fields = {f.name: f for f in dataclasses.fields(known)}
    values = {}
    for name, value in given.items():
        if name not in fields:
            hint = closest(name, fields, prefix)
            raise ConfigError(f"unknown setting {prefix}{name}: {hint}choose from {_listed(fields) or 'none'}")
        values[name] = _convert(hints[name], value, f"{prefix}{name}")
    for f in fields.values():
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            choices = f"choose {_listed(sorted(Method.registry))}" if hints[f.name] is Method else "it has no default"
            raise ConfigError(f"{prefix}{f.name} is not given: {choices}")
    return kind(**values)


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Return `value` as the annotated type, so that 1 and 1.0, or a list and a tuple, give one key."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if issubclass(hint, Method):
            given = {"name": value} if isinstance(value, str) else dict(_mapping(value, name))
            require("name" in given, f"{name}.name", None, _listed(sorted(Method.registry)))
            return method(str(given.pop("name")), given, name)
        return build(hint, _mapping(value, name), f"{name}.")
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (some,) = (h for h in typing.get_args(hint) if h is not type(None))
        return None if value is None else _convert(some, value, name)
    if typing.get_origin(hint) is tuple:
        require(isinstance(value, list | tuple), name, value, "a list, such as [1,2]")
        return tuple(_convert(typing.get_args(hint)[0], item, name) for item in value)
    accepted, choices = {
        bool: (isinstance(value, bool), "true or false"),
        int: (_is_number(value) and value == int(value), "a whole number"),
        float: (_is_number(value), "a number"),
        str: (isinstance(value, str), "a name"),
    }[hint]
    require(accepted, name, value, choices)
    return float(value) + 0.0 if hint is float else hint(value)  # which makes -0.0 the same as 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    require(isinstance(value, Mapping), name, value, f"settings below it, as in {name}.NAME=VALUE")
    return typing.cast(Mapping[str, Any], value)


# ---------------------------------------------------------------------------------- keys


def stage_settings(cell: Cell, stage: str) -> dict[str, Any]:
    """Return everything that decides the result of one stage, its parent's settings under "parent".

    Settings that cannot matter are left out or normalised: a random encoder has no schedule, a method without an
    embedding loss no alpha, the probe no seed of pretraining but through its parent.
    """
    require(stage in cell.stages(), "stage", stage, _listed(cell.stages()))
    parent = cell.parent(stage)
    return _own_settings(cell, stage) | ({"parent": stage_settings(cell, parent)} if parent else {})


def _own_settings(cell: Cell, stage: str) -> dict[str, Any]:
    own: dict[str, Any] = {"schema": SCHEMA, "stage": stage}
    if stage == "pretrain":
        own |= {"method": settings(cell.method.normalised()), "seed": cell.seed}
        if cell.method.trains:
            views = cell.views if cell.method.augments else Views()
            if views.solarize == 0:
                views = dataclasses.replace(views, solarize_threshold=Views.solarize_threshold)
            optimisation = settings(cell.optimisation) | {"checkpoints": list(cell.optimisation.kept_epochs())}
            data = {"name": cell.data.pretrain, "images": cell.data.pretrain_images}
            own |= {"data": data, "views": settings(views), "networks": settings(cell.networks)}
            own |= {"optimisation": optimisation, "precision": cell.precision}
    elif stage == "features":
        data = settings(cell.data)
        own["data"] = {name: data[name] for name in ("evaluate", "validation_images", "split_seed")}
        if cell.data.evaluate_images is not None:  # a later setting, left out where it does nothing: keys stay valid
            own["data"]["evaluate_images"] = cell.data.evaluate_images
        own["dtype"] = cell.features.dtype
        if cell.method.has_encoder:
            own["epoch"] = (cell.features.epoch or cell.optimisation.epochs) if cell.method.trains else 0
        else:
            own["method"] = settings(cell.method.normalised())
    else:
        own[stage] = settings(getattr(cell, stage))
    return own


def keys(cell: Cell) -> dict[str, str]:
    """Return the name of each of a cell's nodes: 16 hexadecimal digits of the SHA-256 of all that decides its result.

    That is its own settings and its parent's name.
    """
    return dict(_keys(cell))


@functools.lru_cache(maxsize=KEPT_CELLS)
def _keys(cell: Cell) -> Mapping[str, str]:
    """Return what `keys` does, the same object for equal cells; plans and reports ask for it many times over."""
    found: dict[str, str] = {}
    for stage in cell.stages():
        parent = cell.parent(stage)
        found[stage] = _digest(_own_settings(cell, stage) | ({"parent": found[parent]} if parent else {}))
    return types.MappingProxyType(found)


def key_of(stage_settings: Mapping[str, Any]) -> str:
    """Return the name of a node from its settings, as `stage_settings` gives them and commit records keep them."""
    parent = stage_settings.get("parent")
    return _digest(dict(stage_settings) | ({} if parent is None else {"parent": key_of(parent)}))


def key(cell: Cell, stage: str) -> str:
    """Return the name of one node of a cell. Raises ConfigError for a stage that the cell does not have."""
    require(stage in cell.stages(), "stage", stage, _listed(cell.stages()))
    return _keys(cell)[stage]


@functools.lru_cache(maxsize=KEPT_CELLS)
def cell_key(cell: Cell) -> str:
    """Return the name of the whole cell, the hash of its nodes' keys."""
    return _digest(list(_keys(cell).values()))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(one: Cell, other: Cell, stage: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (setting, value in one, value in other) for all that makes the two cells' keys of a stage differ."""
    flat_one, flat_other = flat(stage_settings(one, stage)), flat(stage_settings(other, stage))
    for name in flat_one | flat_other:
        if flat_one.get(name, "absent") != flat_other.get(name, "absent"):
            yield name, flat_one.get(name, "absent"), flat_other.get(name, "absent")


def title(cell: Cell) -> str:
    """Return a name for people: the method, its settings and the seed, then all else that is not the study's."""
    own, others = ([f"{name}={value}" for name, value in part.items()] for part in unusual(cell))
    return " ".join([cell.method.name, *own, f"seed={cell.seed}", *others])


def unusual(cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that are not the study's, the seed left out, as ({"alpha": 1.0}, {"views.crop": 24}).

    First the method's own, which stand without its name, then all others.
    """
    usual, given = flat(settings(Cell(method=type(cell.method)()))), flat(settings(cell))
    differing = {name: value for name, value in given.items() if value != usual[name] and name != "seed"}
    own = {name: value for name, value in differing.items() if name.startswith("method.")}
    others = {name: value for name, value in differing.items() if name not in own}
    return {name.removeprefix("method."): value for name, value in own.items()}, others


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as {"parent.views.crop": 28, ...}."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
