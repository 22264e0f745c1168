"""What the pages ask for. Whether it may be done is the services' question."""

from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.text import Truncator

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.common.errors import Refusal
from hub_site.common.json_bodies import JsonBodyError, read_json
from modules_registry.catalog import CHOICES_MAX, MATCHES, Q_LENGTH_MAX, SORTS, ModuleFilters
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE
from modules_registry.core.licenses.names import LICENSES
from modules_registry.core.prompt_template import LENGTH_MAX
from modules_registry.core.weight_formats import SAMPLE_BYTES, SAMPLES_MAX
from modules_registry.facets import BY_NAME, FACETS
from modules_registry.fitting import RULES
from modules_registry.models import Module

BASE_NAME_LENGTH_MAX = 2 * NAME_LENGTH_MAX + 1  # “owner/name”
PATHS_MAX = 2000  # files of one folder
# Filters of few values, and these.
CLOSED: dict[str, Iterable[str]] = {"match": MATCHES, "fits_by": RULES, "sort": SORTS}
FILTERS = {"q", "fits", "cursor", *CLOSED, *BY_NAME}  # what the address of the library may have
CAMPAIGN = "utm_"  # how names begin that others add to links
QUOTED_MAX = 60  # characters of what was left out of an address
SAID_MAX = 5  # sentences about it


class TagsFormField(forms.CharField):
    """Several words in one line, separated by commas."""

    def clean(self, value: Any) -> list[str]:
        return [tag.strip() for tag in super().clean(value).split(",") if tag.strip()]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value


class PromptTemplateFormField(forms.CharField):
    """A template as it is typed: a line break at its end counts."""

    def __init__(self, *, help_text: str) -> None:
        super().__init__(
            label="Prompt template",
            required=False,
            strip=False,
            max_length=LENGTH_MAX,
            help_text=help_text,
            widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
        )

    def clean(self, value: Any) -> str:
        text = str(super().clean(value)).replace("\r\n", "\n")
        return text if text.strip() else ""


def file_field(file: str, help_text: str, *, accept: str = "", required: bool = True) -> forms.FileField:
    accept = accept or f".{file.rpartition('.')[2]}"
    return forms.FileField(
        label=file,
        help_text=help_text,
        required=required,
        widget=forms.FileInput(attrs={"accept": accept}),
        error_messages={
            "required": f"Choose the {file} that peft wrote.",
            "empty": f"This {file} is empty. Choose the file that peft wrote.",
        },
    )


class SentJsonField(forms.JSONField):
    """JSON that a page's script sends in a form, read as a body of the API is."""

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        try:
            return read_json(str(value).encode("utf-8", "surrogatepass"), is_stored=False)
        except JsonBodyError as error:
            raise forms.ValidationError(str(error)) from error


class PathsFormField(SentJsonField):
    """The paths of the folder that the files come from, as the page's script sends them."""

    def __init__(self) -> None:
        super().__init__(required=False, widget=forms.HiddenInput)

    def clean(self, value: Any) -> list[str]:
        paths = super().clean(value) or []
        if not isinstance(paths, list) or len(paths) > PATHS_MAX:
            raise forms.ValidationError(f"Choose a folder with at most {PATHS_MAX:,} files.")
        return [path for path in paths if isinstance(path, str)]


class SamplesFormField(SentJsonField):
    """By path, how files begin, in base64. What cannot be read is none."""

    def __init__(self) -> None:
        super().__init__(required=False)

    def clean(self, value: Any) -> dict[str, bytes]:
        sent, samples = super().clean(value), {}
        for path, text in list(sent.items())[:SAMPLES_MAX] if isinstance(sent, dict) else ():
            with suppress(ValueError, TypeError):
                samples[path] = b64decode(text)[:SAMPLE_BYTES]
        return samples


