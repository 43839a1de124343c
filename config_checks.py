"""What a setting may be: its type, its range, and one clear line for everything else.

ConfigError, the metadata of a field, strict YAML, and the conversion of values. The settings are in config.py.
"""

import contextlib
import dataclasses
import difflib
import math
import os
import re
import reprlib
import typing
from dataclasses import field
from typing import Any

import yaml

MAX_INT = 2**63 - 1
LEARNED = re.compile("uncertain|log_?(var|sigma)|learn(?!ing_?rate)", re.IGNORECASE)  # of a loss's own weights
UNFIT_FOR_PATHS = re.compile(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")  # the rest stands for other encodings


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, its value and what is expected."""


def setting(default: Any, low: float = -math.inf, high: float = math.inf, choices: tuple = (), multiple: int = 1,
            unit: str = "") -> Any:
    """A dataclass field with a default and the values it may take: low to high, multiples, or one of choices."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices, "multiple": multiple,
                                            "unit": f" {unit}" if unit else ""})


def shown(value: Any) -> str:
    """A value in one short line for a message, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 100
    brief.maxlevel = 2
    try:
        return " ".join(brief.repr(value).split())[:200]
    except ValueError:  # an integer of too many digits to print
        return f"a huge {type(value).__name__}"


def parse_yaml(text: str, source: str, as_text: bool = False) -> Any:
    """The plain values of a YAML text, as_text without numbers, dates and the like. Raises ConfigError, which names
    the source.
    """
    try:
        return yaml.load(text, Loader=_TextLoader if as_text else _StrictLoader)
    except Exception as error:  # on a malformed !!tag PyYAML lets any exception through
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"{source}: not valid YAML: {reason}") from None


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if key in keys:
                raise ConfigError(f"key {shown(key)} is written twice{node.start_mark}")
            keys.add(key)
        return super().construct_mapping(node, deep)


class _TextLoader(_StrictLoader):
    """Takes 0601 and yes for text, where YAML reads the octal number 385 and true."""

    yaml_implicit_resolvers: typing.ClassVar = {}


def check_name(name: Any, names: typing.Iterable[str], message: str, prefix: str = "") -> None:
    """Raise ConfigError for a name that is none of the names: the message, and the nearest of them or all."""
    if name in names:
        return
    near = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.4)
    hint = f"did you mean '{prefix}{near[0]}'?" if near else f"expected one of {', '.join(names)}"
    label = message if prefix else f"{message} {shown(name)}"
    raise ConfigError(f"{label}; {hint}")


def refuse_learned_weights(key: Any, source: str) -> None:
    """Raise ConfigError for a key of section `loss` that asks for what made models collapse."""
    if LEARNED.search(str(key)):
        raise ConfigError(f"{source}: loss.{str(key)[:80]}: the weights of the loss are fixed and never learned here; "
                          "take it out (MODEL_COLLAPSE_FIX.md says why)")


def checked(where: str, value: Any, spec: dataclasses.Field) -> Any:
    """The value in the type of its field. Raises ConfigError, with `where` for its name, for any other one."""
    value = _converted(where, value, spec.type)
    limits = spec.metadata
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        if not math.isfinite(item):
            raise ConfigError(f"{where} is {item}; expected a finite number")
        if limits and not limits["low"] <= item <= limits["high"]:
            raise ConfigError(f"{where} is {item}; expected {limits['low']} to {limits['high']}{limits['unit']}")
        if limits and isinstance(item, int) and item % limits["multiple"]:
            raise ConfigError(f"{where} is {item}; expected a multiple of {limits['multiple']}")
    if limits and limits["choices"] and isinstance(value, str) and value not in limits["choices"]:
        raise ConfigError(f"{where} is {shown(value)}; expected one of {', '.join(limits['choices'])}")
    return value


def _converted(where: str, value: Any, kind: Any) -> Any:
    """The value in a type that a field may have. Raises ConfigError where it is of another."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise ConfigError(f"{where} is too large a number")
    if isinstance(value, str) and UNFIT_FOR_PATHS.search(value):
        raise ConfigError(f"{where} is {shown(value)}; expected text without control characters")
    if origin is tuple:  # a single value stands for a list of one
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(_converted(where, item, arguments[0]) for item in items)
    kinds = arguments or (kind,)  # bool | str, float | str
    if float in kinds and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-4 as text
            return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # data.split=0.1 without quotes
    if isinstance(value, kinds) and not (kind is int and isinstance(value, bool)):
        return os.path.expanduser(value) if isinstance(value, str) else value  # ~ is the home folder, as in a shell
    names = " or ".join(one.__name__ for one in kinds)
    raise ConfigError(f"{where} is {shown(value)} ({type(value).__name__}); expected {names}")
