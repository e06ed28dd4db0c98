"""Short made-up sentences in the languages of the recipes, and voices of espeak-ng that speak them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3router.data.audio import SAMPLE_RATE, resample, write_audio
from s3router.data.espeak import synthesize
from s3router.files import replacing

PARTS = {
    "en": (
        ["The old man", "My sister", "A small dog", "Nobody"],
        ["saw", "doesn't like", "has found", "carries"],
        ["the green house", "two apples", "a long letter", "the king's boat"],
    ),
    "nl": (
        ["De oude man", "Mijn zus", "Een kleine hond", "Niemand"],
        ["ziet", "draagt", "vindt 's avonds", "koopt"],
        ["het groene huis", "twee appels", "een lange brief", "drie foto's"],
    ),
    "zh-TW": (
        ["老人", "我的姐姐", "小狗", "沒有人"],
        ["看見", "喜歡", "找到", "帶來"],
        ["綠色的房子", "兩個蘋果", "一封長信", "王子的船"],
    ),
    "zh-CN": (
        ["老人", "我的姐姐", "小狗", "没有人"],
        ["看见", "喜欢", "找到", "带来"],
        ["绿色的房子", "两个苹果", "一封长信", "王子的船"],
    ),
    "ja": (
        ["おじいさん が", "あね が", "こいぬ が", "だれも"],
        ["みどり の いえ を", "りんご を ふたつ", "ながい てがみ を", "おうじ の ふね を"],
        ["みた", "すき です", "みつけた", "はこんだ"],
    ),
    "es": (
        ["El señor", "Mi hermana", "Un perro pequeño", "Nadie"],
        ["vio", "compró", "encontró", "lleva"],
        ["la casa verde", "dos manzanas", "una carta larga", "el barco del rey"],
    ),
    "tt": (
        ["Бабай", "Минем апа", "Кечкенә эт", "Беркем"],
        ["яшел өйне", "ике алманы", "озын хатны", "көймәне"],
        ["күрде", "ярата", "тапты", "алды"],
    ),
    "ru": (
        ["Старик", "Моя сестра", "Щенок", "Ёжик"],
        ["видит", "любит", "нашёл", "несёт"],
        ["зелёный дом", "два яблока", "длинное письмо", "лодку царя"],
    ),
    "it": (
        ["L'uomo", "Mia sorella", "Un piccolo cane", "Nessuno"],
        ["vede", "comprò", "trova", "porterà"],
        ["la casa verde", "due mele", "una lunga lettera", "l'albero del re"],
    ),
    "ky": (
        ["Абышка", "Менин эжем", "Кичинекей ит", "Эч ким"],
        ["жашыл үйдү", "эки алманы", "узун катты", "кайыкты"],
        ["көрдү", "жакшы көрөт", "тапты", "алды"],
    ),
    "tr": (
        ["Yaşlı adam", "İstanbul'da kız kardeşim", "Küçük bir köpek", "Işık"],
        ["yeşil evi", "iki elmayı", "uzun mektubu", "kralın teknesini"],
        ["gördü", "seviyor", "buldu", "taşıyor"],
    ),
    "sv-SE": (
        ["Den gamle mannen", "Min syster", "En liten hund", "Ingen"],
        ["såg", "köpte", "har hittat", "bär"],
        ["det gröna huset", "två äpplen", "ett långt brev", "kungens båt"],
    ),
    "fr": (
        ["L'homme", "Ma sœur", "Un petit chien", "Personne d'autre"],
        ["voit", "a trouvé", "achète", "n'a vu"],
        ["la maison verte", "deux pommes", "une longue lettre", "l'île du roi"],
    ),
}
"""Three lists for each language; a sentence is one entry of each, in this order."""
VARIANTS = [f"{sex}{number}" for number in range(1, 5) for sex in "fm"]


@dataclass(frozen=True)
class Speaker:
    """A voice of espeak-ng that can be told from the others."""

    variant: str
    pitch: int
    words_per_minute: int

    @classmethod
    def number(cls, index: int) -> Speaker:
        """Speaker 0, 1, 2 …; they differ up to the 56th."""
        return cls(VARIANTS[index % len(VARIANTS)], 30 + 6 * (index % 7), 180 + 8 * (index % 5))

    def say(self, text: str, voice: str, rate: int = SAMPLE_RATE) -> np.ndarray:
        """float32 (samples,) at ``rate`` Hz."""
        samples, native = synthesize(
            text, f"{voice}+{self.variant}", words_per_minute=self.words_per_minute, pitch=self.pitch
        )
        return 0.7 * resample(samples, native, rate)


def sentences(locale: str, count: int, seed: int = 0) -> list[str]:
    """The first ``count`` of a shuffled list of all, over and over; always the same ones."""
    blank = "" if locale.startswith("zh") else " "
    whole = [blank.join((a, b, c)) for a in PARTS[locale][0] for b in PARTS[locale][1] for c in PARTS[locale][2]]
    random.Random(f"{locale} {seed}").shuffle(whole)
    return [whole[i % len(whole)] for i in range(count)]


def save(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write float32 (samples,) as wav or flac, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, samples, rate)


def save_text(path: Path, text: str) -> None:
    """Write a text, with its folders."""
    with replacing(path) as file:
        file.write(text)
