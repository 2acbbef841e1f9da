"""Our prices beside LiteLLM's: every model of our table × shapes of usage, each cost against `completion_cost`.

`python -m tests.load.prices [--environment DIR]` installs litellm, pinned by hash (`requirements/translate.lock`), in
an environment of its own, takes that release's price map, and prints how far the costs are apart. It also prints how
fast ours is: the first price in a process, which reads the table, and the ones after it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path

from shared.usage.conversion import PUBLISHERS, RESELLERS, Entry, keys_of
from shared.usage.prices import TIERS, Price, Tokens, cost_micro_usd, cost_pico_usd, price_of, prices_of

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "translate.lock"
CODE = Path(__file__).with_name("litellm_costs.py")
MAP = "litellm/model_prices_and_context_window_backup.json"
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_OFFLINE_MODE": "true"}
APART_USD_MAX = Fraction(1, 10**9)
LOOKUPS = 100_000

SHAPES: Mapping[str, Tokens] = {
    "plain": Tokens(1_234, 567),
    "one token": Tokens(1, 1),
    "at 200k": Tokens(200_000, 1_000),
    "above 200k": Tokens(200_001, 1_000),
    "above 272k": Tokens(300_007, 20_011),
    "cached": Tokens(10_000, 777, cached=8_192),
    "cached, long": Tokens(400_000, 777, cached=390_001),
    "written": Tokens(10_000, 777, cached=4_096, written_5m=3_001),
    "written, long": Tokens(300_000, 777, cached=4_096, written_5m=200_003),
    "written for an hour": Tokens(10_000, 777, written_5m=1_001, written_1h=2_003),
    "reasoning": Tokens(5_003, 9_001, reasoning=8_009),
    "audio": Tokens(5_003, 2_003, audio_input=4_001, audio_output=1_501),
    "images": Tokens(5_003, 2_003, image_input=4_001, image_output=1_501),
}


@dataclass(frozen=True)
class Case:
    """One call. `key` is LiteLLM's name for the model."""

    key: str
    provider: str
    price: Price
    shape: str
    used: Tokens

    @property
    def ours_usd(self) -> Fraction:
        pico = cost_pico_usd(self.price, self.used)
        assert pico is not None  # cases are made of the tiers that the price has
        return Fraction(pico, 10**12)


Apart = tuple[Case, Fraction]


def cases(entries: Mapping[str, Entry]) -> Iterator[Case]:
    """Each price of the table that this map tells, in each tier that it has."""
    told: set[str] = set()
    for provider in (*PUBLISHERS, *RESELLERS):
        for name, key in keys_of(entries, provider).items():
            found = () if name in told else prices_of(name)
            told.add(name)
            for price in found[-1:]:
                yield from cases_of(key, entries[key], price)


def cases_of(key: str, entry: Entry, price: Price) -> Iterator[Case]:
    for tier in TIERS:
        for shape, used in SHAPES.items():
            shaped = fitting(used, entry, tier)
            if shaped is not None and price.rates(tier, used.input) is not None:
                yield Case(key, str(entry["litellm_provider"]), price, shape, shaped)


def fitting(used: Tokens, entry: Entry, tier: str) -> Tokens | None:
    """The shape for the model: embeddings write nothing. None when there is no such call of it."""
    values = asdict(used) | {"tier": tier}
    if entry.get("mode") == "embedding":
        if used.cached or used.written_1h or used.reasoning or used.audio_output or used.image_output:
            return None
        values["output"] = 0
    return Tokens(**values)


def environment(folder: Path) -> Path:
    """The folder of an environment's packages, with litellm as the lock names it. Its Python is ours."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", str(LOCK)]
        subprocess.run(install, check=True)
    return folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"


def theirs_usd(folder: Path, wanted: list[Case]) -> list[float | None]:
    asked = [{"model": case.key, "provider": case.provider, "used": asdict(case.used)} for case in wanted]
    said = subprocess.run(
        [str(folder / "bin" / "python"), "-I", str(CODE)],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | OFFLINE,
        check=True,
    )
    answer: list[float | None] = json.loads(said.stdout)
    return answer


def by_model(apart: list[Apart]) -> dict[tuple[str, str], list[Apart]]:
    found: dict[tuple[str, str], list[Apart]] = {}
    for case, by in apart:
        found.setdefault((case.key, case.provider), []).append((case, by))
    return found


def compare(wanted: list[Case], said: list[float | None]) -> int:
    """Print how far apart they are. Returns how many are too far."""
    both = zip(wanted, said, strict=True)
    told = [(case, abs(case.ours_usd - Fraction(usd))) for case, usd in both if usd is not None]
    apart = [(case, by) for case, by in told if by > APART_USD_MAX]
    unread = [case for case, _ in apart if audio_at_priority(case)]
    for (key, provider), of in by_model(apart).items():
        shapes = ", ".join(sorted({f"{case.shape} ({case.used.tier})" for case, _ in of}))
        print(f"    {key} ({provider}): up to {float(max(by for _, by in of)):.3g} USD apart: {shapes}")
    print("  by tier: " + counted(case.used.tier for case, _ in told))
    print("  by shape: " + counted(case.shape for case, _ in told))
    models = len({case.key for case, _ in told})
    print(f"  {models} models × usage shapes = {len(told)} costs; LiteLLM refused {len(said) - len(told)}")
    nearest = max((by for _, by in told if by <= APART_USD_MAX), default=Fraction(0))
    print(f"  within {float(APART_USD_MAX):.0e} USD: {len(told) - len(apart)}, at most {float(nearest):.2g} apart")
    print(f"  farther apart: {len(apart)}, of them audio input at priority (in LiteLLM's map, not read): {len(unread)}")
    return len(apart) - len(unread)


def counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(names).items())


def audio_at_priority(case: Case) -> bool:
    return case.used.tier == "priority" and case.used.audio_input > 0


def speed() -> None:
    """How long a price takes: of a model not asked for before, and again."""
    day, used = date.today(), Tokens(10_000, 777, cached=8_192)
    started = time.perf_counter()
    price_of("gpt-4o-mini", day)
    first = time.perf_counter()
    for _ in range(LOOKUPS):
        cost_micro_usd(price_of("gpt-4o-mini", day), used)
    again = (time.perf_counter() - first) / LOOKUPS
    print(f"  first price {1000 * (first - started):.2f} ms, then price and cost {1e6 * again:.1f} µs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cached = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dcoder" / "litellm"
    parser.add_argument("--environment", type=Path, default=cached, help="where litellm is, or is to be")
    folder = parser.parse_args().environment
    print(f"{os.cpu_count()} cores")
    speed()
    packages = environment(folder)
    version = next(packages.glob("litellm-*.dist-info")).name.removesuffix(".dist-info")
    wanted = list(cases(json.loads((packages / MAP).read_text(encoding="utf-8"))))
    print(f"  beside {version}")
    return 1 if compare(wanted, theirs_usd(folder, wanted)) else 0


if __name__ == "__main__":
    sys.exit(main())
