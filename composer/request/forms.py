"""The form behind “Compose for my task”: rows, pastes and files become examples."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.forms.renderers import Jinja2
from django.utils.datastructures import MultiValueDict

from composer import selectors
from composer.core.spec.choices import (
    BASELINES,
    BASELINES_OF_LEVEL,
    BUDGET_LIMIT,
    DEFAULT_LEVEL,
    DEFAULT_MAX_NEW_TOKENS,
    DEFAULT_METHOD,
    DEFAULT_SEED,
    DEFAULT_TEMPLATE,
    DEVICES,
    EXAMPLES_LIMIT,
    LEVELS,
    MAX_NEW_TOKENS_LIMIT,
    METHODS,
    NEVERGRAD,
    NEVERGRAD_NAME,
    OBJECTIVES,
    PRECISIONS,
    SEARCHES,
    SEARCHES_OF_METHOD,
    SMALL_RANK,
    Choice,
    level_budget,
)
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.example_files import ExampleLinesError, Reading
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import Example, json_lines
from composer.core.spec.job_spec import read_rank
from composer.models import NAME_MAX, SEED_MAX, SENTENCE_MAX
from composer.request.selectors import find_held_out
from composer.task.examples import (
    EXAMPLES_MAX,
    HELD_OUT_MAX,
    NO_EXAMPLES,
    Note,
    pairs_from_rows,
    read_pasted,
    row_notes,
    split_aside,
    text_of_file,
    valid_pairs,
)
from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from modules_registry.models import BaseModel

COUNT_MAX = 9999
COUNT_DEFAULT = 20  # as the LoraHub paper draws
SELECTIONS = [
    ("auto", "Choose for me"),
    ("all", "All compatible modules"),
    ("screen", "The lowest loss alone"),
    ("random", "Drawn at random"),
    ("chosen", "By hand"),
    ("steps", "Several rules in order"),
]
ROWS_AT_LEAST = 5
GUEST_LEVEL = "quick"
COLUMN_MAX = 200  # characters
COLUMN_FIELDS = {
    f"{group}_{part}"
    for group in ("shots", "held_out")
    for part in ("input_column", "output_column", "header")
}
LIMITS = {"shots": EXAMPLES_MAX, "held_out": HELD_OUT_MAX}  # of a text or a file
KEPT_CHARACTERS = 200_000  # of a file that could not be read, in the box above it
KEPT_LINES_MORE = 20  # than examples can be used
TAKEN_AS_THEY_ARE = (
    "name", "sentence", "base", "method", "objective", "seed", "rank", "precision", "device",
)  # fmt: skip


class GridWidget(forms.Widget):
    """Rows of two cells, sent as as many `<name>_input` and `<name>_output` as there are rows."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[tuple[str, str]]:
        return list(zip(data.getlist(f"{name}_input"), data.getlist(f"{name}_output"), strict=False))


class GridField(forms.Field):
    widget = GridWidget

    def clean(self, value: list[tuple[str, str]]) -> list[Example]:
        with problems_as_errors():
            return pairs_from_rows(value)


class PastedField(forms.CharField):
    """A text that the form reads by the columns chosen beside it."""

    widget = forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})


class ExamplesFileField(forms.FileField):
    """The name of a file and its text, which the form reads as a pasted one; nothing without a file."""

    widget = forms.FileInput(attrs={"accept": ".jsonl,.json,.csv,.tsv,.txt"})

    def clean(self, data: "UploadedFile[bytes] | None", initial: Any = None) -> tuple[str, str] | None:
        if data is None:
            return None
        with problems_as_errors():
            return data.name or "", text_of_file(data.name or "", data.read())


class ColumnField(forms.CharField):
    """The name of a column, or several joined by +."""

    def __init__(self, part: str, list_id: str) -> None:
        attrs = {"list": list_id, "spellcheck": "false", "autocomplete": "off"}
        super().__init__(
            max_length=COLUMN_MAX,
            required=False,
            label=f"Column of the {part}",
            widget=forms.TextInput(attrs=attrs),
        )


