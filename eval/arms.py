"""Arms by name: which text encoder reads the prompt, by which method, and whether through the gate."""

from dataclasses import dataclass

from eval.rivals import rival_names
from integrations.methods import find_method, method_names
from integrations.referring import PROPOSED, REFINED
from negclip_core.errors import RequestError
from negclip_core.models import Source, arms_of

__all__ = ["BLIND", "VANILLA", "ArmName", "clip_source", "parse_arms", "refuse_missing", "suits"]

VANILLA, NEGATIONCLIP, REST = "vanilla", "negationclip", "affirmative-rest"
BLIND = ("blind-text", "blind-constant", "blind-random")  # scorers of eval.blind
_BARE = "-no-gate"
_WAYS = {"-refined": REFINED, "-proposed": PROPOSED}
# arm -> (method of integrations.methods, whether NegationCLIP is swapped in)
_KNOWN = {VANILLA: ("encoder", False), NEGATIONCLIP: ("encoder", True), REST: ("encoder", False)} | {
    name: (name, find_method(name).SWAPS_TEXT_ENCODER) for name in method_names() if name != "encoder"
}
_SWAPPING = [name for name, (method, swaps) in _KNOWN.items() if swaps and name == method]


@dataclass(frozen=True)
class ArmName:
    """An arm as it was asked for. `source` is None for the encoder that belongs to it by default."""

    name: str
    method: str
    swaps: bool
    gate: bool = True
    source: Source | None = None
    rival: str | None = None  # what corrects its texts: one of eval.rivals
    way: str | None = None  # what Segment Anything does to masks: one of integrations.referring's WAYS

    @property
    def rest(self) -> bool:
        """Whether it is given the affirmative rest of the prompt instead of the prompt."""
        return self.name == REST

    @property
    def blind(self) -> bool:
        """Whether it sees no picture."""
        return self.name in BLIND


def parse_arms(text: str) -> list[ArmName]:
    """Arms separated by commas: a known name, or NAME=ENCODER for another text encoder under a name of its own.

    A name that ends in "-no-gate" runs the encoder bare; one that ends in "-refined" has its masks sharpened by Segment
    Anything, one in "-proposed" chosen from its proposals; NAME=ENCODER whose NAME begins with a method's ("both", "rephrased") is
    read by that method. A rival's name means that rival on vanilla CLIP; behind another name and a hyphen, on that one.

    Raises:
        RequestError: an unknown name, a name twice, or none.
    """
    arms = [_arm(part.strip()) for part in text.split(",") if part.strip()]
    if not arms:
        raise RequestError(
            f"no arms: expected names separated by commas, of {', '.join(_KNOWN)}, or NAME=ENCODER"
        )
    names = [arm.name for arm in arms]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RequestError(
            f"arm {', '.join(sorted(twice))} named twice; give each arm a name of its own (NAME=ENCODER)"
        )
    return arms


def _arm(text: str) -> ArmName:
    name, _, encoder = text.partition("=")
    if name in BLIND and not encoder:
        return ArmName(name, "encoder", swaps=False)
    rival = next((rival for rival in rival_names() if f"-{name}".endswith(f"-{rival}")), None)
    suffix = next((suffix for suffix in _WAYS if name.endswith(suffix)), "")
    bare, way = name.removesuffix(suffix), _WAYS.get(suffix)
    gate = not bare.endswith(_BARE)
    if encoder:
        if not name or "/" in name or name in (*_KNOWN, *BLIND, *rival_names()):
            raise RequestError(
                f"{text}: expected NAME=ENCODER with a new name, of letters, digits and hyphens"
            )
        method = next((known for known in _SWAPPING if name.startswith(known)), "encoder")
        return ArmName(name, method, True, gate, Source(encoder), rival, way)
    if rival in (name, name.removeprefix(f"{NEGATIONCLIP}-")):
        return ArmName(name, "encoder", name != rival, rival=rival)
    base = bare.removesuffix(_BARE)
    method, swaps = _KNOWN.get(base, ("", False))
    if not method or not (gate or swaps):
        raise RequestError(
            f"no arm called {name!r}; there are {', '.join((*_KNOWN, *BLIND, *rival_names()))}, "
            f"{NEGATIONCLIP}{_BARE}, both{_BARE}, {', '.join(NEGATIONCLIP + suffix for suffix in (*_WAYS, f'-{rival_names()[0]}'))}, "
            "or NAME=ENCODER for another text encoder"
        )
    return ArmName(name, method, swaps, gate, way=way)


def suits(arm: ArmName, kind: str) -> bool:
    """Whether an arm is one for tasks of a kind.

    A method of generation, the gate, and what becomes of masks change no similarity; a method finds no mask.
    """
    if arm.blind or arm.rival:
        return kind == "understanding"
    if kind == "generation":
        return arm.way is None
    plain = arm.method == "encoder" and not arm.rest
    return plain if kind == "segmentation" else plain and arm.gate and arm.way is None


def refuse_missing(arms: list[ArmName], kind: str) -> None:
    """Raise RequestError if none of the arms suits tasks of a kind."""
    if not any(suits(arm, kind) for arm in arms):
        raise RequestError(f"none of these arms is one for tasks of {kind}; add {VANILLA} or {NEGATIONCLIP}")


def clip_source(arm: ArmName, clip: str) -> Source:
    """The CLIP behind an arm, for the base CLIP `clip`. Raises RequestError if none is known for it."""
    if arm.source is not None:
        return arm.source
    known = arms_of(clip)
    wanted = NEGATIONCLIP if arm.swaps else VANILLA
    if wanted not in known:
        raise RequestError(
            f"{clip}: no {wanted} is known for this CLIP; name one with {wanted}-of-mine=ENCODER"
        )
    return known[wanted]
