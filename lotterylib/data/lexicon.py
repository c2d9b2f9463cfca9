"""The content words of the generated tasks, other ones for training than for validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Lexicon:
    """Content words of one split, as base forms that inflect regularly (-s, -ed)."""

    people: tuple[str, ...]
    men: tuple[str, ...]
    women: tuple[str, ...]
    transitive: tuple[str, ...]
    intransitive: tuple[str, ...]
    adjectives: tuple[str, ...]
    settings: tuple[str, ...]
    synonyms: Mapping[str, str]  # word -> stand-in; a stand-in occurs nowhere else


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(", " if "," in text else " "))


TRAIN = Lexicon(
    people=_listed(
        "pilot doctor teacher farmer singer lawyer student soldier driver painter sailor "
        "banker poet judge nurse guard actor artist editor miner reporter waiter"
    ),
    men=_listed("king uncle father brother prince monk wizard"),
    women=_listed("queen sister mother nun girl widow"),
    transitive=_listed(
        "admire thank help visit trust follow praise call invite warn advise remember "
        "interview rescue notice"
    ),
    intransitive=_listed(
        "laugh smile wait jump shout work talk dance wave arrive whisper sail vote"
    ),
    adjectives=_listed("old tall clever happy famous quiet rich honest tired lonely"),
    settings=_listed(
        "in the garden, at the station, on Monday, in the kitchen, after lunch, in April, "
        "at the museum, near the river, last year, in Paris, at night"
    ),
    synonyms=dict(doctor="physician", lawyer="attorney", teacher="instructor")
    | dict(help="assist", rescue="save", notice="observe"),
)
VALIDATION = Lexicon(
    people=_listed(
        "writer dancer senator engineer priest hunter scholar clerk detective captain "
        "musician scientist neighbor chef builder"
    ),
    men=_listed("boy son husband knight bishop emperor"),
    women=_listed("daughter maid bride niece grandmother"),
    transitive=_listed(
        "respect support ignore recognize question encourage hire join contact escort"
    ),
    intransitive=_listed("walk climb rest paint succeed wander protest yawn"),
    adjectives=_listed("young short wise brave poor proud gentle calm"),
    settings=_listed(
        "in the park, at the hotel, on Friday, after dinner, in June, at the library, "
        "by the bridge, last week, in London, at noon"
    ),
    synonyms=dict(writer="author", detective="investigator", chef="cook")
    | dict(hire="employ", escort="guide"),
)
LEXICONS: Mapping[str, Lexicon] = {"train": TRAIN, "validation": VALIDATION}