class FilesForm(forms.Form):
    """The files of a version."""

    config_file = file_field(CONFIG_FILE, "Rank, alpha, layers and base model, as peft wrote them.")
    weights_file = file_field(
        WEIGHTS_FILE,
        f"The LoRA weights. An older {LEGACY_FILE} is converted to safetensors.",
        accept=".safetensors,.bin",
    )
    card_file = file_field(CARD_FILE, "The card: Markdown, shown on the module's page.", required=False)
    paths = PathsFormField()
    prompt_template = PromptTemplateFormField(
        help_text="The prompt it was trained with: text with <code>{input}</code>, or <code>chat</code>. "
        "Defaults to what the card or adapter_config.json state.",
    )
    base = forms.CharField(
        label="Base model",
        required=False,
        max_length=BASE_NAME_LENGTH_MAX,
        help_text="The model's name on the Hub, if adapter_config.json names a local folder.",
        widget=forms.TextInput(attrs={"list": "bases", "autocomplete": "off", "spellcheck": "false"}),
    )


class DescriptionForm(forms.Form):
    """What is said about a module."""

    sentence = forms.CharField(
        label="What it was trained for",
        max_length=300,
        help_text="One sentence, such as “Translates single English words into French”.",
        error_messages={"required": "Say in one sentence what it was trained for."},
    )
    tags = TagsFormField(
        required=False,
        help_text="Separated by commas: translation, french.",
    )
    licence = forms.ChoiceField(
        label="License",
        choices=[("", "Choose one"), *LICENSES.items()],
        error_messages={"required": "Choose a license."},
    )


class PrivateField(forms.BooleanField):
    """Who may see a module."""

    def __init__(self) -> None:
        super().__init__(
            label="Private",
            required=False,
            help_text="Only its owner, or the owner's organization, sees it.",
        )


class OwnerForm(forms.Form):
    """Whose it will be: the user's own, or an organization's."""

    namespace = forms.ChoiceField(label="Owner")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.namespaces = {namespace.name: namespace for namespace in namespaces_writable_by(user)}
        self.fields["namespace"].choices = [(name, name) for name in self.namespaces]  # type: ignore[attr-defined]
        if len(self.namespaces) == 1:
            self.fields["namespace"].widget = forms.HiddenInput()
            self.fields["namespace"].initial = next(iter(self.namespaces))

    def clean_namespace(self) -> Any:
        return self.namespaces[self.cleaned_data["namespace"]]


