"""Three small text tasks written by a grammar of our own, so the book needs no download.

Each task mirrors the *form* of a GLUE task that a lottery-ticket study prunes on:

``acceptability`` (as CoLA)
    One sentence, label 1 (acceptable, about 65 %) or 0. Verbs and reflexives agree with a subject
    that need not be the nearest noun, "ever" needs a "no" that governs it, adjectives and adverbs
    have their place. Nearly every bad sentence has a good one made of the same words.
``entailment`` (as RTE)
    Two sentences, label 0 (entailment) or 1 (not entailment), in equal shares. The second sentence
    reuses the words of the first; quantifiers, negation and who did what decide.
``similarity`` (as STS-B)
    Two sentences, label 0.0 to 5.0: how much of an event (agent, action, patient, setting) both
    tell. Passives and synonyms keep the score; swapping the two roles lowers it.

A bag of words cannot solve them, and a linear layer on a frozen encoder hardly can: a pruned
network has to keep some syntax to do well. Training and validation rows share no content word.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lotterylib.data.lexicon import LEXICONS, Lexicon
from lotterylib.tasks import TASKS

ACCEPTABLE_SHARE = 0.65
NEARBY = ("near", "behind", "beside")


def _chance(rng: random.Random, share: float) -> bool:
    return rng.random() < share


def _pick(rng: random.Random, items: Sequence[Any]) -> Any:
    # Only .random() is promised to repeat across Python versions, so nothing else is drawn on.
    return items[int(rng.random() * len(items))]


def _pick_distinct(rng: random.Random, items: Sequence[str], count: int) -> list[str]:
    left = list(items)
    return [left.pop(int(rng.random() * len(left))) for _ in range(count)]


def _noun(word: str, plural: bool) -> str:
    return word + "s" if plural else word


def _verb(word: str, plural: bool) -> str:
    return word if plural else word + "s"


def _past(word: str) -> str:
    return word + ("d" if word.endswith("e") else "ed")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


# --- acceptability -------------------------------------------------------------------------


def _predicate(rng: random.Random, lex: Lexicon, plural: bool) -> str:
    """A predicate that shows its number, mostly on an auxiliary, which both splits share."""
    kind = rng.random()
    if kind < 0.6:
        auxiliary = _pick(rng, ("are", "were") if plural else ("is", "was"))
        return f"{auxiliary} {_pick(rng, lex.adjectives)}"
    if kind < 0.8:
        return f"{'have' if plural else 'has'} {_past(_pick(rng, lex.intransitive))}"
    return _verb(_pick(rng, lex.intransitive), plural)


def _noun_phrase(rng: random.Random, noun: str, plural: bool) -> str:
    determiner = _pick(rng, ("the", "these" if plural else "this"))
    return f"{determiner} {_noun(noun, plural)}"


def _agreement(rng: random.Random, lex: Lexicon, good: bool) -> str:
    """Subject-verb agreement, mostly with an attractor of the other number in between."""
    first, other = _pick_distinct(rng, lex.people, 2)
    plural = _chance(rng, 0.5)
    subject, attractor = _noun_phrase(rng, first, plural), _noun_phrase(rng, other, not plural)
    shown = plural if good else not plural
    verb, action = _predicate(rng, lex, shown), _pick(rng, lex.transitive)
    frame = int(rng.random() * 6)
    if frame == 0:
        return f"{subject} {_pick(rng, NEARBY)} {attractor} {verb}"
    if frame == 1:
        return f"{_pick(rng, ('like', 'unlike'))} {attractor}, {subject} {verb}"
    if frame == 2:
        return f"{subject} that {attractor} {_past(action)} {verb}"
    if frame == 3:
        return f"{subject} that {_past(action)} {attractor} {verb}"
    # Plain sentences teach what agreement is before the attractors test it.
    return f"{subject} {verb}"


def _word_order(rng: random.Random, lex: Lexicon, good: bool) -> str:
    """An adjective stands before its noun, an adverb inside the verb group."""
    first, other = (_noun(word, _chance(rng, 0.5)) for word in _pick_distinct(rng, lex.people, 2))
    adjective, action = _pick(rng, lex.adjectives), _past(_pick(rng, lex.transitive))
    if _chance(rng, 0.25):
        adverb = _pick(rng, ("often", "never", "always", "rarely"))
        action = f"had {adverb} {action}" if good else f"had {action} {adverb}"
    elif _chance(rng, 0.5):
        first = f"{adjective} {first}" if good else f"{first} {adjective}"
    else:
        other = f"{adjective} {other}" if good else f"{other} {adjective}"
    return f"the {first} {action} the {other} {_pick(rng, lex.settings)}"


def _reflexive(rng: random.Random, lex: Lexicon, good: bool) -> str:
    """A reflexive must match its subject in number and gender, not the nearest noun."""
    man, woman = _pick(rng, lex.men), _pick(rng, lex.women)
    plural, swap = _chance(rng, 0.5), _chance(rng, 0.5)
    nouns = [(man, "himself"), (woman, "herself")]
    (subject, own), (other, wrong) = reversed(nouns) if swap else nouns
    own, wrong = ("themselves", wrong) if plural else (own, "themselves")
    action = _past(_pick(rng, lex.transitive))
    link = _pick(rng, NEARBY) if _chance(rng, 0.5) else f"that {_past(_pick(rng, lex.transitive))}"
    return (
        f"the {_noun(subject, plural)} {link} the {_noun(other, not plural)} {action} "
        f"{own if good else wrong}"
    )


def _licensing(rng: random.Random, lex: Lexicon, good: bool) -> str:
    """A "no" on the main subject licenses "ever"; a "no" inside its clause does not."""
    first, other = _pick_distinct(rng, lex.people, 2)
    outer, inner = ("no", "the") if good else ("the", "no")
    clause = f"{inner} {other}s {_past(_pick(rng, lex.transitive))}"
    if _chance(rng, 0.5):
        clause = f"{_past(_pick(rng, lex.transitive))} {inner} {other}s"
    return f"{outer} {first} that {clause} has ever {_past(_pick(rng, lex.intransitive))}"


def _acceptability(rng: random.Random, lex: Lexicon) -> tuple[str, int]:
    good = _chance(rng, ACCEPTABLE_SHARE)
    kind = rng.random()
    rule = _agreement
    if kind >= 0.28:
        rule = _reflexive if kind < 0.36 else _word_order if kind < 0.7 else _licensing
    return _sentence(rule(rng, lex, good)), int(good)


# --- entailment ----------------------------------------------------------------------------
# Each rule returns (premise, what follows, what does not). What makes a hypothesis wrong in one
# row makes it right in another, so neither a word nor the overlap of words gives the label away.


def _polarity(rng: random.Random, lex: Lexicon) -> tuple[str, str, str]:
    """What "every" and "both" affirm of each one, "no" and "neither" deny."""
    one, other = _pick_distinct(rng, lex.people, 2)
    verb, positive = _pick(rng, lex.intransitive), _chance(rng, 0.5)
    right, wrong = _past(verb), f"did not {verb}"
    if _chance(rng, 0.85):
        premise = f"{'every' if positive else 'no'} {one} {_past(verb)}"
        who = f"the {_pick(rng, lex.adjectives)} {one}"
    else:
        first, joint = ("both", "and") if positive else ("neither", "nor")
        premise = f"{first} the {one} {joint} the {other} {_past(verb)}"
        who = f"the {_pick(rng, (one, other))}"
    if not positive:
        right, wrong = wrong, right
    return premise, f"{who} {right}", f"{who} {wrong}"


def _scope(rng: random.Random, lex: Lexicon) -> tuple[str, str, str]:
    """A claim about every or no noun holds for a narrower one, a claim about some for a wider."""
    quantifier = _pick(rng, ("every", "no", "some", "some"))
    noun, did = _pick(rng, lex.people), _past(_pick(rng, lex.intransitive))
    one, two = _pick_distinct(rng, lex.adjectives, 2)
    wide, narrow = f"{quantifier} {noun} {did}", f"{quantifier} {one} {noun} {did}"
    narrowest = f"{quantifier} {one} {two} {noun} {did}"
    narrower_follows = quantifier != "some"
    return (narrow, narrowest, wide) if narrower_follows else (narrow, wide, narrowest)


def _clause(rng: random.Random, lex: Lexicon) -> tuple[str, str, str]:
    """A relative clause stands between the subject and its verb."""
    a, b = (f"the {noun}" for noun in _pick_distinct(rng, lex.people, 2))
    acted, did = _past(_pick(rng, lex.transitive)), _past(_pick(rng, lex.intransitive))
    premise, agent, patient = f"{a} that {acted} {b} {did}", a, b
    if _chance(rng, 0.5):
        premise, agent, patient = f"{a} that {b} {acted} {did}", b, a
    if _chance(rng, 0.5):
        return premise, f"{a} {did}", f"{b} {did}"
    return premise, f"{agent} {acted} {patient}", f"{patient} {acted} {agent}"


def _voice(rng: random.Random, lex: Lexicon) -> tuple[str, str, str]:
    """Active to passive or back: the roles must follow the voice, not the word order."""
    a, b = (f"the {noun}" for noun in _pick_distinct(rng, lex.people, 2))
    acted = _past(_pick(rng, lex.transitive))
    if _chance(rng, 0.5):
        return f"{a} {acted} {b}", f"{b} was {acted} by {a}", f"{a} was {acted} by {b}"
    return f"{b} was {acted} by {a}", f"{a} {acted} {b}", f"{b} {acted} {a}"


def _entailment(rng: random.Random, lex: Lexicon) -> tuple[str, str, int]:
    follows, kind = _chance(rng, 0.5), rng.random()
    rule = _polarity
    if kind >= 0.78:  # a small encoder learns polarity first, and from it that there is a rule
        rule = _scope if kind < 0.9 else _clause if kind < 0.96 else _voice
    premise, right, wrong = rule(rng, lex)
    return _sentence(premise), _sentence(right if follows else wrong), int(not follows)


# --- similarity ----------------------------------------------------------------------------


class Event(NamedTuple):
    """Who did what to whom, and where or when ("" when the sentence does not say)."""

    agent: str
    action: str
    patient: str
    setting: str


def similarity(one: Event, two: Event) -> float:
    """Shared meaning of two events: 0.0 (nothing) to 5.0 (all).

    The action counts 2, agent, patient and setting 1 each, and only in the same role. A setting
    that one side leaves out counts one half; one that both leave out counts as shared.
    """
    score = 2.0 * (one.action == two.action)
    score += (one.agent == two.agent) + (one.patient == two.patient)
    if one.setting == two.setting:
        return score + 1.0
    return score + (0.0 if one.setting and two.setting else 0.5)


def _tell(rng: random.Random, lex: Lexicon, event: Event) -> str:
    """One wording of an event: active or passive, setting first or last, synonyms at times."""

    def word(base: str) -> str:
        return lex.synonyms[base] if base in lex.synonyms and _chance(rng, 0.3) else base

    agent, action, patient = word(event.agent), _past(word(event.action)), word(event.patient)
    text = f"the {agent} {action} the {patient}"
    if _chance(rng, 0.4):
        text = f"the {patient} was {action} by the {agent}"
    if not event.setting:
        return _sentence(text)
    if _chance(rng, 0.3):
        return _sentence(f"{event.setting}, {text}")
    return _sentence(f"{text} {event.setting}")


def _similarity(rng: random.Random, lex: Lexicon) -> tuple[str, str, float]:
    a, b, c, d = _pick_distinct(rng, lex.people, 4)
    act, other_act = _pick_distinct(rng, lex.transitive, 2)
    where, elsewhere = _pick_distinct(rng, lex.settings, 2)
    one = Event(a, act, b, where if _chance(rng, 0.7) else "")
    two = one
    kind = rng.random()
    if kind < 0.08:
        two = one._replace(agent=b, patient=a)
    elif kind < 0.85:
        change = rng.random()
        two = one._replace(
            agent=c if _chance(rng, change) else a,
            patient=d if _chance(rng, change) else b,
            action=other_act if _chance(rng, change) else act,
        )
    if one.setting and _chance(rng, 0.4):
        two = two._replace(setting=_pick(rng, ("", elsewhere)))
    if _chance(rng, 0.5):
        one, two = two, one
    return _tell(rng, lex, one), _tell(rng, lex, two), similarity(one, two)


# --- the three tasks -----------------------------------------------------------------------

GRAMMARS: Mapping[str, Callable[[random.Random, Lexicon], tuple[Any, ...]]] = {
    "acceptability": _acceptability,
    "entailment": _entailment,
    "similarity": _similarity,
}


def generate(task: str, split: str, rows: int) -> dict[str, list[Any]]:
    """Write the first rows of one split of a task, distinct and the same on every machine.

    A longer call starts with a shorter one's rows. "train" and "validation" use other words.

    Returns:
        The task's text columns, str, and `label`: int, 0 or 1, for `acceptability` and
        `entailment`, float, 0.0 to 5.0, for `similarity`.
    """
    rng = random.Random(f"{task}:{split}")
    # Keyed by the text alone: one text must never appear with two labels.
    seen: dict[tuple[str, ...], Any] = {}
    while len(seen) < rows:
        *texts, label = GRAMMARS[task](rng, LEXICONS[split])
        seen.setdefault(tuple(texts), label)
    columns = zip(*((*texts, label) for texts, label in seen.items()), strict=True)
    names = (*TASKS[task].columns, "label")
    return {name: list(column) for name, column in zip(names, columns, strict=True)}
