"""Languages as cards name them: by code (ISO 639) or by their English name."""

from collections.abc import Iterable

LANGUAGES = {
    **{"en": "English", "fr": "French", "es": "Spanish", "de": "German", "it": "Italian"},
    **{"pt": "Portuguese", "nl": "Dutch", "ru": "Russian", "uk": "Ukrainian", "pl": "Polish"},
    **{"cs": "Czech", "sk": "Slovak", "sl": "Slovenian", "hr": "Croatian", "sr": "Serbian"},
    **{"bg": "Bulgarian", "ro": "Romanian", "hu": "Hungarian", "el": "Greek", "tr": "Turkish"},
    **{"sv": "Swedish", "da": "Danish", "no": "Norwegian", "fi": "Finnish", "et": "Estonian"},
    **{"lv": "Latvian", "lt": "Lithuanian", "is": "Icelandic", "ga": "Irish", "cy": "Welsh"},
    **{"ca": "Catalan", "eu": "Basque", "gl": "Galician", "la": "Latin", "ar": "Arabic"},
    **{"he": "Hebrew", "fa": "Persian", "ur": "Urdu", "hi": "Hindi", "bn": "Bengali"},
    **{"pa": "Punjabi", "ta": "Tamil", "te": "Telugu", "ml": "Malayalam", "mr": "Marathi"},
    **{"gu": "Gujarati", "kn": "Kannada", "ne": "Nepali", "si": "Sinhala", "th": "Thai"},
    **{"vi": "Vietnamese", "id": "Indonesian", "ms": "Malay", "tl": "Tagalog", "zh": "Chinese"},
    **{"ja": "Japanese", "ko": "Korean", "mn": "Mongolian", "ka": "Georgian", "hy": "Armenian"},
    **{"az": "Azerbaijani", "kk": "Kazakh", "uz": "Uzbek", "sw": "Swahili", "am": "Amharic"},
    **{"ha": "Hausa", "yo": "Yoruba", "ig": "Igbo", "zu": "Zulu", "xh": "Xhosa", "af": "Afrikaans"},
    **{"so": "Somali", "multilingual": "Several languages", "code": "Program code"},
}
OWN_NAMES = {  # what their speakers call them
    **{"fr": "français", "es": "español castellano", "de": "Deutsch", "it": "italiano"},
    **{"pt": "português", "nl": "Nederlands", "ru": "русский", "uk": "українська", "pl": "polski"},
    **{"cs": "čeština", "sk": "slovenčina", "sl": "slovenščina", "hr": "hrvatski", "sr": "srpski српски"},
    **{"bg": "български", "ro": "română", "hu": "magyar", "el": "ελληνικά", "tr": "Türkçe"},
    **{"sv": "svenska", "da": "dansk", "no": "norsk", "fi": "suomi", "et": "eesti"},
    **{"lv": "latviešu", "lt": "lietuvių", "is": "íslenska", "ga": "Gaeilge", "cy": "Cymraeg"},
    **{"ca": "català", "eu": "euskara", "gl": "galego", "la": "Latina", "ar": "العربية"},
    **{"he": "עברית", "fa": "فارسی", "ur": "اردو", "hi": "हिन्दी", "bn": "বাংলা", "th": "ไทย"},
    **{"vi": "tiếng Việt", "id": "bahasa Indonesia", "ms": "bahasa Melayu", "zh": "中文", "ja": "日本語"},
    **{"ko": "한국어", "ka": "ქართული", "hy": "հայերեն", "sw": "Kiswahili", "af": "Afrikaans"},
}
CODES = {name.casefold(): code for code, name in LANGUAGES.items()}


def language_code(said: str) -> str:
    """The code of a language by its code or a name of it; of anything else what was said."""
    return next(iter(language_codes(said)), said)


def language_codes(said: object, tags: Iterable[str] = ()) -> list[str]:
    """The codes of the languages that a card's `language` names, and of tags that are a language's name."""
    texts = said if isinstance(said, list) else [said]
    named = [text.strip().casefold() for text in texts if isinstance(text, str)]
    codes = [CODES.get(name, name.partition("-")[0]) for name in named]
    codes += [CODES[tag] for tag in tags if tag in CODES]
    return [code for code in dict.fromkeys(codes) if code in LANGUAGES]
