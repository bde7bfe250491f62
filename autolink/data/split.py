"""Which pictures or identities are held out by default."""

import hashlib
import os


def chosen_by_name(name: str, one_in: int, hashed: int = 4) -> bool:
    """Whether a name is among one in so many, by a hash so that the choice is the same everywhere.

    `hashed` is how many bytes of the hash count. People are chosen by one and pictures without annotation by four:
    published figures rest on either.
    """
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:hashed], "big") % one_in == 0
