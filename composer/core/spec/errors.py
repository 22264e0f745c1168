"""The errors of the core, with messages for the person who can act on them.

Every ComposeError has a class attribute `code`, which is stable and meant for programs. Its message
is one or two sentences for the reader of a page or a terminal.
"""

from composer.core.spec.counting import count_noun

STOPPED_BY_WISH = "wish"  # somebody asked for the best so far
STOPPED_FOR_TIME = "time"  # the job would not have ended before its deadline


class ComposeError(Exception):
    """The base class of everything that the core refuses to do."""

    code = "compose_failed"


class StopSearch(Exception):
    """A callback raises this to end a search early.

    The search returns the best of its steps, and the job continues to its report.

    Attributes:
        reason: STOPPED_BY_WISH or STOPPED_FOR_TIME.
    """

    def __init__(self, reason: str = STOPPED_BY_WISH) -> None:
        """Take the reason, which report.json repeats."""
        self.reason = reason
        super().__init__(reason)


class InvalidJobError(ComposeError, ValueError):
    """The request is not valid: a value is missing, unknown or out of range."""

    code = "invalid_job"


class ExamplesError(ComposeError, ValueError):
    """The examples cannot be used."""

    code = "invalid_examples"


class NoExamplesError(ExamplesError):
    """There is no example."""

    code = "no_examples"


class MissingOutputError(ExamplesError):
    """An example has an input but no output."""

    code = "missing_output"


class ExampleTooLongError(ExamplesError):
    """An example is too long for an example or for the base model.

    Attributes:
        length: the length found, in characters for a text and in tokens for a prompt.
        limit: the most that is allowed, in the same unit.
    """

    code = "example_too_long"

    def __init__(self, message: str, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(message)


class ModuleUnreadableError(ComposeError, ValueError):
    """The files of one module are missing or damaged, or not a plain LoRA adapter.

    Attributes:
        name: the name of the module.
        reason: what is wrong, as the end of a sentence that begins with the name.
    """

    code = "module_unreadable"
    cannot = "cannot be read"

    def __init__(self, name: str, what: str) -> None:
        """Take what is wrong as the end of a sentence, without its full stop."""
        self.name, self.reason = name, f"{self.cannot}: {what}"
        super().__init__(f"The module {name} {self.reason}.")


class ModuleUnfitError(ModuleUnreadableError):
    """The files of one module are there, but the registry's gate refuses them."""


class ModuleNotComposableError(ModuleUnfitError):
    """A module is sound, but cannot be combined with others, such as a DoRA."""

    cannot = "cannot be composed"


class MismatchedModulesError(ComposeError, ValueError):
    """The modules cannot be combined by this method, or do not fit this base model."""

    code = "modules_do_not_match"


class NoModulesError(ComposeError, ValueError):
    """There is no module to compose."""

    code = "no_modules"

    def __init__(self) -> None:
        super().__init__("There is no module to compose. Choose at least one that fits the base model.")


class BaseModelError(ComposeError, ValueError):
    """The base model cannot be loaded or cannot do what the request needs."""

    code = "base_model_unusable"


class PromptTooLongError(ComposeError, ValueError):
    """A prompt does not fit the context of the base model.

    Attributes:
        length: tokens of the prompt.
        limit: the most tokens that fit.
    """

    code = "prompt_too_long"

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(f"The prompt is {length} tokens long; at most {limit} fit. Shorten it.")


class BaseChangedError(ComposeError, RuntimeError):
    """The tensors of a loaded base differ from those that were loaded, so its answers cannot be trusted."""

    code = "base_changed"

    def __init__(self) -> None:
        super().__init__("The base model in memory was changed, so it was discarded.")


class NonFiniteLossError(ComposeError, ArithmeticError):
    """Every candidate of a search had a loss of NaN or infinity, so no weights can be recommended.

    Attributes:
        n_scored: how many candidates were scored.
    """

    code = "no_finite_loss"

    def __init__(self, n_scored: int) -> None:
        self.n_scored = n_scored
        super().__init__(
            f"No loss is a number, of {count_noun(n_scored, 'scored candidate')}. "
            "Check the modules: one of them probably breaks the base model."
        )


class SearchBrokeError(ComposeError, RuntimeError):
    """An optimizer of nevergrad raised an error of its own.

    Attributes:
        optimizer: its name in nevergrad's registry.
    """

    code = "search_broke"

    def __init__(self, optimizer: str, error: Exception) -> None:
        self.optimizer = optimizer
        error_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        super().__init__(f"The optimizer {optimizer} failed by itself ({error_line}). Choose another search.")


class SourceError(ComposeError, ValueError):
    """A folder or a repository does not exist, is not usable or cannot be fetched."""

    code = "source_unreachable"


class PushError(ComposeError, RuntimeError):
    """A Hub did not take an upload, or could not be reached."""

    code = "not_pushed"


class ExportMismatchError(ComposeError):
    """The written adapter, loaded by peft, is not the composition of the search, even in fp32.

    Attributes:
        searched: the loss of the composition in the search, in nats per label token.
        written: the loss of the written adapter, in nats per label token.
    """

    code = "export_differs"

    def __init__(self, searched: float, written: float) -> None:
        self.searched, self.written = searched, written
        super().__init__(
            "The adapter was written twice, and loaded by peft it is not the composition that was found: on "
            f"the examples its loss in fp32 is {written:.4g} nats per token instead of {searched:.4g}, or it "
            "predicts other tokens. So it was thrown away. peft may not support this base model; report it."
        )
