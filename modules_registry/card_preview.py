"""What the pages would show of a card that is still being written."""

from dataclasses import dataclass

from modules_registry.card_facts import Sample, sample_in
from modules_registry.core.cards import read_any_card
from modules_registry.core.errors import Repair
from modules_registry.rendering import ShownCard, shown_card


@dataclass(frozen=True)
class CardPreview:
    shown: ShownCard
    sample: Sample | None  # as lists show it
    repairs: tuple[Repair, ...]  # what of the card would not be read


def card_preview(text: str, *, is_stored: bool = False) -> CardPreview:
    """Read and render a card that was typed.

    Args:
        text: browsers end its lines with \\r\\n.
        is_stored: it is a module's card as it stands.
    """
    read = read_any_card(text.replace("\r\n", "\n").encode("utf-8", "replace"))
    return CardPreview(shown_card(read.card.body, is_kept=is_stored), sample_in(read.card), read.repairs)
