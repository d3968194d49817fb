"""The base of all plugins: a name, a summary, a citation and validated options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Self, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import NoDefault, TypeVar, get_original_bases

from msgm_bench.api.option_text import read_option
from msgm_bench.errors import OptionError, PluginError, did_you_mean, key_at, shorten
from msgm_bench.quarantine import checked_name
from msgm_bench.storage.cards import short
from msgm_bench.storage.validation import allowed_values


class Options(BaseModel):
    """Options of a plugin: unknown keys and infinite numbers are errors, values are immutable.

    A field with ``exclude=True`` changes no outcome (a threshold for remarks, the path of a file
    that is known by its checksum): it enters no key of a stage and no protocol.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


OptionsT = TypeVar("OptionsT", bound=Options, default=Options, covariant=True)


class Plugin(Generic[OptionsT]):
    """Base of every class that a plugin registers.

    A class names its options as its base's argument, ``class Mine(Method[MineOptions])``; one
    that names none has those of its base.

    Attributes:
        name: What the user types, ``[a-z0-9][a-z0-9_.-]*`` of at most 64 letters, unique within
            its kind.
        citation: Paper or source, one line.
        presets: Preset name to sparse settings (see ``msgm_bench.api.settings``).
        options_type: The class of its options, with description, unit and bounds on each field.
        options: The options, validated.
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    options_type: ClassVar[type[Options]] = Options

    options: OptionsT

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read ``options_type`` from the argument of a base."""
        super().__init_subclass__(**kwargs)
        if "__orig_bases__" in vars(cls):  # a base has arguments
            cls.options_type = _options_type(cls)

    def __init__(self, options: OptionsT | None = None) -> None:
        self.options = cast(OptionsT, self.options_type()) if options is None else options

    @classmethod
    def create(cls, options: Mapping[str, Any] | None = None) -> Self:
        """The plugin with ``options`` filled in.

        Raises:
            OptionError: An option is unknown, out of range or of the wrong type.
        """
        return cls(cast(OptionsT, parse_options(cls, options or {})))

    @classmethod
    def validate(cls) -> None:
        """Refuse a class that contradicts itself; called when it is registered.

        Raises:
            PluginError: Its name, citation, options or presets have the wrong type.
        """
        name = checked_name(getattr(cls, "name", None), cls.__name__)
        kinds = {"citation": str, "presets": Mapping}
        for attribute, kind in kinds.items():
            value = getattr(cls, attribute)
            if not isinstance(value, kind):
                raise PluginError(f"{attribute} of {name!r} is {value!r:.100}", kind.__name__)
        options = cls.options_type
        for allowed in _options_of_bases(cls):
            if not (inspect.isclass(options) and issubclass(options, allowed)):
                raise PluginError(
                    f"the options of {name!r} are {options!r:.100}",
                    f"a subclass of {allowed.__name__}",
                    f"class {cls.__name__}Options({allowed.__name__}), and after it "
                    f"class {cls.__name__}(...[{cls.__name__}Options])",
                )

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]


def _argument(base: Any) -> Any:
    """The argument for ``OptionsT`` of a class or of ``Base[...]``; None if it is no plugin."""
    origin = get_origin(base) or base
    if origin is Plugin:
        return next(iter(get_args(base)), OptionsT)
    if not (inspect.isclass(origin) and issubclass(origin, Plugin)):
        return None
    arguments = (_argument(parent) for parent in get_original_bases(origin))
    inner = next(argument for argument in arguments if argument is not None)
    parameters = getattr(origin, "__parameters__", ())
    return dict(zip(parameters, get_args(base), strict=False)).get(inner, inner)


def _options_type(cls: type[Plugin]) -> Any:
    """The argument for ``OptionsT``; of a type variable, its default or its bound."""
    argument = _argument(cls)
    if not isinstance(argument, TypeVar):
        return argument
    default = getattr(argument, "__default__", NoDefault)
    return argument.__bound__ if default is NoDefault else default


def _options_of_bases(cls: type[Plugin]) -> Iterator[type]:
    """Superclasses that the options of ``cls`` must have: those of its bases, nearest first."""
    for base in cls.__mro__[1:]:
        argument = _argument(base)
        options = getattr(argument, "__bound__", argument)
        if inspect.isclass(options):
            yield options


def parse_options(plugin: type[Plugin], options: Mapping[str, Any]) -> Options:
    """Validate ``options`` against the plugin's options; parse texts of a command line first.

    Raises:
        OptionError: An option is unknown, out of range or of the wrong type.
    """
    fields = plugin.options_type.model_fields
    values = {
        key: read_option(value, fields[key].annotation if key in fields else Any)
        for key, value in options.items()
    }
    try:
        return plugin.options_type.model_validate(values)
    except ValidationError as error:
        raise option_error(plugin.name, plugin.options_type, values, error) from error


def option_error(
    owner: str, options: type[BaseModel], values: object, error: ValidationError
) -> OptionError:
    """The first of pydantic's errors about ``values``, as an ``OptionError``."""
    errors = error.errors()
    first = errors[0]
    key = key_at(first["loc"], values)
    known = list(options.model_fields)
    if first["type"] == "extra_forbidden":
        return OptionError(
            f"{owner} has no option {shorten(key)!r}{did_you_mean(key, known)}",
            ", ".join(known) or "it has no options",
        )
    field = options.model_fields.get(str(first["loc"][0])) if first["loc"] else None
    about = f" ({field.description})" if field is not None and field.description else ""
    value = "" if first["type"] == "missing" else f" = {short(first['input'], 200)}"
    reason = allowed_values(errors)
    if first["type"] == "string_type":
        reason = "text, in quotes where YAML reads something else"
    what = f"option {shorten(key)!r} of {owner}" if key else f"options of {owner}"
    if first["type"] == "missing":
        what = f"{owner} lacks the option {shorten(key)!r}"
    return OptionError(f"{what}{value}", f"{reason}{about}")
