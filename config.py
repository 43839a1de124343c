"""Settings: frozen dataclasses that mirror config.yaml section by section, loaded, checked and overridden."""

import dataclasses
import difflib
import math
import os
import re
import reprlib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_TEXT = 1_000_000  # characters of a settings file; ours has 4,000
MAX_INT = 2**63 - 1
UNFIT_FOR_PATHS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, what was found and what is expected."""


def setting(default: Any, low: float = -math.inf, high: float = math.inf, choices: tuple = (), multiple: int = 1
            ) -> Any:
    """A dataclass field with a default and the values it may take: low to high, multiples, or one of choices."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices, "multiple": multiple})


@dataclass(frozen=True)
class DataConfig:
    root: tuple[str, ...] = ("data/synthetic",)
    format: str = setting("auto", choices=("auto", "tusimple", "culane", "curvelanes", "llamas", "folder"))
    split: tuple[str, ...] = ("auto",)
    weights: tuple[float, ...] = setting((), low=0)
    cache: bool = True
    cache_dir: str = "data/cache"
    cache_gb: float = setting(16.0, low=0)
    workers: int = setting(-1, low=-1, high=256)
    on_device: bool | str = setting("auto", choices=("auto",))


@dataclass(frozen=True)
class SyntheticConfig:
    train: int = setting(6000, low=1, high=10_000_000)
    val: int = setting(300, low=1, high=10_000_000)
    width: int = setting(640, low=160, high=4096)
    height: int = setting(360, low=90, high=4096)
    seed: int = setting(0, low=0, high=2**31)


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = setting("compact", choices=("compact", "resnet18", "resnet34"))
    pretrained: bool | str = False
    width: int = setting(320, low=64, high=4096, multiple=32)
    height: int = setting(144, low=64, high=4096, multiple=8)
    sky: float = setting(0.25, low=0, high=0.75)
    zoom: float = setting(3.5, low=1, high=8)
    slots: int = setting(6, low=2, high=32, multiple=2)


@dataclass(frozen=True)
class LossConfig:
    regression: float = 1.0
    existence: float = 1.0
    curvature: float = 0.1
    columns: float = 1.0


@dataclass(frozen=True)
class AugmentConfig:
    flip: float = setting(0.5, low=0, high=1)
    rotate: float = setting(1.0, low=0, high=30)
    scale: float = setting(0.03, low=0, high=0.8)
    shift: float = setting(0.02, low=0, high=0.5)
    shear: float = setting(0.1, low=0, high=0.5)
    brightness: float = setting(0.3, low=0, high=0.9)
    contrast: float = setting(0.3, low=0, high=0.9)
    colour: float = setting(0.2, low=0, high=0.9)
    blank: float = setting(0.01, low=0, high=1)


@dataclass(frozen=True)
class TrainConfig:
    device: str = setting("auto", choices=("auto", "cuda", "mps", "cpu"))
    precision: str = setting("auto", choices=("auto", "fp32", "bf16", "fp16"))
    compile: bool = False
    epochs: int = setting(7, low=1, high=100_000)
    batch_size: int = setting(16, low=1, high=65_536)
    optimiser: str = setting("muon", choices=("muon", "adamw"))
    learning_rate: float = setting(2e-3, low=0, high=1)
    weight_decay: float = setting(0.02, low=0, high=1)
    warmup: float = setting(0.05, low=0, high=0.9)
    clip_norm: float = setting(5.0, low=1e-6)
    ema: float = setting(0.998, low=0, high=0.99999)
    seed: int = setting(0, low=0, high=2**31)
    init_from: str = ""
    checkpoint_dir: str = "checkpoints_fixed"
    tensorboard: bool = False


@dataclass(frozen=True)
class GuardConfig:
    min_diversity: float = setting(0.05, low=0, high=1)
    min_sensitivity: float = setting(0.1, low=0, high=1)
    first_steps: int = setting(300, low=0)
    patience: int = setting(3, low=1)


@dataclass(frozen=True)
class InferenceConfig:
    threshold: float | str = setting("auto", low=0, high=1, choices=("auto",))
    end_tolerance: float = setting(0.007, low=0, high=0.1)
    batch_size: int = setting(16, low=1, high=65_536)


@dataclass(frozen=True)
class Config:
    data: DataConfig = DataConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    guard: GuardConfig = GuardConfig()
    inference: InferenceConfig = InferenceConfig()


def file_or_default(path: str | None) -> str | None:
    """The file that was named, or else config.yaml in this folder if there is one."""
    return "config.yaml" if path is None and Path("config.yaml").is_file() else path


