"""Which base model an adapter is for: by a name that a person gave, by its config, by its card."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from modules_registry.core.adapter_config import (
    BASE_KEY,
    AdapterConfig,
    check_config,
    is_base_name,
    parse_config,
)
from modules_registry.core.adapter_file import WeightsSource
from modules_registry.core.advice import WayIn, advice_on
from modules_registry.core.errors import CARD_FILE, ConfigRefusal, Findings, GateRefusal, Repair
from modules_registry.core.strict_json import quote_value

NO_BASE_NAME = ("base_missing", "base_not_a_name")  # codes of refusals that another name of the base mends
CARD_BASE = "card_base"  # the code of what is said where the card names another base

# What the library calls a base, by any of its names, in any case; None: it has no such base.
LibraryName = Callable[[str], str | None]


def base_name_refusal(way_in: WayIn) -> str:
    """What is said by this way in where nothing names a base."""
    return f"base_model_name_or_path names no model on the Hub. {advice_on('no_base_name', way_in)}"


def with_advice(refusal: GateRefusal, way_in: WayIn) -> GateRefusal:
    """The same refusal, with what can be done by this way in where nothing names a base."""
    findings = Findings()
    for part in refusal.parts:
        is_of_base = part.code in NO_BASE_NAME
        findings.add(ConfigRefusal(part.code, base_name_refusal(way_in)) if is_of_base else part)
    return findings.joined()


def read_config_with_base(
    source: WeightsSource,
    library_name: LibraryName,
    *,
    way_in: WayIn,
    asked: str = "",
    card_bases: Sequence[str] = (),
) -> AdapterConfig:
    """Read and check adapter_config.json, and name its base as the library does.

    A revision goes where it was that of another repository.

    Args:
        way_in: for what a person can do there about a base without a name.
        asked: the base's name as a person gave it beside the files; it counts first.
        card_bases: the names in the card, for a config that names none.

    Raises:
        ConfigRefusal: the config is not accepted, or nothing names a base.
    """
    raw, repairs = parse_config(source), list[Repair]()
    given = raw.get(BASE_KEY)
    chosen = choose_base(given, asked=asked, card_bases=card_bases)
    if chosen != given:
        by = "as asked" if asked else f"as {CARD_FILE} says"
        was = f"was {quote_value(given)}" if given else "was missing"
        repairs.append(Repair("base", f"Set the base model to {chosen}, {by}; it {was}."))
        raw |= {BASE_KEY: chosen, "revision": None}
    try:
        config = check_config(raw)
    except GateRefusal as refusal:
        if not set(NO_BASE_NAME) & set(refusal.codes):
            raise
        raise with_advice(refusal, way_in) from refusal
    name = library_name(config.base)
    if name is not None and name != config.base:
        repairs.append(base_name_repair(config.base, name))
        revision = config.revision if is_same_name(name, config.base) else None
        config = replace(config, base=name, revision=revision)
    return replace(config, repairs=(*repairs, *config.repairs))


def choose_base(given: object, *, asked: str, card_bases: Sequence[str]) -> object:
    """The name that counts: the one asked for, else the config's if it can be a name, else the card's."""
    if asked:
        return asked
    is_named = isinstance(given, str) and is_base_name(given)
    return given if is_named or not card_bases else card_bases[0]


def is_same_name(name: str, other: str) -> bool:
    """Whether they are one repository of a Hub, which keeps no two names that differ in case alone."""
    return name.lower() == other.lower()


def base_name_repair(name: str, library_name: str) -> Repair:
    sentence = f"Set the base model to {library_name}, as this library calls it; it was {name}."
    return Repair("base", sentence)


def card_base_repairs(card_bases: Sequence[str], base: str, library_name: LibraryName) -> tuple[Repair, ...]:
    """Say that the card names another base than the one that the adapter is taken for."""
    names = [library_name(name) or name for name in card_bases]
    if not names or any(is_same_name(name, base) for name in names):
        return ()
    sentence = (
        f"{CARD_FILE} names {card_bases[0]} as the base model, but the adapter was taken as one for {base}. "
        "If these are two models, correct the wrong name."
    )
    return (Repair(CARD_BASE, sentence),)
