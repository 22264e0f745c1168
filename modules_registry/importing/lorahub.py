"""LoraHub's own modules: what each was trained for, read from its name.

Their repositories say nothing of it: the card is 27 bytes, the config names only the base. The name
does: “flan_t5_large-quoref_Guess_Answer” was trained on Quoref with the prompt of P3 that is called
“Guess Answer”; “flan_t5_large-glue_mrpc” on all of FLAN's templates for that task.

Source: Huang et al., LoraHub, arXiv:2307.13269, appendix; the data sets' pages on the Hub.
"""

from dataclasses import dataclass

import yaml

from modules_registry.core.cards import Card, check_card

AUTHOR = "lorahub"
BASE = "google/flan-t5-large"
NAME_START = "flan_t5_large-"
TRAINED_FROM = "lorahub/flanv2"  # the authors' copy of all the examples, task by task
DATASET_ADDRESS = "https://huggingface.co/datasets/"

# How a name begins -> (the data set on the Hub, what is asked for with it). Among several, the longest fits.
# Without a data set: FLAN made these examples itself.
TASKS: dict[str, tuple[str, str]] = {
    "adversarial_qa_dbert": ("UCLNLP/adversarial_qa", "Questions on a passage that BERT failed at"),
    "adversarial_qa_dbidaf": ("UCLNLP/adversarial_qa", "Questions on a passage that BiDAF failed at"),
    "adversarial_qa_droberta": ("UCLNLP/adversarial_qa", "Questions on a passage that RoBERTa failed at"),
    "ag_news_subset": ("fancyzhx/ag_news", "The topic of a news item"),
    "amazon_polarity": ("fancyzhx/amazon_polarity", "Whether a product's review is positive"),
    "anli_r1": ("facebook/anli", "Whether a text implies a sentence, adversarial, round 1"),
    "anli_r2": ("facebook/anli", "Whether a text implies a sentence, adversarial, round 2"),
    "anli_r3": ("facebook/anli", "Whether a text implies a sentence, adversarial, round 3"),
    "app_reviews": ("sealuzh/app_reviews", "The rating that goes with an app's review"),
    "bool_q": ("google/boolq", "Yes or no questions on a passage"),
    "coqa": ("stanfordnlp/coqa", "Questions in a conversation about a passage"),
    "cos_e_v1.11": ("Salesforce/cos_e", "Questions of common sense, with explanations"),
    "dbpedia_14": ("fancyzhx/dbpedia_14", "What kind of thing a text is about"),
    "definite_pronoun_resolution": (
        "community-datasets/definite_pronoun_resolution", "Whom a pronoun stands for",
    ),
    "dream": ("dataset-org/dream", "Questions on a dialogue, with choices"),
    "drop": ("ucinlp/drop", "Questions on a passage that need counting or arithmetic"),
    "duorc_ParaphraseRC": ("ibm-research/duorc", "Questions on a film's plot, told in other words"),
    "duorc_SelfRC": ("ibm-research/duorc", "Questions on a film's plot"),
    "fix_punct": ("", "A text with its punctuation put right"),
    "gem_dart": ("GEM/dart", "A sentence made from facts in a table"),
    "gem_e2e_nlg": ("GEM/e2e_nlg", "A restaurant's description made from its facts"),
    "gem_web_nlg_en": ("GEM/web_nlg", "A text made from facts of DBpedia"),
    "glue_cola": ("nyu-mll/glue", "Whether a sentence is good English"),
    "glue_mnli": ("nyu-mll/glue", "Whether one sentence implies another, in many genres"),
    "glue_mrpc": ("nyu-mll/glue", "Whether two sentences of the news say the same"),
    "glue_qnli": ("nyu-mll/glue", "Whether a sentence answers a question"),
    "glue_qqp": ("nyu-mll/glue", "Whether two questions ask the same"),
    "glue_sst2": ("nyu-mll/glue", "Whether a sentence of a film review is positive"),
    "glue_stsb": ("nyu-mll/glue", "How alike two sentences are, from 0 to 5"),
    "glue_wnli": ("nyu-mll/glue", "Whether a sentence follows, by whom a pronoun stands for"),
    "imdb_reviews": ("stanfordnlp/imdb", "Whether a film's review is positive"),
    "kilt_tasks_hotpotqa": ("facebook/kilt_tasks", "Questions that join facts of several articles"),
    "lambada": ("cimec/lambada", "The last word of a passage"),
    "math_dataset": ("deepmind/math_dataset", "Exercises in algebra"),
    "newsroom": ("lil-lab/newsroom", "A news article's summary"),
    "para_crawl_enes": ("para_crawl", "English to Spanish and back"),
    "paws_wiki": ("google-research-datasets/paws", "Whether two sentences with the same words say the same"),
    "qasc": ("allenai/qasc", "Questions of science that join two facts"),
    "quac": ("allenai/quac", "Questions of a student about an article, in a dialogue"),
    "quail": ("textmachinelab/quail", "Questions on a passage, with choices, some without an answer"),
    "quarel": ("community-datasets/quarel", "Stories about more and less: which of two is it"),
    "quartz": ("allenai/quartz", "Questions about more and less, with the rule given"),
    "quoref": ("allenai/quoref", "Questions on a passage that need to see who is meant"),
    "race_high": ("ehovy/race", "English examinations of high schools"),
    "race_middle": ("ehovy/race", "English examinations of middle schools"),
    "ropes": ("allenai/ropes", "What a background text means for a situation"),
    "sciq": ("allenai/sciq", "Questions of school science"),
    "sentiment140": ("stanfordnlp/sentiment140", "Whether a short message is positive"),
    "snli": ("stanfordnlp/snli", "Whether a picture's description implies a sentence"),
    "social_i_qa": ("allenai/social_i_qa", "What people feel, want or do next in a situation"),
    "squad_v1.1": ("rajpurkar/squad", "Questions on a passage of Wikipedia"),
    "squad_v2.0": ("rajpurkar/squad_v2", "Questions on a passage of Wikipedia, some without an answer"),
    "super_glue_cb": ("aps/super_glue", "Whether a text commits its writer to a sentence"),
    "super_glue_multirc": ("aps/super_glue", "Questions on a paragraph with several right answers"),
    "super_glue_rte": ("aps/super_glue", "Whether a text implies a sentence"),
    "super_glue_wic": ("aps/super_glue", "Whether a word means the same in two sentences"),
    "super_glue_wsc.fixed": ("aps/super_glue", "Whether a pronoun stands for a given noun"),
    "trec": ("CogComp/trec", "What kind of answer a question wants"),
    "true_case": ("", "A text with its capital letters put right"),
    "web_questions": ("stanfordnlp/web_questions", "Short questions about facts, without a text"),
    "wiki_bio": ("michaelauli/wiki_bio", "A person's biography and the facts behind it"),
    "wiki_hop_original": ("MoE-UNC/wikihop", "A relation between things, joined from several articles"),
    "wiki_qa": ("microsoft/wiki_qa", "Questions of searchers, and whether a sentence answers them"),
    "wiqa": ("allenai/wiqa", "What a change does to a process"),
    "wmt14_translate_fr-en": ("wmt/wmt14", "French to English and back"),
    "wmt16_translate_ro-en": ("wmt/wmt16", "Romanian to English and back"),
    "wmt16_translate_tr-en": ("wmt/wmt16", "Turkish to English and back"),
    "word_segment": ("", "A text with the spaces between its words put back"),
    "yelp_polarity_reviews": ("fancyzhx/yelp_polarity", "Whether a review of a place is positive"),
}  # fmt: skip


