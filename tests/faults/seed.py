"""The seed of everything that is drawn at random here."""

from __future__ import annotations

import os
import random


def chance(about: str) -> random.Random:
    """Numbers that are the same for the same TEST_SEED, and other ones for each test."""
    return random.Random(f"{os.environ.get('TEST_SEED', '20261122')} {about}")