class HeaderField(forms.BooleanField):
    def __init__(self) -> None:
        super().__init__(required=False, label="The first row is a header")


@contextmanager
def problems_as_errors() -> Iterator[None]:
    """Every problem of the examples as an error of the field it came by."""
    try:
        yield
    except ExampleLinesError as error:
        raise forms.ValidationError(error.problems) from error


class NamesField(forms.MultipleChoiceField):
    """Any names: the library is too large to be a list of choices."""

    def valid_value(self, value: str) -> bool:
        return True


class TemplateField(forms.CharField):
    """A template as it is typed: a line break at its end counts, and nothing leaves it open."""

    def clean(self, value: Any) -> str:
        return template_typed(super().clean(value))


def template_typed(text: str) -> str:
    """The template that a text box holds; a browser sends a line break as two characters."""
    return text.replace("\r\n", "\n") if text.strip() else DEFAULT_TEMPLATE


def number_errors(name: str, least: int, most: int) -> dict[str, str]:
    """One sentence for whatever is wrong with a number: what would be right."""
    sentence = f"The {name} is a whole number from {least} to {most:,}."
    return dict.fromkeys(("required", "invalid", "min_value", "max_value"), sentence)


def choice_errors(name: str) -> dict[str, str]:
    return {
        "required": f"Choose a {name}.",
        "invalid_choice": f"There is no {name} “%(value)s”. Choose one from the list.",
    }


class UsualChoiceField(forms.ChoiceField):
    """One of the core's choices, its line beside its name; the usual one where nothing was sent."""

    def __init__(self, offered: tuple[Choice, ...], *, usual: str, label: str) -> None:
        super().__init__(
            choices=[(choice.name, f"{choice.name}: {choice.line}") for choice in offered],
            initial=usual,
            label=label,
            error_messages=choice_errors("choice"),
        )

    def clean(self, value: Any) -> Any:
        return super().clean(value or self.initial)


def selection_asked(cleaned: Mapping[str, Any]) -> str:
    """The selection as the services and the command line write it."""
    kind = cleaned["selection"]
    if kind in ("screen", "random"):
        return f"{kind}:{cleaned[f'{kind}_count'] or COUNT_DEFAULT}"
    return (cleaned["steps"].replace(" ", "") or "all") if kind == "steps" else kind


def selection_initial(selection: str) -> dict[str, Any]:
    """The fields that say this selection: the way back from `selection_asked`."""
    kind, _, count = selection.partition(":")
    if kind in ("screen", "random") and count.isdecimal():
        return {"selection": kind, f"{kind}_count": int(count)}
    if selection == "all":
        return {"selection": "auto"}
    if selection == "chosen":
        return {"selection": selection}
    return {"selection": "steps", "steps": selection}


def chosen_search(cleaned: Mapping[str, Any]) -> str:
    if cleaned["nevergrad"]:
        return f"{NEVERGRAD}{cleaned['nevergrad']}"
    search = str(cleaned["search"])
    # The choice is hidden from a method that does not have it.
    return search if search in SEARCHES_OF_METHOD[cleaned["method"]] else "auto"


