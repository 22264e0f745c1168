"""Made-up data for the style guide: one honest-looking example of everything a component can show."""

import re
from typing import Any

from django import forms
from django.conf import settings
from django.core.paginator import Paginator

from composer.core.spec.stages import STAGES

PALETTE = {
    "Paper": ["paper", "sheet", "sunk", "grid", "line", "line-strong"],
    "Ink": ["ink", "ink-quiet"],
    "Accent": ["accent", "accent-strong", "accent-wash"],
    "States": ["success", "success-wash", "warning", "warning-wash", "danger", "danger-wash", "focus"],
    "Series": ["series-ours", "series-reference", "series-baseline", *(f"series-{n}" for n in range(1, 8))],
}

ICON_SPRITE = settings.BASE_DIR / "static/vendor/lucide/icons.svg"


class SpecimenForm(forms.Form):
    name = forms.CharField(help_text="Letters, digits, dots and dashes.")
    base = forms.ChoiceField(choices=[("t5", "demo/tiny-t5"), ("large", "google/flan-t5-large")])
    budget = forms.IntegerField(help_text="How many weight vectors the search may try.", max_value=200)
    note = forms.CharField(widget=forms.Textarea, required=False)
    modules = forms.ChoiceField(
        widget=forms.RadioSelect, choices=[("all", "Choose for me"), ("hand", "Let me choose")], initial="all"
    )
    weights = forms.FileField(required=False, label="adapter_model.safetensors")
    public = forms.BooleanField(required=False, label="Everyone may see it")


COMPARISON = [
    {"label": "composition", "kind": "ours", "percent": 71.0, "low": 62.0, "high": 79.0},
    {"label": "best single", "kind": "baseline", "percent": 34.0, "low": 25.0, "high": 44.0},
    {"label": "LoraHub", "kind": "reference", "percent": 18.0, "low": 12.0, "high": 27.0},
    {"label": "even mix", "kind": "baseline", "percent": 3.0, "low": 1.0, "high": 9.0},
    {"label": "base alone", "kind": "baseline", "percent": 0.0, "low": 0.0, "high": 4.0},
]

WEIGHTS_ZERO = 20.0  # where weight 0 lies on the track, in percent of its width
WEIGHTS = [
    {"label": "demo/upper", "href": "#figures", "weight": 1.04, "start": 20.0, "width": 76.0},
    {"label": "demo/fruit", "href": "#figures", "weight": 0.91, "start": 20.0, "width": 66.5},
    {"label": "demo/star", "href": "#figures", "weight": -0.18, "start": 6.9, "width": 13.1},
    {"label": "demo/french", "href": "#figures", "weight": 0.0, "start": 20.0, "width": 0.0},
]


def refused_form() -> SpecimenForm:
    form = SpecimenForm({"name": "", "base": "t5", "budget": 4000, "modules": "all"}, auto_id="bad_%s")
    form.is_valid()
    return form


def icons() -> list[str]:
    return re.findall(r'<symbol id="([^"]+)"', ICON_SPRITE.read_text())


def styleguide_context() -> dict[str, Any]:
    return {
        "palette": PALETTE,
        "icons": icons(),
        "form": SpecimenForm(),
        "refused": refused_form(),
        "comparison": COMPARISON,
        "weights": WEIGHTS,
        "weights_zero": WEIGHTS_ZERO,
        "page": Paginator(range(400), 20).page(4),
        "steps": [
            {"label": stage.label, "state": state}
            for stage, state in zip(STAGES, ("done", "done", "current", *["waiting"] * 3), strict=True)
        ],
        "command": "python -m composer compose job/",
    }
