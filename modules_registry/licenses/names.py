"""The licences a module can be published under: the Hub's identifiers, with the names people know.

Source of the identifiers: huggingface.co/docs/hub/repositories-licenses. What they allow: combining.py.
"""

LICENSES = {
    "apache-2.0": "Apache 2.0",
    "mit": "MIT",
    "bsd": "BSD",
    "bsd-2-clause": "BSD 2-Clause",
    "bsd-3-clause": "BSD 3-Clause",
    "bsd-3-clause-clear": "BSD 3-Clause Clear",
    "cc0-1.0": "CC0 1.0 (public domain)",
    "cc": "Creative Commons (say which in the card)",
    "cc-by-2.0": "CC BY 2.0 (attribution)",
    "cc-by-2.5": "CC BY 2.5 (attribution)",
    "cc-by-3.0": "CC BY 3.0 (attribution)",
    "cc-by-4.0": "CC BY 4.0 (attribution)",
    "cc-by-sa-3.0": "CC BY-SA 3.0 (attribution, share alike)",
    "cc-by-sa-4.0": "CC BY-SA 4.0 (attribution, share alike)",
    "cc-by-nc-2.0": "CC BY-NC 2.0 (attribution, non-commercial)",
    "cc-by-nc-3.0": "CC BY-NC 3.0 (attribution, non-commercial)",
    "cc-by-nc-4.0": "CC BY-NC 4.0 (attribution, non-commercial)",
    "cc-by-nc-sa-2.0": "CC BY-NC-SA 2.0 (non-commercial, share alike)",
    "cc-by-nc-sa-3.0": "CC BY-NC-SA 3.0 (non-commercial, share alike)",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0 (non-commercial, share alike)",
    "cc-by-nd-4.0": "CC BY-ND 4.0 (attribution, no derivatives)",
    "cc-by-nc-nd-3.0": "CC BY-NC-ND 3.0 (non-commercial, no derivatives)",
    "cc-by-nc-nd-4.0": "CC BY-NC-ND 4.0 (non-commercial, no derivatives)",
    "gpl": "GPL",
    "gpl-2.0": "GPL 2.0",
    "gpl-3.0": "GPL 3.0",
    "lgpl": "LGPL",
    "lgpl-2.1": "LGPL 2.1",
    "lgpl-3.0": "LGPL 3.0",
    "lgpl-lr": "LGPL for Linguistic Resources",
    "agpl-3.0": "AGPL 3.0",
    "mpl-2.0": "MPL 2.0",
    "epl-1.0": "Eclipse 1.0",
    "epl-2.0": "Eclipse 2.0",
    "eupl-1.1": "EUPL 1.1",
    "eupl-1.2": "EUPL 1.2",
    "osl-3.0": "Open Software License 3.0",
    "ms-pl": "Microsoft Public License",
    "afl-3.0": "Academic Free License 3.0",
    "artistic-2.0": "Artistic 2.0",
    "bsl-1.0": "Boost 1.0",
    "ecl-2.0": "Educational Community 2.0",
    "etalab-2.0": "Etalab 2.0",
    "gfdl": "GNU Free Documentation License",
    "isc": "ISC",
    "lppl-1.3c": "LaTeX Project 1.3c",
    "ncsa": "NCSA",
    "ofl-1.1": "Open Font License 1.1",
    "postgresql": "PostgreSQL",
    "wtfpl": "WTFPL",
    "zlib": "zlib",
    "unlicense": "The Unlicense",
    "pddl": "PDDL (public domain)",
    "odc-by": "ODC-By (attribution)",
    "odbl": "ODbL (share alike)",
    "cdla-permissive-1.0": "CDLA Permissive 1.0",
    "cdla-permissive-2.0": "CDLA Permissive 2.0",
    "cdla-sharing-1.0": "CDLA Sharing 1.0",
    "c-uda": "C-UDA",
    "openmdw-1.0": "OpenMDW 1.0",
    "openrail": "OpenRAIL",
    "openrail++": "OpenRAIL++",
    "bigscience-openrail-m": "BigScience OpenRAIL-M",
    "bigscience-bloom-rail-1.0": "BigScience BLOOM RAIL 1.0",
    "bigcode-openrail-m": "BigCode OpenRAIL-M",
    "creativeml-openrail-m": "CreativeML OpenRAIL-M",
    "llama2": "Llama 2 Community",
    "llama3": "Llama 3 Community",
    "llama3.1": "Llama 3.1 Community",
    "llama3.2": "Llama 3.2 Community",
    "llama3.3": "Llama 3.3 Community",
    "llama4": "Llama 4 Community",
    "gemma": "Gemma",
    "grok2-community": "Grok 2 Community",
    "apple-ascl": "Apple Sample Code",
    "apple-amlr": "Apple Machine Learning Research",
    "deepfloyd-if-license": "DeepFloyd IF",
    "fair-noncommercial-research-license": "FAIR Noncommercial Research",
    "h-research": "H Research",
    "intel-research": "Intel Research",
    "other": "Another licence (say which in the card)",
    "unknown": "Unknown",
}


def license_label(licence: str) -> str:
    return LICENSES.get(licence, licence)


def license_named(value: object) -> str:
    """The licence that a card names, as a text or a list of one; empty if it names none.

    Several, or one that the Hub has no identifier for, are “other”.
    """
    named = value if isinstance(value, list) else [value]
    names = [name.strip().lower() for name in named if isinstance(name, str) and name.strip()]
    if not names:
        return ""
    return names[0] if len(names) == 1 and names[0] in LICENSES else "other"