def load_config(path: str | Path | None, overrides: typing.Sequence[str] = ()) -> Config:
    """Config from a YAML file (None: the defaults), then `section.key=value` overrides, in order.

    Raises ConfigError in one line for a file that is not YAML, an unknown section or key (naming the nearest
    known one), and a value of the wrong type or out of range; FileNotFoundError for a missing file.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such configuration file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        if len(text) > MAX_TEXT:
            raise ConfigError(f"{path}: {len(text)} characters are no settings; expected a file like config.yaml")
        values = _parse_yaml(text, str(path)) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as 'train:', found {type(values).__name__}")
    values = {name: dict(s) if isinstance(s, dict) else {} if s is None else s for name, s in values.items()}
    built = config_from_dict(values, str(path) if path else "settings")
    for override in overrides:
        name, equals, text = override.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(f"{shown(override)}: an override reads section.key=value, such as train.epochs=5")
        values.setdefault(section, {})[key] = _as_written(section, key, text, _parse_yaml(text, shown(override)))
    return config_from_dict(values, "command line") if overrides else built


def config_from_dict(values: dict[str, Any], source: str = "settings") -> Config:
    """Config from nested plain values, as to_dict gives them; raises ConfigError as load_config does."""
    sections = {f.name: f.type for f in dataclasses.fields(Config)}
    built = {}
    for name, section in values.items():
        _check_known(name, sections, f"{source}: unknown section")
        if section is None:
            continue
        if not isinstance(section, dict):
            raise ConfigError(f"{source}: section '{name}' is not a list of keys but {shown(section)}")
        cls = sections[name]
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in section:
            _check_known(key, fields, f"{source}: unknown key {shown(f'{name}.{key}')}", prefix=f"{name}.")
        built[name] = cls(**{k: _checked(f"{source}: {name}.{k}", v, fields[k]) for k, v in section.items()})
    return Config(**built)


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values (no tuples), fit for YAML, JSON and a weights-only checkpoint."""
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return {name: {k: plain(v) for k, v in section.items()} for name, section in dataclasses.asdict(config).items()}


def shown(value: Any) -> str:
    """A value for a message: in one line and short, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 100
    brief.maxlevel = 2
    try:
        return " ".join(brief.repr(value).split())[:200]
    except ValueError:  # an integer of too many digits to print
        return f"a huge {type(value).__name__}"


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except Exception as error:  # PyYAML meets a malformed !!tag with whatever Python raises there
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"{source}: not valid YAML: {reason}") from None


def _as_written(section: str, key: str, text: str, value: Any) -> Any:
    """The value, or, for a setting that is text, the text itself where YAML made a number or a date of it."""
    spec = {f.name: f for f in dataclasses.fields(Config)}.get(section)
    kinds = {f.name: f.type for f in dataclasses.fields(spec.type)} if spec else {}
    is_text = kinds.get(key) in (str, tuple[str, ...])
    return text if is_text and not isinstance(value, (str, list, dict)) else value


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if key in seen:
                raise ConfigError(f"key {shown(key)} is written twice{node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _check_known(name: Any, known: typing.Iterable[str], message: str, prefix: str = "") -> None:
    if name in known:
        return
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.4)
    hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(known)}"
    label = message if prefix else f"{message} {shown(name)}"
    raise ConfigError(f"{label}; {hint}")


def _checked(where: str, value: Any, spec: dataclasses.Field) -> Any:
    """The value in its field's type, or ConfigError."""
    value = _converted(where, value, spec.type)
    limits = spec.metadata
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        if not math.isfinite(item):
            raise ConfigError(f"{where} is {item}; expected a finite number")
        if limits and not limits["low"] <= item <= limits["high"]:
            raise ConfigError(f"{where} is {item}; expected {limits['low']} to {limits['high']}")
        if limits and isinstance(item, int) and item % limits["multiple"]:
            raise ConfigError(f"{where} is {item}; expected a multiple of {limits['multiple']}")
    if limits and limits["choices"] and isinstance(value, str) and value not in limits["choices"]:
        raise ConfigError(f"{where} is {shown(value)}; expected one of {', '.join(limits['choices'])}")
    return value


def _converted(where: str, value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise ConfigError(f"{where} is too large a number")
    if isinstance(value, str) and UNFIT_FOR_PATHS.search(value):
        raise ConfigError(f"{where} is {shown(value)}; expected text without control characters")
    if origin is tuple:  # a single value stands for a list of one
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(_converted(where, item, arguments[0]) for item in items)
    if arguments:  # bool | str, float | str
        if isinstance(value, arguments):
            return value
        if float in arguments and isinstance(value, int):
            return float(value)
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    elif kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # data.split=0.1 without quotes
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return os.path.expanduser(value) if kind is str else value  # a folder called ~ is nobody's wish
    names = " or ".join(a.__name__ for a in arguments) if arguments else kind.__name__
    raise ConfigError(f"{where} is {shown(value)} ({type(value).__name__}); expected {names}")
