"""Settings: frozen dataclasses that mirror config.yaml section by section, loaded, checked and overridden."""

import dataclasses
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config_checks import ConfigError, check_name, checked, parse_yaml, refuse_learned_weights, setting, shown

MAX_TEXT = 1_000_000  # characters of a settings file; ours has 4,000
RENAMED = {  # (section, old key): new key; the old ones are still read
    ("model", "sky"): "cut_top",
    ("augment", "colour"): "color",
    ("train", "optimiser"): "optimizer",
}


@dataclass(frozen=True)
class DataConfig:
    """Data sets, who validates, and how their images are kept; each key is explained in config.yaml."""

    root: tuple[str, ...] = ("data/synthetic",)
    format: tuple[str, ...] = ("auto",)
    split: tuple[str, ...] = ("auto",)
    validate: str = setting("last", choices=("last", "all"))
    weights: tuple[float, ...] = setting((), low=0)
    on_error: str = setting("stop", choices=("stop", "skip"))
    cache: bool = True
    cache_dir: str = "data/cache"
    cache_gb: float = setting(16.0, low=0)
    workers: int = setting(-1, low=-1, high=256)
    on_device: bool | str = setting("auto", choices=("auto",))


@dataclass(frozen=True)
class SyntheticConfig:
    """The rendered data set."""

    train: int = setting(6000, low=1, high=10_000_000)
    val: int = setting(300, low=1, high=10_000_000)
    width: int = setting(640, low=160, high=4096)
    height: int = setting(360, low=90, high=4096)
    seed: int = setting(0, low=0, high=2**31)


@dataclass(frozen=True)
class ModelConfig:
    """The network and its input."""

    backbone: str = setting("compact", choices=("compact", "resnet18", "resnet34"))
    pretrained: bool | str = False
    width: int = setting(384, low=64, high=4096, multiple=32)
    height: int = setting(168, low=64, high=4096, multiple=8)
    cut_top: float = setting(0.25, low=0, high=0.75)
    zoom: float = setting(1.8, low=1, high=8)
    slots: int = setting(6, low=2, high=32, multiple=2)


@dataclass(frozen=True)
class LossConfig:
    """The weights of the loss terms."""

    regression: float = 1.0
    existence: float = 1.0
    curvature: float = 0.1
    columns: float = 1.0


@dataclass(frozen=True)
class AugmentConfig:
    """The strength of each augmentation."""

    flip: float = setting(0.5, low=0, high=1)
    rotate: float = setting(1.0, low=0, high=30)
    scale: float = setting(0.03, low=0, high=0.8)
    shift: float = setting(0.02, low=0, high=0.5)
    shear: float = setting(0.1, low=0, high=0.5)
    brightness: float = setting(0.3, low=0, high=0.9)
    contrast: float = setting(0.3, low=0, high=0.9)
    color: float = setting(0.2, low=0, high=0.9)
    blank: float = setting(0.01, low=0, high=1)


@dataclass(frozen=True)
class TrainConfig:
    """Device, optimizer and length of a training."""

    device: str = setting("auto", choices=("auto", "cuda", "mps", "cpu"))
    precision: str = setting("auto", choices=("auto", "fp32", "bf16", "fp16"))
    compile: bool = False
    cuda_graph: bool | str = setting("auto", choices=("auto",))
    epochs: int = setting(9, low=1, high=100_000)
    input_scale: float | str = setting("auto", low=0.5, high=1, choices=("auto",))
    coarse: float = setting(0.5, low=0, high=1)
    batch_size: int = setting(16, low=1, high=65_536)
    optimizer: str = setting("muon", choices=("muon", "adamw"))
    learning_rate: float = setting(2e-3, low=0, high=1)
    weight_decay: float = setting(0.02, low=0, high=1)
    warmup: float = setting(0.05, low=0, high=0.9)
    clip_norm: float = setting(5.0, low=1e-6)
    ema: float = setting(0.998, low=0, high=0.99999)
    seed: int = setting(0, low=0, high=2**31)
    init_from: str = ""
    init_share: float = setting(0.0, low=0, high=0.9)
    checkpoint_dir: str = "checkpoints_fixed"
    tensorboard: bool = False


@dataclass(frozen=True)
class GuardConfig:
    """The limits of the collapse detector."""

    min_diversity: float = setting(0.05, low=0, high=1)
    min_sensitivity: float = setting(0.1, low=0, high=1)
    first_steps: int = setting(300, low=0)
    patience: int = setting(3, low=1)


@dataclass(frozen=True)
class InferenceConfig:
    """How predictions become reported lanes."""

    threshold: float | str = setting("auto", low=0, high=1, choices=("auto",))
    end_tolerance: float = setting(0.007, low=0, high=0.1)
    batch_size: int = setting(16, low=1, high=65_536)


@dataclass(frozen=True)
class CameraConfig:
    """The camera of the images, for metres on the road."""

    fov: float = setting(0.0, low=0, high=175, unit="degrees")
    matrix: tuple[float, ...] = ()
    size: tuple[int, ...] = setting((), low=1, high=100_000)
    distortion: tuple[float, ...] = setting((), low=-100, high=100)
    height: float = setting(0.0, low=0, high=10, unit="metres (not centimetres)")
    pitch: float | str = setting("auto", low=-45, high=45, choices=("auto",), unit="degrees")
    roll: float = setting(0.0, low=-45, high=45, unit="degrees")
    yaw: float = setting(0.0, low=-60, high=60, unit="degrees")
    car_width: float = setting(1.8, low=0.1, high=5, unit="metres")
    speed: float = setting(0.0, low=0, high=150, unit="metres a second")


