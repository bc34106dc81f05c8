"""Every method that is installed, and the field of a config that is one of them.

Another distribution brings a method by an entry point of the group `difftune.methods`, whose name is what configs say
in `type`, and which names a class made from `Method`. API, command line and trainers find it alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast, get_args

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import core_schema, to_json

from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.methods.method import Method, Objective
from difftune_core.config.methods.supervised import Supervised
from difftune_core.config.named import STORED
from difftune_core.config.outside import loaded
from difftune_core.hooks import TaskError

GROUP = "difftune.methods"
"""The group of entry points."""
_OWN: dict[str, type[Method]] = {"supervised": Supervised, "diff_tuning": DiffTuning}
_DEFAULT = "diff_tuning"


@cache
def all_methods() -> dict[str, type[Method]]:
    """Every method by its type, this package's first.

    Raises:
        RuntimeError: an entry point is no method of its name, cannot be loaded, or takes a name that is taken.
    """
    found = dict(_OWN)
    for name, kind in loaded(GROUP):
        if not _is_method(kind, name):
            message = f"the entry point {name!r} of {GROUP} is no class of Method with the fields 'type' and {name!r}"
            raise RuntimeError(f"{message}: {kind!r}")
        if name in found:
            raise RuntimeError(f"the method {name!r} is there twice")
        found[name] = kind
    return found


def method_names() -> list[str]:
    """Return what configs call the methods, the default first."""
    return [_DEFAULT, *(name for name in all_methods() if name != _DEFAULT)]


def label_of(name: str) -> str:
    """Return the method's name for people; of one that is not installed, what configs call it."""
    known = all_methods().get(name)
    return name if known is None else known.label


def settings_of(name: str) -> type[TrainingHyperparameters]:
    """Return the class of a method's hyper-parameters; of one that is not installed, those that every method has."""
    known = all_methods().get(name)
    return TrainingHyperparameters if known is None else known.settings()


class MissingMethod(Method):
    """A method of a stored config that is not installed here: shown as it stands, and nothing is trained by it."""

    model_config = ConfigDict(extra="allow")
    label: ClassVar[str] = ""

    @property
    def hyperparameters(self) -> TrainingHyperparameters:
        """The hyper-parameters that every method has, without values that cannot be read as theirs."""
        known = self._stated()
        while True:
            try:
                return TrainingHyperparameters.model_validate(known, extra="ignore", context=STORED)
            except ValidationError as error:
                for name in {fault["loc"][0] for fault in error.errors()}:
                    del known[str(name)]

    def _stated(self) -> dict[str, Any]:
        spec = (self.model_extra or {}).get(self.type)
        given = spec.get("hyperparameters") if isinstance(spec, dict) else None
        return dict(given) if isinstance(given, dict) else {}

    def having(self, **changed: Any) -> Method:
        """Return the same method with other values of some hyper-parameters; its own are kept."""
        spec = {"type": self.type, self.type: {"hyperparameters": {**self._stated(), **changed}}}
        return self.model_validate(spec)

    @property
    def objective(self) -> Objective:
        """Refuse to be trained.

        Raises:
            TaskError: `method_unknown`.
        """
        message = f"there is no method {self.type!r} here: known are {', '.join(method_names())}"
        raise TaskError("method_unknown", message, "method.type")


@dataclass(frozen=True)
class OneOfTheMethods:
    """Marks a field as one of `all_methods()`, told apart by `type`, as a union of them would be."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Read a method by the table as it is then; of a stored config also one that is not installed."""
        del source, handler
        return core_schema.with_info_plain_validator_function(
            lambda value, info: _read(value, info.context, is_json=info.mode == "json")
        )

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the union."""
        return handler(_union().core_schema)


if TYPE_CHECKING:
    AnyMethod = Method
else:  # of a field whose type is a model FastAPI describes that too, and `Method` itself is no method
    AnyMethod = Annotated[Any, OneOfTheMethods()]


@cache
def _union_of(methods: tuple[type[Method], ...]) -> Any:
    """A `TypeAdapter`, of which the tests' checks of arguments know nothing."""
    union: Any = Annotated[reduce(or_, methods), Field(discriminator="type")]
    return TypeAdapter(union)


def _union() -> Any:
    return _union_of(tuple(all_methods().values()))


def _read(value: Any, context: Any, *, is_json: bool) -> Method:
    """One of the methods; JSON stays JSON, in which a tuple is an array."""
    if context == STORED:
        if isinstance(value, dict) and isinstance(name := value.get("type"), str) and name not in all_methods():
            return MissingMethod.model_validate(value)
        found = _union().validate_python(value, extra="ignore", context=STORED)
    elif is_json:
        found = _union().validate_json(to_json(value, inf_nan_mode="constants"), context=context)
    else:
        found = _union().validate_python(value, context=context)
    return cast("Method", found)


def _is_method(kind: Any, name: str) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        return False
    fields = kind.model_fields
    return fields.keys() == {"type", name} and get_args(fields["type"].annotation) == (name,)
