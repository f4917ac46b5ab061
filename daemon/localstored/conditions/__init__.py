"""What the world is like just now, for the policy: networks, power, the hour.

`World` keeps the answer fresh by signals and tells when it changed; `read_once` asks once. Whatever
cannot be found out stays unknown: nobody's desktop is a requirement.
"""

from __future__ import annotations

from localstored.conditions.world import World, read_once

__all__ = ["World", "read_once"]
