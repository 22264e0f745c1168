"""The card of a published composition: what it was made of, how, and what was measured."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from composer.core.spec.adapter_size import size_text
from composer.core.spec.counting import count_noun, is_or_are
from composer.core.spec.verdict_labels import quality_level, report_label
from composer.core.spec.verdict_rule import verdict_texts
from composer.matching.selection import NEAR
from composer.matching.templates import composition_template
from composer.models import Composition
from composer.report.exports import credit_text
from composer.report.page import author_rows, command_line, command_options
from modules_registry.core.licenses.combining import CombinedLicense
from modules_registry.core.licenses.names import license_label

CARD_TAGS = ("lora", "composed")


@dataclass(frozen=True)
class ParentOfCard:
    """A module that went in, as it is called now."""

    name: str
    revision: str
    weight: float
    licence: str


@dataclass(frozen=True)
class CopyOfCard:
    """A module that a parent stands for."""

    name: str
    revision: str
    stands_for_it: str
    licence: str


@dataclass(frozen=True)
class PublicationFacts:
    """Everything the card says that is not in the composition itself."""

    report: Mapping[str, Any]  # the core's report.json
    title: str
    sentence: str
    site: str  # where its modules are to be had
    licence: CombinedLicense
    parents: Sequence[ParentOfCard]
    copies: Sequence[CopyOfCard]
    tried: Sequence[str]  # references of all that took part, in the order they were given
    n_hidden: int  # of those that took part, how many the public cannot see any more


def publication_card(composition: Composition, facts: PublicationFacts) -> str:
    """README.md. None of the owner's examples, nor an answer to one, is in it."""
    sections = [
        f"# {facts.title}",
        facts.sentence,
        introduction(composition, facts),
        f"## Verdict: {report_label(facts.report)}",
        *verdict_texts(facts.report["verdict"]),
        size_text(facts.report),
        *comparison_section(facts.report),
        *parents_table(facts),
        *copies_table(facts),
        *credits_section(facts),
        *recipe(composition, facts),
        *license_text(facts),
    ]
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{front_matter(composition, facts)}---\n\n{body}\n"


def front_matter(composition: Composition, facts: PublicationFacts) -> str:
    """The head that Hubs read: `base_model_relation` says that this adapts the base and replaces nothing."""
    head = {
        "base_model": composition.base.name,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": facts.licence.licence,
        "prompt_template": composition_template(composition),
        "tags": list(CARD_TAGS),
        "parents": [
            {"name": parent.name, "revision": parent.revision, "weight": round(parent.weight, 6)}
            for parent in facts.parents
        ],
        "recipe": recipe_facts(facts.report),
    }
    if facts.copies:
        head["copies"] = [
            {"name": copy.name, "revision": copy.revision, "represented_by": copy.stands_for_it}
            for copy in facts.copies
        ]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=110)


def recipe_facts(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": report["method"],
        "search": report["search"],
        "optimizer": report["optimizer"],
        "budget": report["budget"],
        "seed": report["seed"],
        "examples": report["n_shots"],
        "held_out_examples": report["n_held_out"],
        "few_shot_loss_nats": report["few_shot_loss_nats"],
        "verdict": report["verdict"]["decision"],
        **({"quality": level} if (level := quality_level(report)) else {}),
    }


def introduction(composition: Composition, facts: PublicationFacts) -> str:
    modules = count_noun(len(facts.parents), "module")
    examples = count_noun(facts.report["n_shots"], "example")
    return (
        f"A LoRA adapter for `{composition.base.name}`, composed of {modules} by the method "
        f"`{facts.report['method']}` from {examples}. "
        "Only the weights of the modules were fitted; none of them was trained further."
    )


