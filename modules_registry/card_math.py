"""The formulas of a card: TeX made into MathML, with no tag or attribute but those that are known here."""

from html import escape
from xml.etree import ElementTree

from latex2mathml import converter, exceptions

TEX_CHARACTERS_MAX = 2000  # of one formula; a longer one is shown as it was typed
NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
TAGS = frozenset({
    *("math", "mfrac", "mi", "mn", "mo", "mover", "mpadded", "mphantom", "mroot", "mrow", "mspace", "msqrt"),
    *("mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover"),
})  # fmt: skip
ATTRIBUTES = frozenset({
    *("accent", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence"),
    *("form", "height", "linethickness", "lspace", "mathsize", "mathvariant", "maxsize", "minsize"),
    *("movablelimits", "rowlines", "rowspacing", "rspace", "scriptlevel", "separator", "stretchy"),
    *("symmetric", "voffset", "width"),
})  # fmt: skip
REFUSALS: tuple[type[Exception], ...] = tuple(
    error for error in vars(exceptions).values() if isinstance(error, type) and issubclass(error, Exception)
)
NOT_CONVERTED: tuple[type[Exception], ...] = (
    *REFUSALS,
    ElementTree.ParseError,
    RecursionError,
    LookupError,
    TypeError,
    ValueError,
)


def formula_html(tex: str, *, is_block: bool) -> str:
    """A formula as MathML; as code where it is none that can be shown.

    Args:
        is_block: it stands on lines of its own.
    """
    shown = mathml(tex, is_block=is_block)
    if shown is not None:
        return shown
    code = f"<code>{escape(tex)}</code>"
    return f"<pre>{code}</pre>" if is_block else code


def mathml(tex: str, *, is_block: bool) -> str | None:
    """MathML of TeX; None if it is too long, faulty, or uses what is not known here."""
    if len(tex) > TEX_CHARACTERS_MAX:
        return None
    try:
        text = converter.convert(tex, display="block" if is_block else "inline")
        root = ElementTree.fromstring(text)  # refuses what the converter did not escape
    except NOT_CONVERTED:
        return None
    return written(root) if {tag_of(element) for element in root.iter()} <= TAGS else None


def written(element: ElementTree.Element) -> str:
    """The element as HTML; attributes that are not known here are left out."""
    tag = tag_of(element)
    attributes = "".join(
        f' {name}="{escape(value)}"' for name, value in element.attrib.items() if name in ATTRIBUTES
    )
    inside = escape(element.text or "")
    inside += "".join(written(child) + escape(child.tail or "") for child in element)
    return f"<{tag}{attributes}>{inside}</{tag}>"


def tag_of(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(NAMESPACE)
