"""What the core refuses to do, said to the person who can act on it.

Every error carries `code`, which is stable and meant for machines, and a message
which is one sentence or two for the reader of a page or of a terminal.
"""


class ComposeError(Exception):
    """Something the core refuses to do. The message is written for the page's reader."""

    code = "compose_failed"


class StopSearch(Exception):
    """Raised by a callback to end a search with the best found so far; the job goes on to its report."""


class InvalidJobError(ComposeError, ValueError):
    """The request itself makes no sense: a value is missing, unknown or out of range."""

    code = "invalid_job"


class ExamplesError(ComposeError, ValueError):
    """The examples cannot be used."""

    code = "invalid_examples"


class NoExamplesError(ExamplesError):
    """There is not a single example to learn from."""

    code = "no_examples"


class MissingOutputError(ExamplesError):
    """An example has an input and no answer to learn from."""

    code = "missing_output"


class ExampleTooLongError(ExamplesError):
    """An example does not fit what one evaluation may read."""

    code = "example_too_long"

    def __init__(self, message: str, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(message)


class ModuleUnreadableError(ComposeError, ValueError):
    """The files of one module are not a plain LoRA adapter."""

    code = "module_unreadable"

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"The module {name} cannot be read: {reason}.")


class MismatchedModulesError(ComposeError, ValueError):
    """These modules cannot be combined by this method, or do not fit this base model."""

    code = "modules_do_not_match"


class NoModulesError(ComposeError, ValueError):
    """No module is left to compose."""

    code = "no_modules"

    def __init__(self) -> None:
        super().__init__("There is no module to compose. Choose at least one that fits the base model.")


class BaseModelError(ComposeError, ValueError):
    """The base model cannot be loaded or cannot do what is asked of it."""

    code = "base_model_unusable"


class PromptTooLongError(ComposeError, ValueError):
    """A prompt does not fit the base model."""

    code = "prompt_too_long"

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(f"The prompt is {length} tokens long; at most {limit} fit. Shorten it.")


class BaseChangedError(ComposeError, RuntimeError):
    """The tensors of a base in memory are not those that were loaded: nothing it says can be trusted."""

    code = "base_changed"

    def __init__(self) -> None:
        super().__init__("The base model in memory was changed, so it was thrown away.")


class NonFiniteLossError(ComposeError, ArithmeticError):
    """Every candidate of a search scored NaN or infinity, so there is nothing to recommend."""

    code = "no_finite_loss"

    def __init__(self, n_scored: int) -> None:
        self.n_scored = n_scored
        super().__init__(
            f"All {n_scored} candidates gave a loss that is not a number. "
            "Check the modules: one of them probably breaks the base model."
        )


class SearchBrokeError(ComposeError, RuntimeError):
    """An optimiser of another's making failed by itself."""

    code = "search_broke"

    def __init__(self, optimizer: str, error: Exception) -> None:
        self.optimizer = optimizer
        error_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        super().__init__(f"The optimiser {optimizer} failed by itself ({error_line}). Choose another search.")


class SourceError(ComposeError, ValueError):
    """A folder or a repository of a Hub that cannot be had."""

    code = "source_unreachable"


class ExportMismatchError(ComposeError):
    """The written adapter, loaded again, does not compute what the search computed."""

    code = "export_differs"

    def __init__(self, difference: float) -> None:
        self.difference = difference
        super().__init__(
            f"The written adapter differs from the composition it was made from "
            f"(by {difference:.2g} in its logits), so it was thrown away."
        )
