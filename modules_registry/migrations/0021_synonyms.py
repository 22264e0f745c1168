"""A first list of synonyms; staff edit it in the administration."""

from django.db import migrations

GROUPS = (
    "uppercase, upper case, capitals, capital letters, caps, capitalize, capitalise",
    "lowercase, lower case, small letters",
    "summary, summarize, summarise, summarization, summarisation, abstract, tldr",
    "translate, translation, translator, translating",
    "sentiment, opinion, polarity",
    "question, questions, qa, question answering",
    "classify, classification, classifier, categorize, label",
    "paraphrase, rephrase, reword, rewrite",
    "opposite, antonym",
    "synonym, same meaning",
    "plural, plurals, pluralize",
    "toxic, toxicity, hate speech, offensive, abusive",
    "math, maths, mathematics, arithmetic",
    "code, programming, source code",
    "inference, entailment, nli",
    "named entities, named entity recognition, ner, entity",
    "grammar, grammatical, proofread, correction",
    "chat, conversation, dialogue, dialog",
    "medical, medicine, clinical, health",
    "legal, law, juridical",
    "finance, financial, banking",
    "story, stories, fiction, storytelling",
)


def add_groups(apps, schema_editor):
    group = apps.get_model("modules_registry", "SynonymGroup")
    group.objects.bulk_create(group(words=words) for words in GROUPS)


class Migration(migrations.Migration):
    dependencies = [("modules_registry", "0020_indexes_of_the_library")]

    operations = [migrations.RunPython(add_groups, migrations.RunPython.noop)]