def comparison_section(report: Mapping[str, Any]) -> Iterator[str]:
    """The comparison, best first, with how many examples it rests on."""
    rows = report["baselines"]
    if not report["n_held_out"]:
        yield (
            "No example was held out, so how often it is right was not measured. Its loss on the "
            f"{count_noun(report['n_shots'], 'example')} it was made from is "
            f"{report['few_shot_loss_nats']:.3f} nats per token."
        )
        return
    yield f"## Measured on {count_noun(report['n_held_out'], 'held-out example')}"
    yield table(
        ("method", "exact match, %", "95 % interval", "few-shot loss, nats per token"),
        [
            (
                row["label"],
                figure(row["held_out_exact_match_percent"], 1),
                interval(row["interval_percent"]),
                figure(row["few_shot_loss_nats"], 3),
            )
            for row in sorted(rows, key=lambda row: -(row["held_out_exact_match_percent"] or 0))
        ],
    )


def parents_table(facts: PublicationFacts) -> Iterator[str]:
    yield "## Parents and weights"
    yield table(
        ("module", "revision", "weight", "licence"),
        [
            (
                parent.name,
                parent.revision[:12],
                f"{parent.weight:+.4f}",
                license_label(parent.licence) or "none given",
            )
            for parent in facts.parents
        ],
    )


def copies_table(facts: PublicationFacts) -> Iterator[str]:
    """The authors of copies, who are credited though another module stands for theirs."""
    if not facts.copies:
        return
    yield "## Copies of parents"
    yield "These modules are copies of a parent, or act like one on the examples, so they took part once."
    yield table(
        ("module", "revision", "represented by", "licence"),
        [
            (copy.name, copy.revision[:12], copy.stands_for_it, license_label(copy.licence) or "none given")
            for copy in facts.copies
        ],
    )


def credits_section(facts: PublicationFacts) -> Iterator[str]:
    """The authors of the parents and of their copies."""
    names = [parent.name for parent in facts.parents] + [copy.name for copy in facts.copies]
    authors = author_rows(names)
    if authors:
        yield "## Credits"
        yield f"The modules in it are by {credit_text(authors)}."


def recipe(composition: Composition, facts: PublicationFacts) -> Iterator[str]:
    """How to make it again: the command, and by which sums to know the examples."""
    yield "## Recipe"
    yield code_fence(command(composition, facts), "sh")
    sums = facts.report["inputs_sha256"]
    known_by = ", ".join(
        f"`{name}` {sums[name]}" for name in ("examples.jsonl", "held_out.jsonl") if name in sums
    )
    yield (
        "The examples are their owner's and are not published. Their sha256 tells whether others are the "
        f"same: {known_by}."
    )
    if facts.n_hidden:
        yield (
            f"{count_noun(facts.n_hidden, 'module')} of those that were tried {is_or_are(facts.n_hidden)} "
            "no longer public and left out of the command; without them the result may differ."
        )


def command(composition: Composition, facts: PublicationFacts) -> str:
    """As on the report page, without the owner's words for the task, unless the choice goes by them."""
    options = command_options(composition)
    needs_words = NEAR in options["select"]
    options |= {
        "modules": list(facts.tried),
        "task": composition.sentence if needs_words else None,
        "out": "adapter",
    }
    return command_line(facts.site, options, threads=facts.report["versions"].get("threads"))


def license_text(facts: PublicationFacts) -> Iterator[str]:
    known = license_label(facts.licence.strictest_known)
    yield "## License"
    if not facts.licence.unread:
        yield f"{known}: the strictest of the parents' licenses."
        return
    yield (
        "The terms of some parents are not known here or are their own; the table above names each. Its "
        "publisher confirms that they allow this; read them before you use it."
    )
    if known:
        yield f"Of those that are known, {known} is the strictest, and its terms apply here too."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its figures to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell(text) for text in line)} |" for line in lines)


def cell(text: str) -> str:
    """Text that stays inside one cell."""
    return " ".join(text.split()).replace("|", "\\|")


def figure(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:.0f}–{bounds[1]:.0f}" if bounds else "–"


def code_fence(code: str, language: str) -> str:
    """A code block that nothing inside it can close."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
