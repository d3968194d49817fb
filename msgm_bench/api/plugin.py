"""What every plugin class has: a name, a summary, a citation and validated options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from msgm_bench.api.option_text import read_option
from msgm_bench.errors import OptionError, PluginError, did_you_mean, key_at
from msgm_bench.loading import checked_name
from msgm_bench.storage.cards import short


class Config(BaseModel):
    """Options of a plugin: unknown keys and infinite numbers are errors, values are immutable.

    A field with ``exclude=True`` changes no outcome (a threshold for remarks, the path of a file
    that is known by its checksum): it enters no key of a stage and no protocol.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Plugin:
    """Base of every class that a plugin registers.

    Attributes:
        name: What the user types, ``[a-z0-9][a-z0-9_.-]*`` of at most 64 letters, unique within
            its kind.
        citation: Paper or source, one line.
        Config: The options, with description, unit and bounds on each field.
        presets: Preset name to sparse settings (see ``msgm_bench.api.settings``).
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    class Config(Config):
        """No options."""

    config: Any

    def __init__(self, config: BaseModel | None = None) -> None:
        self.config = self.Config() if config is None else config

    @classmethod
    def create(cls, options: Mapping[str, Any] | None = None) -> Self:
        """The plugin with ``options`` filled in.

        Raises:
            OptionError: An option is unknown, out of range or of the wrong type.
        """
        return cls(parse_options(cls, options or {}))

    @classmethod
    def validate(cls) -> None:
        """Refuse a class that contradicts itself; called when it is registered.

        Raises:
            PluginError: Its name, citation, options or presets are not what they should be.
        """
        name = checked_name(getattr(cls, "name", None), cls.__name__)
        kinds = {"citation": str, "presets": Mapping}
        for attribute, kind in kinds.items():
            value = getattr(cls, attribute)
            if not isinstance(value, kind):
                raise PluginError(f"{attribute} of {name!r} is {value!r:.100}", kind.__name__)
        options = cls.Config
        if not (inspect.isclass(options) and issubclass(options, BaseModel)):
            raise PluginError(f"Config of {name!r} is {options!r:.100}", "a class of options")

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]


def parse_options(plugin: type[Plugin], options: Mapping[str, Any]) -> BaseModel:
    """Validate ``options`` against the plugin's ``Config``; texts of a command line are read first.

    Raises:
        OptionError: Naming the option, what was given and what is allowed.
    """
    fields = plugin.Config.model_fields
    values = {
        key: read_option(value, fields[key].annotation if key in fields else Any)
        for key, value in options.items()
    }
    try:
        return plugin.Config.model_validate(values)
    except ValidationError as error:
        raise option_error(plugin.name, plugin.Config, values, error) from error


def option_error(
    owner: str, config: type[BaseModel], values: object, error: ValidationError
) -> OptionError:
    """The first complaint of pydantic about ``values``, in the words of the house."""
    first = error.errors()[0]
    key = key_at(first["loc"], values)
    known = list(config.model_fields)
    if first["type"] == "extra_forbidden":
        return OptionError(
            f"{owner} has no option {key!r}{did_you_mean(key, known)}",
            ", ".join(known) or "it has no options",
        )
    field = config.model_fields.get(str(first["loc"][0])) if first["loc"] else None
    about = f" ({field.description})" if field is not None and field.description else ""
    given = "" if first["type"] == "missing" else f" = {short(first['input'], 200)}"
    said = first["msg"].removeprefix("Value error, ")  # what a validator of ours says
    if first["type"] == "string_type":
        said = "text, in quotes where YAML reads something else"
    return OptionError(f"option {key!r} of {owner}{given}", f"{said}{about}")
