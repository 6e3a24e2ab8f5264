"""Prompts of an exact length: token ids, or text that a tokenizer takes apart into exactly so many tokens.

Random ids that are decoded and encoded again do not keep their number (some percent more, hardly ever the same), so
text is made of words instead: each a single token both behind a space and beside any other such word. Words are chosen
by encoding them, every finished prompt is encoded once more, and its end is changed until the number is right.

Prompts are fresh by default: their first tokens differ among themselves and, by the salt, from those of other runs, so
that no server finds them in its prefix cache. What is to be shared is shared by name (see `fewmark.load.mixes`).
"""

from __future__ import annotations

import copy
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fewmark.core.errors import InputError
from fewmark.load.mixes import Segment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Ordinary ids in all common vocabularies: above the control and byte tokens at the start, below the smallest size.
DEFAULT_IDS: Final = range(1000, 10_000)
MAX_WORDS: Final = 4000  # of a vocabulary that are tried: enough variety, and quick
MIN_WORDS: Final = 32
FIRST_DIGITS: Final = 3  # tokens that number a prompt: with 32 words still tens of thousands of different beginnings
MAX_REPAIRS: Final = 50  # attempts to bring one prompt to its length

Content = str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's segments as texts or as token ids, and how many tokens it has.

    Parameters
    ----------
    parts : tuple of (Segment, str or tuple of int)
        In order; texts are joined without anything between them.
    tokens : int
        Of all parts together, with the special tokens that the tokenizer adds.
    """

    parts: tuple[tuple[Segment, Content], ...]
    tokens: int

    @property
    def ids(self) -> list[int] | None:
        """All token ids; None for a text."""
        out: list[int] = []
        for _, content in self.parts:
            if isinstance(content, str):
                return None
            out.extend(content)
        return out

    @property
    def text(self) -> str | None:
        """The whole text; None for token ids."""
        texts = [content for _, content in self.parts if isinstance(content, str)]
        return "".join(texts) if len(texts) == len(self.parts) else None


class PromptMaker(Protocol):
    """Makes a prompt of exactly the tokens that its segments ask for."""

    def make(self, segments: Sequence[Segment]) -> Prompt:
        """The prompt; equal leading segments give equal beginnings."""
        ...

    def fresh(self) -> PromptMaker:
        """The same with a new salt."""
        ...


class _Ordinals:
    """Numbers the first segments in order of appearance, from a place that the salt decides."""

    def __init__(self, salt: str) -> None:
        self._seen: dict[str, int] = {}
        self._offset = random.Random(f"{salt}/first").getrandbits(62)

    def of(self, name: str) -> int:
        return self._offset + self._seen.setdefault(name, len(self._seen))


def _fresh_salt() -> str:
    return secrets.token_hex(8)


@dataclass
class TokenIdPrompts:
    """Prompts as token ids, for servers whose completions route takes them: exact without any tokenizer.

    Parameters
    ----------
    ids : sequence of int
        The ids to draw from; each must be an ordinary token of the server's vocabulary.
    salt : str
        Decides every text. The default is new each time; give one to send the same prompts again.
    """

    ids: Sequence[int] = DEFAULT_IDS
    salt: str = field(default_factory=_fresh_salt)

    def __post_init__(self) -> None:
        if len(self.ids) < MIN_WORDS or min(self.ids) < 0:
            raise InputError(f"prompts need at least {MIN_WORDS} token ids, none negative", got=len(self.ids))
        self._ordinals = _Ordinals(self.salt)

    def make(self, segments: Sequence[Segment]) -> Prompt:
        """The prompt; its first id differs from that of every other first segment, as long as there are ids left."""
        _check(segments)
        parts: list[tuple[Segment, Content]] = []
        for place, segment in enumerate(segments):
            rng = random.Random(f"{self.salt}/{segment.name}")
            drawn = rng.choices(self.ids, k=segment.tokens)
            if place == 0:
                first = self._first(segment.name, segment.tokens)
                drawn[: len(first)] = first
            parts.append((segment, tuple(drawn)))
        return Prompt(tuple(parts), sum(segment.tokens for segment in segments))

    def fresh(self) -> TokenIdPrompts:
        """The same with a new salt, so that its prompts are unlike all those before."""
        return TokenIdPrompts(self.ids)

    def _first(self, name: str, tokens: int) -> list[int]:
        """The segment's number, written in as many digits as it has room for, the fastest first."""
        number = self._ordinals.of(name)
        digits = []
        for _ in range(min(FIRST_DIGITS, tokens)):
            number, digit = divmod(number, len(self.ids))
            digits.append(self.ids[digit])
        return digits


