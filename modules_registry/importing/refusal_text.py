"""What became of a repository, in words for whoever asked for it."""

from hub_site.common.errors import Refusal
from modules_registry.core.advice import WayIn, advice_on
from modules_registry.core.base_names import NO_BASE_NAME
from modules_registry.core.errors import CONFIG_FILE, FolderRefusal, GateRefusal
from modules_registry.core.refusal_table import can_be_mended
from modules_registry.importing.models import ImportItem

ANOTHER_PLACE = "Import it for another owner, or rename or delete the one that is here."


def import_refusal_text(refusal: Exception) -> str:
    """A refusal's sentence with something in it that an importing person can do.

    The gate speaks to whoever trained the adapter, and a form to whoever chose its name.
    """
    code = getattr(refusal, "code", "")
    if code in NO_BASE_NAME:
        return f"Its {CONFIG_FILE} names no model on the Hub. {advice_on('no_base_name', WayIn.IMPORT)}"
    if code == "name_taken":
        return f"{str(refusal).partition('. ')[0]}. {ANOTHER_PLACE}"
    of_gate = gate_refusal_of(refusal)
    if of_gate is None or isinstance(of_gate, FolderRefusal):  # these say what to do themselves
        return str(refusal)
    if not any(can_be_mended(code) for code in of_gate.codes):
        return str(refusal)
    return f"{refusal} That is for its author to do: an import changes no more than is certain."


def gate_refusal_of(refusal: BaseException | None) -> GateRefusal | None:
    """What the gate says of the adapter; None if it was not the gate that refused.

    A service says it as a Refusal of its own.
    """
    while refusal is not None and not isinstance(refusal, GateRefusal):
        refusal = refusal.__cause__ if isinstance(refusal, Refusal) else None
    return refusal


def line_of(item: ImportItem, total: int) -> str:
    """One line of a terminal: how far it is, what came of this one, what was repaired."""
    origin = getattr(item.version, "origin", None)
    repairs = [repair["sentence"] for repair in origin.repairs] if origin else []
    words = [f"[{item.position + 1}/{total}] {item.repo_id}: {item.get_state_display()}", item.message]
    if item.state == ImportItem.State.IMPORTED:
        words += repairs
    return " ".join(filter(None, words))