class CompositionForm(forms.Form):
    default_renderer = Jinja2()  # of Django's own widgets, several times as fast: the page has more than 40
    data: MultiValueDict[str, str]  # a form's, so that all values of a name are there

    form_key = forms.CharField(widget=forms.HiddenInput, required=False, max_length=36)
    name = forms.CharField(
        max_length=NAME_MAX,
        required=False,
        label="Name of the task",
        help_text="For your own list. Defaults to today's date.",
    )
    sentence = forms.CharField(max_length=SENTENCE_MAX, required=False, label="What should the adapter do?")
    shots = GridField(required=False, label="Examples")
    shots_input_column = ColumnField("input", "shots-columns")
    shots_output_column = ColumnField("output", "shots-columns")
    shots_header = HeaderField()
    shots_text = PastedField(
        required=False,
        label="Paste many examples",
        help_text="From a spreadsheet, CSV, or JSON: "
        "<code>{&quot;input&quot;: &quot;…&quot;, &quot;output&quot;: &quot;…&quot;}</code>, or keys such as "
        "<code>instruction</code> and <code>output</code>, or <code>messages</code>.",
    )
    shots_file = ExamplesFileField(
        required=False, label="Upload a file", help_text="JSON, JSONL, CSV or TSV, in UTF-8."
    )
    held_out_from = forms.CharField(required=False, max_length=120)
    held_out_input_column = ColumnField("input", "held_out-columns")
    held_out_output_column = ColumnField("output", "held_out-columns")
    held_out_header = HeaderField()
    held_out_text = PastedField(required=False, label="Paste held-out examples")
    held_out_file = ExamplesFileField(
        required=False, label="Upload a file", help_text="JSON, JSONL, CSV or TSV, in UTF-8."
    )
    base = forms.ChoiceField(label="Base model", error_messages=choice_errors("base model"))
    selection = forms.ChoiceField(
        choices=SELECTIONS,
        widget=forms.RadioSelect,
        initial="auto",
        error_messages=choice_errors("way to pick modules"),
    )
    screen_count = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=COUNT_MAX,
        initial=COUNT_DEFAULT,
        error_messages=number_errors("number of modules", 1, COUNT_MAX),
    )
    random_count = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=COUNT_MAX,
        initial=COUNT_DEFAULT,
        error_messages=number_errors("number of modules", 1, COUNT_MAX),
    )
    steps = forms.CharField(required=False, max_length=80)
    modules = NamesField(required=False)
    method = forms.ChoiceField(
        choices=[(method.name, method.name) for method in METHODS],
        widget=forms.RadioSelect,
        initial=DEFAULT_METHOD,
        error_messages=choice_errors("method"),
    )
    level = UsualChoiceField(LEVELS, usual=DEFAULT_LEVEL, label="Search effort")
    search = UsualChoiceField(SEARCHES, usual="auto", label="Search")
    nevergrad = forms.RegexField(
        NEVERGRAD_NAME,
        required=False,
        strip=True,
        label="Optimizer of nevergrad",
        help_text="Such as <code>OnePlusOne</code>; it replaces the search.",
        error_messages={"invalid": "Use letters, digits and _ only."},
    )
    objective = UsualChoiceField(OBJECTIVES, usual="loss", label="Objective")
    budget = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=BUDGET_LIMIT,
        label="Budget",
        help_text="Most candidates to score; a gradient step counts as three.",
        error_messages=number_errors("budget", 1, BUDGET_LIMIT),
    )
    batch_size = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=EXAMPLES_LIMIT,
        label="Batch size",
        help_text="Examples per batch of lorahub's objective. Defaults to all.",
        error_messages=number_errors("batch size", 1, EXAMPLES_LIMIT),
    )
    seed = forms.IntegerField(
        min_value=0,
        max_value=SEED_MAX,
        initial=DEFAULT_SEED,
        label="Seed",
        help_text="The same seed and inputs give the same adapter.",
        error_messages=number_errors("seed", 0, SEED_MAX),
    )
    rank = forms.CharField(
        required=False,
        initial=SMALL_RANK,
        label="Rank",
        help_text="<code>auto</code>: the smallest that keeps every answer. <code>full</code>: uncut. "
        "A number: cut to this rank, for servers with a limit.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
    )
    template = TemplateField(
        required=False,
        strip=False,
        initial=DEFAULT_TEMPLATE,
        label="Prompt",
        help_text="Text with <code>{input}</code>, <code>chat</code> for the base model's chat template, or "
        "<code>auto</code>: as most modules were trained.",
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
    )
    max_new_tokens = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_NEW_TOKENS_LIMIT,
        initial=DEFAULT_MAX_NEW_TOKENS,
        label="Max new tokens",
        error_messages=number_errors("number of tokens", 1, MAX_NEW_TOKENS_LIMIT),
    )
    baselines = forms.ChoiceField(
        choices=[
            ("", "by search effort"),
            *((it.name, f"{it.name}: {it.line}") for it in BASELINES),
        ],
        required=False,
        label="Baselines",
        error_messages=choice_errors("choice"),
    )
    precision = UsualChoiceField(PRECISIONS, usual="auto", label="Precision")
    device = UsualChoiceField(DEVICES, usual="auto", label="Device")

    ADVANCED = (
        "search", "nevergrad", "objective", "budget", "batch_size", "seed", "rank", "template",
        "max_new_tokens", "baselines", "precision", "device",
    )  # fmt: skip
    FIELD_OF_REFUSAL = {"examples": "shots", "held_out": "held_out_text"}

    def __init__(self, *args: Any, owner: User | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner
        self.notes: list[str] = []  # what is not used of the examples
        self.initial.setdefault("form_key", str(uuid.uuid4()))
        if owner is None or owner.is_guest:  # all that a guest may have composed
            self.initial.setdefault("level", GUEST_LEVEL)
        self.bases = selectors.bases_counted()  # the one with most modules first
        offered = cast(forms.ChoiceField, self.fields["base"])
        offered.choices = sorted((base.name, base.name) for base in self.bases)
        if self.bases:
            self.initial.setdefault("base", self.bases[0].name)

    def chosen_base(self) -> BaseModel | None:
        """The base that is chosen, or else the first one; None where the library has none."""
        name = str(self["base"].value() or "")
        return next((base for base in self.bases if base.name == name), next(iter(self.bases), None))

    def clean_rank(self) -> str:
        try:
            return str(read_rank({"rank": self.cleaned_data["rank"].strip() or None}))
        except InvalidJobError as error:
            raise forms.ValidationError(str(error)) from error

    def clean_name(self) -> str:
        return self.cleaned_data["name"] or f"Task of {database_now():%-d %b %Y}"

    def columns(self, group: str) -> Columns:
        """The columns chosen for a text, and for the file below it."""
        given, wanted = (str(self[f"{group}_{part}_column"].value() or "") for part in ("input", "output"))
        return Columns(given, wanted, header=bool(self[f"{group}_header"].value()))

    def read(self, group: str, text: str) -> Reading:
        """A pasted text or a file's, read by the columns chosen for it."""
        return read_pasted(text, self.columns(group), limit=LIMITS[group])

    def read_file(self, group: str) -> Reading:
        """What a chosen file holds, before the form is sent; nothing without a file.

        Raises:
            ExampleLinesError: some rows cannot be used.
            ValidationError: it is no file of examples.
        """
        name = f"{group}_file"
        sent = self.fields[name].clean(self.files.get(name))
        return self.read(group, sent[1]) if sent else Reading(())

    def _examples_of_text(self, group: str) -> list[Example]:
        with problems_as_errors():
            reading = self.read(group, self.cleaned_data[f"{group}_text"])
        self.notes += reading.notes
        return list(reading.examples)

    def _examples_of_file(self, group: str) -> list[Example]:
        sent = self.cleaned_data[f"{group}_file"]
        if sent is None:
            return []
        name, text = sent
        with problems_as_errors():
            reading = self.read(group, text)
        if not reading.examples:
            raise forms.ValidationError(
                f"“{name}” holds no examples. Put one on each line: an input and its output."
            )
        self.notes += [f"In “{name}”: {note}" for note in reading.notes]
        return list(reading.examples)

    def clean_shots_text(self) -> list[Example]:
        return self._examples_of_text("shots")

    def clean_shots_file(self) -> list[Example]:
        return self._examples_of_file("shots")

    def clean_held_out_text(self) -> list[Example]:
        return self._examples_of_text("held_out")

    def clean_held_out_file(self) -> list[Example]:
        return self._examples_of_file("held_out")

    def clean_held_out_from(self) -> list[Example]:
        source = self.cleaned_data["held_out_from"]
        pairs = find_held_out(source, self.owner) if source else []
        if pairs is None:
            raise forms.ValidationError("These held-out examples no longer exist. Give others, or none.")
        return pairs

    def clean(self) -> dict[str, Any]:
        """The arguments of services.composition_request."""
        cleaned = super().clean() or {}
        self._require_shots(cleaned)
        if self.errors:
            return cleaned
        asked = {name: cleaned[name] for name in TAKEN_AS_THEY_ARE}
        asked["search"] = chosen_search(cleaned)
        asked["batch_size"] = cleaned["batch_size"] if asked["method"] == "lorahub" else None
        asked["template"] = cleaned["template"]
        asked["max_new_tokens"] = cleaned["max_new_tokens"] or DEFAULT_MAX_NEW_TOKENS
        asked["budget"] = cleaned["budget"] or level_budget(cleaned["level"], asked["method"])
        asked["baselines"] = cleaned["baselines"] or BASELINES_OF_LEVEL[cleaned["level"]]
        asked["examples"] = cleaned["shots"] + cleaned["shots_text"] + cleaned["shots_file"]
        asked["held_out"] = cleaned["held_out_from"] + cleaned["held_out_text"] + cleaned["held_out_file"]
        asked["notes"] = self.notes
        asked["selection"] = selection_asked(cleaned)
        asked["modules"] = cleaned["modules"] if asked["selection"].startswith("chosen") else []
        if asked["selection"] == "auto":
            asked["level"] = cleaned["level"]
        asked["idempotency_key"] = submission_key(cleaned["form_key"], asked)
        return asked

    def _require_shots(self, cleaned: Mapping[str, Any]) -> None:
        """Say that examples are missing together with whatever else is wrong."""
        if not any(
            cleaned.get(name) or name in self.errors for name in ("shots", "shots_text", "shots_file")
        ):
            self.add_error("shots", NO_EXAMPLES)

    def refuse(self, refusal: Refusal) -> None:
        """Show what a service refused, at the field it names."""
        fields = {self.FIELD_OF_REFUSAL.get(name, name): said for name, said in refusal.fields.items()}
        if not fields.keys() & self.fields.keys():
            self.add_error(None, refusal.message)
        for name, messages in fields.items():
            self.add_error(name if name in self.fields else None, messages)

    def keep_uploads(self) -> None:
        """A browser forgets a file when the form comes back: put what it held into the page."""
        data = self.data.copy()
        if uploaded := self._uploaded("shots"):
            rows = without_last_blanks(self["shots"].value()) + [
                (pair.input, pair.output) for pair in uploaded
            ]
            data.setlist("shots_input", [given for given, _ in rows])
            data.setlist("shots_output", [wanted for _, wanted in rows])
        held_out = self._uploaded("held_out")
        if held_out and "held_out_text" in self.errors:
            self.add_error("held_out_file", "Fix the pasted text above, then choose this file again.")
        elif held_out:  # all in one form: a file's lines after a table's would be read as its rows
            pasted = self.read("held_out", str(self["held_out_text"].value() or "")).examples
            data["held_out_text"] = json_lines([*pasted, *held_out])
            for name in ("held_out_input_column", "held_out_output_column", "held_out_header"):
                data.pop(name, None)
        for group in LIMITS:
            self._keep_text(group, data)
        self.data = data

    def _uploaded(self, group: str) -> tuple[Example, ...]:
        """The examples of a file that was read without an error."""
        text = self._text_of_upload(group)
        return self.read(group, text).examples if text and f"{group}_file" not in self.errors else ()

    def _keep_text(self, group: str, data: MultiValueDict[str, str]) -> None:
        """Put the first lines of a file that could not be read into the box, to choose its columns there."""
        name, text = f"{group}_file", self._text_of_upload(group)
        if name not in self.errors or not text or str(self[f"{group}_text"].value() or "").strip():
            return
        if kept := first_lines(text, LIMITS[group]):
            data[f"{group}_text"] = kept
            self.add_error(name, "Its first lines are now in the box above: fix them there.")

    def _text_of_upload(self, group: str) -> str:
        """The text of an uploaded file; empty if there is none, or it is no text."""
        field, upload = self.fields[f"{group}_file"], self.files.get(f"{group}_file")
        if upload is None:
            return ""
        upload.seek(0)
        try:
            _, text = field.clean(upload)
        except forms.ValidationError:
            return ""
        return str(text)

    def fields_with_some_aside(self) -> dict[str, list[str]]:
        """What a draft keeps, with some of the examples moved to those that measure.

        Rows that cannot be used yet stay in the grid, behind the others. While a text cannot be read, nothing
        is moved: the page says what is wrong with it.
        """
        rows = self.given_rows()
        unusable = [rows[note.row] for note in row_notes(rows) if note.level == "error"]
        try:
            pasted, held_out = (
                self.read(group, str(self[f"{group}_text"].value() or "")).examples for group in LIMITS
            )
        except ExampleLinesError:
            return self.kept_fields()
        shots, aside = split_aside([*valid_pairs(rows), *pasted])
        grid = [(pair.input, pair.output) for pair in shots] + unusable
        fields = {name: values for name, values in self.kept_fields().items() if name not in COLUMN_FIELDS}
        return fields | {
            "shots_input": [given for given, _ in grid],
            "shots_output": [wanted for _, wanted in grid],
            "shots_text": [""],
            "held_out_text": [json_lines([*held_out, *aside])],
        }

    @property
    def own_key(self) -> str:
        """The form's own key, whether or not the rest of it is right."""
        return str(self["form_key"].value() or self.initial["form_key"])

    def advanced(self) -> list[forms.BoundField]:
        return [self[name] for name in self.ADVANCED]

    def is_advanced(self) -> bool:
        """Something under “Advanced” is wrong, or not as it usually is."""
        return any(
            field.errors or str(field.value() or field.field.initial) != str(field.field.initial)
            for field in self.advanced()
        )

    @property
    def selects_by_rule(self) -> bool:
        """The modules are chosen by a rule, or one of its fields is wrong."""
        named = ("screen_count", "random_count", "steps")
        return self["selection"].value() not in ("auto", "chosen") or any(self[it].errors for it in named)

    def given_rows(self) -> list[tuple[str, str]]:
        return [(given, wanted) for given, wanted in self["shots"].value() or ()]

    def rows(self) -> list[tuple[str, str, Note | None]]:
        """The grid as it was sent or as it begins, each row with its note, and empty ones to write in."""
        rows = self.given_rows()
        notes = {note.row: note for note in row_notes(rows)}
        rows += [("", "")] * max(1, ROWS_AT_LEAST - len(rows))
        return [(given, wanted, notes.get(number)) for number, (given, wanted) in enumerate(rows)]

    @classmethod
    def initial_of(cls, fields: Mapping[str, list[str]]) -> dict[str, Any]:
        """What a draft's fields begin a form with; nothing is checked."""
        data = MultiValueDict(fields)
        initial = {
            name: field.widget.value_from_datadict(data, MultiValueDict(), name)
            for name, field in cls.base_fields.items()
        }
        return {name: value for name, value in initial.items() if value is not None}

    def kept_fields(self) -> dict[str, list[str]]:
        """What a draft keeps of what was sent: our own fields as they were typed, and no files."""
        names = {*self.fields, "shots_input", "shots_output"} - {"form_key"}
        return {name: values for name, values in self.data.lists() if name in names}


def first_lines(text: str, n_examples: int) -> str:
    """The lines that hold so many examples and a few more; nothing if they are too long for a text box."""
    lines = text.splitlines(keepends=True)[: n_examples + KEPT_LINES_MORE]
    return "".join(lines) if sum(map(len, lines)) <= KEPT_CHARACTERS else ""


def without_last_blanks(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Only the last ones: a row that is complained about keeps its number."""
    filled = [number for number, row in enumerate(rows, start=1) if "".join(row).strip()]
    return rows[: max(filled, default=0)]


def submission_key(form_key: str, asked: Mapping[str, Any]) -> str | None:
    """One key per form and content: a double click is one composition, another budget another one."""
    if not form_key:
        return None
    digest = hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest()
    return f"{form_key}:{digest[:32]}"