class TextPrompts:
    """Prompts as text of an exact number of tokens, for chat routes and servers that take no token ids.

    Parameters
    ----------
    tokenizer : Path
        A ``tokenizer.json``, or a folder that has one.
    salt : str, optional
        Decides every text. The default is new each time; give one to send the same prompts again.
    overhead_tokens : int
        Tokens that the server adds around the text and the tokenizer does not: a chat template's. The segments' length
        includes them. Learn it from one answer's usage; see `overhead_from_usage`.
    add_special_tokens : bool
        Whether the server lets the tokenizer add its special tokens (a BOS), which then count as well.

    Raises
    ------
    InputError
        If the tokenizer cannot be read, the package ``tokenizers`` is missing, or too few words are single tokens.
    """

    def __init__(
        self,
        tokenizer: Path,
        salt: str | None = None,
        overhead_tokens: int = 0,
        add_special_tokens: bool = True,
    ) -> None:
        self.salt = _fresh_salt() if salt is None else salt
        self.overhead_tokens = overhead_tokens
        self.add_special_tokens = add_special_tokens
        self._tokenizer = load_tokenizer(tokenizer)
        self._starts, self._words = single_token_words(self._tokenizer)
        self._ordinals = _Ordinals(self.salt)
        self._special = self.count("")

    def count(self, text: str) -> int:
        """Tokens of a text as the server counts them, without the overhead."""
        return len(self._tokenizer.encode(text, add_special_tokens=self.add_special_tokens).ids)

    def make(self, segments: Sequence[Segment]) -> Prompt:
        """The prompt. Raises `InputError` if no text of this length is found."""
        _check(segments)
        wanted = sum(segment.tokens for segment in segments)
        fixed = self.overhead_tokens + self._special
        if wanted <= fixed:
            raise InputError(
                f"a prompt of this server has at least {fixed + 1} tokens", got=wanted, hint="ask for longer prompts"
            )
        lengths = _without(fixed, segments)
        words = [self._segment_words(segment, n, place) for place, (segment, n) in enumerate(lengths)]
        for attempt in range(MAX_REPAIRS):
            texts = _joined(words)
            excess = self.count("".join(texts)) + self.overhead_tokens - wanted
            if excess == 0:
                return Prompt(tuple(zip((s for s, _ in lengths), texts, strict=True)), wanted)
            last = max(place for place, chosen in enumerate(words) if chosen)
            _repair(words[last], excess, self._words, random.Random(f"{self.salt}/{segments[last].name}/{attempt}"))
        raise InputError(
            "no text of exactly this many tokens was found", got=wanted, hint="send token ids, or another tokenizer"
        )

    def fresh(self) -> TextPrompts:
        """The same with a new salt, so that its prompts are unlike all those before."""
        made = copy.copy(self)
        made.salt = _fresh_salt()
        made._ordinals = _Ordinals(made.salt)
        return made

    def _segment_words(self, segment: Segment, tokens: int, place: int) -> list[str]:
        words = random.Random(f"{self.salt}/{segment.name}").choices(self._words, k=tokens)
        if place == 0 and words:
            number = self._ordinals.of(segment.name)
            words[0] = self._starts[number % len(self._starts)]
            number //= len(self._starts)
            for digit in range(1, min(FIRST_DIGITS, len(words))):
                number, remainder = divmod(number, len(self._words))
                words[digit] = self._words[remainder]
        return words


