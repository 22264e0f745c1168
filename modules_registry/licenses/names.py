"""The licences a module can be published under: the Hub's identifiers, with the names people know."""

LICENSES = {
    "apache-2.0": "Apache 2.0",
    "mit": "MIT",
    "bsd-2-clause": "BSD 2-Clause",
    "bsd-3-clause": "BSD 3-Clause",
    "cc0-1.0": "CC0 1.0 (public domain)",
    "cc-by-4.0": "CC BY 4.0 (attribution)",
    "cc-by-sa-4.0": "CC BY-SA 4.0 (attribution, share alike)",
    "cc-by-nc-4.0": "CC BY-NC 4.0 (attribution, non-commercial)",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0 (non-commercial, share alike)",
    "cc-by-nd-4.0": "CC BY-ND 4.0 (attribution, no derivatives)",
    "gpl-3.0": "GPL 3.0",
    "lgpl-3.0": "LGPL 3.0",
    "agpl-3.0": "AGPL 3.0",
    "mpl-2.0": "MPL 2.0",
    "openrail": "OpenRAIL",
    "bigscience-openrail-m": "BigScience OpenRAIL-M",
    "llama2": "Llama 2 Community",
    "llama3": "Llama 3 Community",
    "gemma": "Gemma",
    "unlicense": "The Unlicense",
    "other": "Another licence (say which in the card)",
    "unknown": "Unknown",
}


def license_label(licence: str) -> str:
    return LICENSES.get(licence, licence)
