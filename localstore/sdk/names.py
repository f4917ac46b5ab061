"""Names for runs that were given none."""

from __future__ import annotations

import secrets
import string
from typing import Final

_ADJECTIVES: Final = """
amber ample azure bold brave bright brisk calm clear clever cosmic crisp daring deep eager early
earnest fair fast fine firm fleet fond fresh gentle glad golden good grand happy hardy honest icy
jolly keen kind late lively lucid lucky mellow merry mild misty neat noble northern patient polar
prime proud quick quiet rapid rare royal sage serene sharp silent silver sleek smooth snowy solar
steady still sunny swift tall tender tidy true vast vivid warm wild wise witty young
"""
_NOUNS: Final = """
acorn anchor aspen basin bay beacon birch bird bloom breeze bridge brook canyon cedar cliff cloud
comet coral cove crane creek crest dale dawn delta dew dove dune dusk echo elm ember falcon feather
fern field fjord flame forest fox frost gale garden glacier glade grove gull harbor haven hawk
hazel heath heron hill ibis iris island ivy jay juniper lagoon lake lark leaf lynx maple marsh
meadow mesa mist moon moss oak ocean orchid osprey otter owl peak pine plover pond prairie rain
raven reef ridge river robin sail shore sky snow sparrow spring spruce star stone storm stream
summit sun swan thrush tide trail vale wave willow wind wolf wood wren
"""
_ALPHABET: Final = string.digits + string.ascii_lowercase


def run_name() -> str:
    """Two words and a number, such as `brave-willow-417`."""
    number = secrets.randbelow(900) + 100
    adjective, noun = secrets.choice(_ADJECTIVES.split()), secrets.choice(_NOUNS.split())
    return f"{adjective}-{noun}-{number}"


def run_id() -> str:
    """Eight letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))
