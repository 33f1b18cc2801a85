"""
Settings out of a file, the environment and a command line.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from fabric.settings.catalogue import PREFIX, Setting, fields, known
from fabric.settings.values import Settings

FILE_VARIABLE = "FABRIC_SETTINGS"
"""The variable that names the file; not a setting."""

FOR_TESTS = "FABRIC_TEST_"
"""How variables begin that only the tests read; not settings either."""


class BadSettings(Exception):
    """
    Settings that can't be meant; its text is one line for an operator.
    """


def load(file: str | None, environment: Mapping[str, str], options: Iterable[tuple[str, str]] = ()) -> Settings:
    """
    The settings of this process.

    @param file: path of a TOML file, None for none.
    @param environment: as C{os.environ}; variables without L{PREFIX} are
        none of ours.
    @param options: C{(path, text)} pairs of the command line.
    @raise BadSettings: with one line that says where and what.
    """
    values: dict[str, Any] = {}
    settings = known()
    if file:
        values.update(_from_file(file, settings))
    variables = {setting.variable: path for path, setting in settings.items()}
    for name, text in environment.items():
        if name.startswith(PREFIX) and name != FILE_VARIABLE and not name.startswith(FOR_TESTS):
            path = variables.get(name) or _unknown(name, variables, "the environment")
            values[path] = _parsed(settings[path], text, f"the environment's {name}")
    for path, text in options:
        if path not in settings:
            _unknown(path, settings, "the command line")
        values[path] = _parsed(settings[path], text, f"the command line's {path}")
    return _built(values)


def _from_file(file: str, settings: Mapping[str, Setting]) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            data = tomllib.load(opened)
    except OSError as failure:
        raise BadSettings(f"can't read {file}: {failure.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise BadSettings(f"{file} is not TOML: {failure}") from None
    values = {}
    for path, value in _flattened(data, settings):
        if path not in settings:
            _unknown(path, settings, file)
        values[path] = _checked(settings[path], value, f"{path} in {file}")
    return values


def _flattened(data: dict[str, Any], settings: Mapping[str, Setting]) -> Iterable[tuple[str, Any]]:
    sections = {path.split(".")[0] for path in settings if "." in path}
    for key, value in data.items():
        if isinstance(value, dict) and (key in sections or not value):
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        elif isinstance(value, dict):
            _unknown(key, sections, "the file's sections")
        else:
            yield key, value


def _unknown(name: str, names: Iterable[str], where: str) -> typing.NoReturn:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    raise BadSettings(f"unknown setting {name} in {where}; the nearest known one is {near[0]}")


def _checked(setting: Setting, value: Any, where: str) -> Any:
    """A value of TOML, whose types are its own."""
    if setting.type == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if setting.type == "list" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if type(value).__name__ == setting.type and setting.type != "list":
        return value
    raise BadSettings(f"{where} must be {_PHRASES[setting.type]}, not {value!r}")


_PHRASES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list of texts",
}

_WORDS = types.MappingProxyType(
    {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
)


def _parsed(setting: Setting, text: str, where: str) -> Any:
    """A value of the environment or command line, which are texts."""
    try:
        match setting.type:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "bool":
                return _WORDS[text.strip().lower()]
            case "list":
                return tuple(part.strip() for part in text.split(",") if part.strip())
            case _:
                return text
    except (ValueError, KeyError):
        raise BadSettings(f"{where} must be {_PHRASES[setting.type]}, not {text!r}") from None


def _built(values: Mapping[str, Any]) -> Settings:
    top: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, dot, key = path.rpartition(".")
        (sections.setdefault(section, {}) if dot else top)[key] = value
    for field, hint in fields(Settings):
        if field.name in sections:
            top[field.name] = _made(hint, sections[field.name], field.name + ".")
    settings: Settings = _made(Settings, top, "")
    return settings


def _made(cls: Any, values: dict[str, Any], prefix: str) -> Any:
    for field, _ in fields(cls):
        if field.validator is not None and field.name in values:
            try:
                field.validator(None, field, values[field.name])
            except ValueError as failure:
                raise BadSettings(f"{prefix}{field.name} {failure}") from None
    return cls(**values)