def overhead_from_usage(prompt: Prompt, usage_prompt_tokens: int) -> int:
    """Tokens that a server counted beyond the prompt's own: its chat template's. Negative if it counted fewer."""
    return usage_prompt_tokens - prompt.tokens


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file or folder. Raises `InputError` if there is none, or the package is missing."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError("a tokenizer is a tokenizer.json or a folder that has one", got=str(path))
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InputError(
            "text prompts of an exact length need the package tokenizers",
            got=str(error),
            hint="pip install tokenizers, or send token ids",
        ) from error
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing narrower
        raise InputError("the tokenizer cannot be read", got=f"{file}: {error}") from error


def single_token_words(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Words that are one token at the start of a text, and words that are one token behind a space and other words.

    Raises `InputError` if there are too few of either.
    """
    pieces = sorted(tokenizer.get_vocab(with_added_tokens=False))
    random.Random(0).shuffle(pieces)
    candidates: list[str] = []
    for piece in pieces:
        word = piece.lstrip("Ġ▁ ").removeprefix("##")
        if len(word) > 1 and word.isascii() and word.isalpha():
            candidates.append(word)
            if len(candidates) == MAX_WORDS:
                break
    candidates = list(dict.fromkeys(candidates))
    starts = _single(tokenizer, candidates, "")
    # behind a word that is known to be one token, so that its own number can be taken off
    words = _single(tokenizer, candidates, starts[0] + " ") if starts else []
    words = _stable(tokenizer, starts, words)
    if len(words) < MIN_WORDS:
        raise InputError(
            f"fewer than {MIN_WORDS} words of this tokenizer are single tokens", got=len(words), hint="send token ids"
        )
    return starts, words


def _single(tokenizer: Tokenizer, candidates: list[str], before: str) -> list[str]:
    context = len(tokenizer.encode(before.rstrip(), add_special_tokens=False).ids)
    encodings = tokenizer.encode_batch([before + word for word in candidates], add_special_tokens=False)
    return [word for word, encoding in zip(candidates, encodings, strict=True) if len(encoding.ids) == context + 1]


def _stable(tokenizer: Tokenizer, starts: list[str], words: list[str]) -> list[str]:
    """Without the words that change their number of tokens beside others, found by encoding them in a random order."""
    rng = random.Random(1)
    for _ in range(2):
        rng.shuffle(words)
        groups = [words[i : i + 8] for i in range(0, len(words), 8)]
        texts = [" ".join([starts[0], *group]) for group in groups]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        words = [
            word
            for group, encoding in zip(groups, encodings, strict=True)
            if len(encoding.ids) == len(group) + 1
            for word in group
        ]
    return words


def _joined(words: Sequence[Sequence[str]]) -> list[str]:
    """The text of each segment; every word but the very first has a space before it."""
    texts = []
    for place, segment in enumerate(words):
        text = " ".join(segment)
        texts.append(" " + text if place and text else text)
    return texts


def _without(tokens: int, segments: Sequence[Segment]) -> list[tuple[Segment, int]]:
    """Each segment with its number of words; what the server adds is taken off the last ones, so beginnings stay."""
    out = [(segment, segment.tokens) for segment in segments]
    for place in range(len(out) - 1, -1, -1):
        segment, length = out[place]
        taken = min(tokens, length - (1 if place == 0 else 0))
        out[place] = (segment, length - taken)
        tokens -= taken
    return out


def _repair(words: list[str], excess: int, vocabulary: Sequence[str], rng: random.Random) -> None:
    """Change the end of a list of words so that it has `excess` tokens fewer (or more, if negative)."""
    keep = max(len(words) - max(excess, 0) - 1, 0)
    grow = len(words) - keep - excess
    words[keep:] = rng.choices(vocabulary, k=max(grow, 1))


def _check(segments: Sequence[Segment]) -> None:
    if not segments or any(segment.tokens < 1 for segment in segments):
        raise InputError("a prompt has segments of at least 1 token each", got=[s.tokens for s in segments])