@dataclass(frozen=True)
class Config:
    """All settings, a section each, in the order of config.yaml."""

    data: DataConfig = DataConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    guard: GuardConfig = GuardConfig()
    inference: InferenceConfig = InferenceConfig()
    camera: CameraConfig = CameraConfig()


def file_or_default(path: str | None) -> str | None:
    """The path itself or, for None, config.yaml where the current folder has one."""
    return "config.yaml" if path is None and Path("config.yaml").is_file() else path


def load_config(path: str | Path | None, overrides: typing.Sequence[str] = ()) -> Config:
    """Config from a YAML file (None: the defaults), then `section.key=value` overrides, in order.

    A key under its old name is one line on stderr. Raises ConfigError in one line for a file that is not YAML, an
    unknown section or key (naming the nearest one), and a value of the wrong type or out of range; FileNotFoundError
    for a missing file.
    """
    values = _current_names(_read_sections(path), str(path), report=True) if path is not None else {}
    config = config_from_dict(values, str(path) if path else "settings")
    for override in overrides:
        name, equals, text = override.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(f"{shown(override)}: an override reads section.key=value, such as train.epochs=5")
        key, = _current_names({section: {key: None}}, "command line", report=True)[section]
        values.setdefault(section, {})[key] = _override_value(section, key, text, shown(override))
    return config_from_dict(values, "command line") if overrides else config


def given_keys(path: str | Path | None, overrides: typing.Sequence[str] = ()) -> set[tuple[str, str]]:
    """(section, key) under their present names of what a settings file and overrides name; raises as load_config."""
    sections = _current_names(_read_sections(path), str(path)) if path is not None else {}
    names = {(section, key) for section, keys in sections.items() if isinstance(keys, dict) for key in keys}
    for override in overrides:
        section, _, key = override.partition("=")[0].partition(".")
        names.add((section, RENAMED.get((section, key), key)))
    return names


def _read_sections(path: str | Path) -> dict[str, Any]:
    """The sections of a settings file, {} for an empty one. Raises ConfigError and FileNotFoundError as load_config."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{path}: {len(text)} characters are no settings; expected a file like config.yaml")
    sections = parse_yaml(text, str(path)) or {}
    if not isinstance(sections, dict):
        raise ConfigError(f"{path}: expected sections such as 'train:', found {type(sections).__name__}")
    sections = {name: dict(s) if isinstance(s, dict) else {} if s is None else s for name, s in sections.items()}
    texts = parse_yaml(text, str(path), as_text=True)
    for name, section in sections.items():
        if isinstance(section, dict):
            for key in section:
                if _is_text(name, key) and section[key] is not None:
                    section[key] = texts[name][key]
    return sections


def config_from_dict(values: dict[str, Any], source: str = "settings") -> Config:
    """Config from nested plain values, as to_dict gives them; raises ConfigError as load_config does."""
    sections = {f.name: f.type for f in dataclasses.fields(Config)}
    built = {}
    for name, section in _current_names(values, source).items():
        check_name(name, sections, f"{source}: unknown section")
        if section is None:
            continue
        if not isinstance(section, dict):
            raise ConfigError(f"{source}: section '{name}' is not a list of keys but {shown(section)}")
        cls = sections[name]
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in section:
            if name == "loss":
                refuse_learned_weights(key, source)
            check_name(key, fields, f"{source}: unknown key {shown(f'{name}.{key}')}", prefix=f"{name}.")
        built[name] = cls(**{k: checked(f"{source}: {name}.{k}", v, fields[k]) for k, v in section.items()})
    return Config(**built)


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values (no tuples), fit for YAML, JSON and a weights-only checkpoint."""
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return {name: {k: plain(v) for k, v in section.items()} for name, section in dataclasses.asdict(config).items()}


def _current_names(sections: dict[str, Any], source: str, report: bool = False) -> dict[str, Any]:
    """The sections with every key under its present name; `report` prints a line on stderr for each old one.

    Raises ConfigError where a section has a key under both names.
    """
    renamed = {}
    for name, section in sections.items():
        if not isinstance(section, dict):
            renamed[name] = section
            continue
        for key in section:
            new = RENAMED.get((name, key))
            if new and new in section:
                raise ConfigError(f"{source}: {name}.{key} is the old name of {name}.{new}, which is set too; drop it")
            if new and report:
                print(f"{source}: {name}.{key} is now called {name}.{new}", file=sys.stderr)
        renamed[name] = {RENAMED.get((name, key), key): value for key, value in section.items()}
    return renamed


def _override_value(section: str, key: str, text: str, source: str) -> Any:
    """The value of an override. For a setting that is text it is the text itself, but for a list or quotes."""
    if not _is_text(section, key):
        return parse_yaml(text, source)
    text = text.strip()
    return parse_yaml(text, source, as_text=True) if text.startswith(("[", "'", '"')) else text


def _is_text(section: str, key: str) -> bool:
    """Whether a setting is text, or a list of texts, such as the names of folders."""
    spec = {f.name: f for f in dataclasses.fields(Config)}.get(section)
    kinds = {f.name: f.type for f in dataclasses.fields(spec.type)} if spec else {}
    return kinds.get(key) in (str, tuple[str, ...])