class ModuleForm(DescriptionForm, FilesForm, OwnerForm):
    """Everything a new module needs."""

    private = PrivateField()
    name = forms.CharField(
        max_length=NAME_LENGTH_MAX,
        help_text="Letters, digits, “.”, “-” and “_”. It is part of the address.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class VersionForm(FilesForm):
    """New files for a module that exists."""

    message = forms.CharField(
        required=False,
        max_length=200,
        label="What changed",
        help_text="One line for the history. Defaults to “Version 2”, and so on.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["card_file"].help_text = "Without one, the card stays as it is."


class UploadCheckForm(forms.Form):
    """What the page's script sends before the files: their beginnings."""

    paths = PathsFormField()
    samples = SamplesFormField()
    folder = forms.CharField(required=False, max_length=300)
    namespace = forms.CharField(required=False, max_length=NAME_LENGTH_MAX)
    name = forms.CharField(required=False)
    base = forms.CharField(required=False)
    licence = forms.CharField(required=False)
    config_file = forms.FileField(required=False, allow_empty_file=True)
    beginning = forms.FileField(required=False, allow_empty_file=True)
    weights_size = forms.IntegerField(required=False, min_value=0)
    card_file = forms.FileField(required=False, allow_empty_file=True)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_namespace(self) -> Any:
        return namespaces_writable_by(self.user).filter(name=self.cleaned_data["namespace"]).first()

    def clean_weights_size(self) -> int:
        return self.cleaned_data["weights_size"] or 0


class EditForm(DescriptionForm):
    private = PrivateField()
    prompt_template = PromptTemplateFormField(
        help_text="The prompt it was trained with: text with <code>{input}</code>, "
        "or <code>chat</code> for the base model's chat template.",
    )
    card = forms.CharField(
        required=False,
        strip=False,
        help_text="Markdown with tables, task lists, <code>&lt;details&gt;</code>, footnotes and formulas in "
        "<code>$…$</code>. Lists show the example of a table with the columns input and output.",
        widget=forms.Textarea(attrs={"rows": 24, "class": "mono", "spellcheck": "true"}),
    )


class DeleteForm(forms.Form):
    name = forms.CharField(
        label="The module's name",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, module: Module, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.module = module
        self.fields["name"].help_text = f"Type {module.full_name} to confirm."

    def clean_name(self) -> str:
        if self.cleaned_data["name"] != self.module.full_name:
            raise forms.ValidationError(f"This is not {self.module.full_name}. Nothing was deleted.")
        return self.module.full_name


class MoveForm(forms.Form):
    namespace = forms.ChoiceField(label="Owner", help_text="You, or an organization in which you may write.")
    name = forms.CharField(max_length=NAME_LENGTH_MAX, label="Name")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.namespaces = {namespace.name: namespace for namespace in namespaces_writable_by(user)}
        field = self.fields["namespace"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(name, name) for name in self.namespaces]

    def clean_namespace(self) -> Namespace:
        return self.namespaces[self.cleaned_data["namespace"]]


def add_refusal(form: forms.Form, refusal: Refusal) -> None:
    """Say a service's refusal at the fields that it is about."""
    known = {field: messages for field, messages in refusal.fields.items() if field in form.fields}
    for field, messages in known.items():
        form.add_error(field, messages)
    if not known:
        form.add_error(None, refusal.message)


def filters_from(query: QueryDict) -> ModuleFilters:
    """Read a search from an address. What makes no sense there is left out, as a link may be old.

    `filters_left_out` says what.
    """
    asked: dict[str, Any] = {}
    for kind in FACETS:
        values = [plain(value) for value in query.getlist(kind.name)[:CHOICES_MAX]]
        named = tuple(dict.fromkeys(kind.read(value) for value in values if value))
        asked[kind.key] = named if kind.is_many else (named or ("",))[-1]
    return ModuleFilters(
        q=plain(query.get("q", ""))[:Q_LENGTH_MAX],
        match=query.get("match", "") if query.get("match") in MATCHES else "",
        fits=plain(query.get("fits", ""))[:200],
        fits_by=query.get("fits_by", "") if query.get("fits_by") in RULES else "",
        sort=query.get("sort", "") if query.get("sort") in SORTS else "",
        **asked,
    )


def filters_left_out(query: QueryDict) -> list[str]:
    """What `filters_from` leaves out of an address, in sentences."""
    said = (
        said_of_filter(name, list(filter(None, map(plain, query.getlist(name)))))
        for name in query
        if not name.startswith(CAMPAIGN)
    )
    return list(filter(None, said))[:SAID_MAX]


def said_of_filter(name: str, values: list[str]) -> str:
    """What is left out of one filter of an address; empty: nothing."""
    if name not in FILTERS:
        return f"“{Truncator(name).chars(QUOTED_MAX)}” is no filter of the library. It was left out."
    if not values:
        return ""
    last = Truncator(values[-1]).chars(QUOTED_MAX)
    if values[-1] not in CLOSED.get(name, values):
        return f"“{last}” is no value of “{name}” ({', '.join(CLOSED[name])}). It was left out."
    is_many = name in BY_NAME and BY_NAME[name].is_many
    if is_many and len(values) > CHOICES_MAX:
        return f"“{name}” takes {CHOICES_MAX} values. The others were left out."
    if not is_many and len(values) > 1:
        return f"“{name}” takes one value. The last one, “{last}”, is used."
    return ""


def plain(text: str | None) -> str:
    return (text or "").replace("\x00", "").strip()


def initial_description(
    module: Module, tags: Iterable[str], card: str, prompt_template: str
) -> dict[str, Any]:
    return {
        "prompt_template": prompt_template,
        "sentence": module.sentence,
        "licence": module.licence,
        "tags": list(tags),
        "private": module.private,
        "card": card,
    }