@dataclass(frozen=True)
class NamedTask:
    """What one of these modules was trained for."""

    sentence: str
    tags: tuple[str, ...]
    datasets: tuple[str, ...]  # on the Hub


def is_module(repo_id: str) -> bool:
    return repo_id.rpartition("/")[2].startswith(NAME_START)


def named_task(repo_id: str) -> NamedTask:
    """What the name of one of LoraHub's repositories tells."""
    task = repo_id.rpartition("/")[2].removeprefix(NAME_START)
    start = max((known for known in TASKS if begins(task, known)), key=len, default="")
    dataset, asked = TASKS.get(start, ("", "One of the tasks of FLAN"))
    prompt = " ".join(task.removeprefix(start).replace("_", " ").split())
    return NamedTask(
        sentence=f"{asked}{f'; prompt “{prompt}”' if prompt else ''}.",
        tags=("lorahub", start.replace("_", "-")) if start else ("lorahub",),
        datasets=(dataset, TRAINED_FROM) if dataset else (TRAINED_FROM,),
    )


def begins(task: str, start: str) -> bool:
    """Whether the name begins with these whole words."""
    return task == start or task.startswith(f"{start}_")


def card_from_name(repo_id: str, card: Card, *, base: str = "") -> Card:
    """The card as it came, or one with what the name tells, where the card of such a module says nothing.

    Args:
        base: the base model that was asked for in place of theirs.
    """
    if not is_module(repo_id) or card.body.strip():
        return card
    task = named_task(repo_id)
    front = {"base_model": base or BASE, "datasets": list(task.datasets), "tags": list(task.tags)}
    links = "\n".join(f"- [{name}]({DATASET_ADDRESS}{name})" for name in task.datasets)
    text = (
        f"---\n{yaml.safe_dump(front | card.front_matter)}---\n{task.sentence}\n\n"
        f"## Training data\n\n{links}\n\n"
        "This card was written from the repository's name when it was imported: its own says nothing.\n"
    )
    return check_card(text.encode())
