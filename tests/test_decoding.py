"""Bytes to characters: encodings, and what is no text."""

from __future__ import annotations

import gzip
import random
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.corpus.decoding import decode
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError

TEXTS = {
    "fr": (
        "Le conseil municipal s’est réuni hier soir pour débattre de la rénovation de l’école primaire. "
        "Après de longues discussions, les élus ont décidé d’approuver le projet, malgré l’opposition de"
        " plusieurs habitants du quartier. Les travaux commenceront dès le début de l’été et dureront en"
        "viron dix mois. "
    ),
    "de": (
        "Der Bürgermeister eröffnete gestern die neue Straßenbahnlinie, die künftig durch die Altstadt f"
        "ührt. Viele Bürger äußerten sich erfreut über die kürzeren Wege; einige ärgerten sich über die "
        "höheren Gebühren für das Parken. "
    ),
    "es": (
        "El niño corrió por la montaña mientras su abuela preparaba el desayuno. ¿Dónde está la llave? ¡"
        "Qué mañana tan hermosa! La señora Muñoz vendió su casa el año pasado y ahora vive en Málaga con"
        " su hermana. "
    ),
    "pl": (
        "Wczoraj wieczorem rada miejska zebrała się, aby przedyskutować remont szkoły podstawowej. Po dł"
        "ugiej dyskusji radni postanowili zatwierdzić projekt mimo sprzeciwu części mieszkańców. Żółte l"
        "iście spadają z drzew, a dzieci bawią się na łące. "
    ),
    "cs": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Městská rada se včera večer sešla, aby projednala oprav"
        "u základní školy. Po dlouhé diskusi zastupitelé rozhodli projekt schválit navzdory odporu někte"
        "rých obyvatel. "
    ),
    "ru": (
        "Вчера вечером городской совет собрался, чтобы обсудить ремонт начальной школы. После долгой дис"
        "куссии депутаты решили одобрить проект, несмотря на возражения жителей района. Работы начнутся "
        "в начале лета и продлятся около десяти месяцев. "
    ),
    "uk": (
        "Учора ввечері міська рада зібралася, щоб обговорити ремонт початкової школи. Після довгої диску"
        "сії депутати вирішили схвалити проєкт, попри заперечення мешканців району. Її діти ходять до ці"
        "єї школи. "
    ),
    "el": (
        "Χθες το βράδυ το δημοτικό συμβούλιο συνεδρίασε για να συζητήσει την ανακαίνιση του δημοτικού σχ"
        "ολείου. Μετά από μακρά συζήτηση αποφασίστηκε η έγκριση του έργου παρά τις αντιρρήσεις των κατοί"
        "κων. "
    ),
    "he": (
        "אתמול בערב התכנסה מועצת העיר כדי לדון בשיפוץ בית הספר היסודי. לאחר דיון ארוך החליטו חברי המועצה"
        " לאשר את התוכנית למרות התנגדותם של כמה תושבים. העבודות יתחילו בתחילת הקיץ. "
    ),
    "ar": (
        "اجتمع مجلس المدينة مساء أمس لمناقشة ترميم المدرسة الابتدائية. وبعد نقاش طويل قرر الأعضاء المواف"
        "قة على المشروع رغم اعتراض بعض السكان. ستبدأ الأعمال في بداية الصيف وتستمر عشرة أشهر. "
    ),
    "tr": (
        "Dün akşam belediye meclisi ilkokulun yenilenmesini görüşmek üzere toplandı. Uzun tartışmalardan"
        " sonra üyeler, bazı mahalle sakinlerinin itirazlarına rağmen projeyi onaylamaya karar verdi. Ça"
        "lışmalar yazın başında başlayacak ve yaklaşık on ay sürecek. Işık ağaçların arasından süzülüyor"
        "du. "
    ),
    "ja": (
        "昨日の夜、市議会は小学校の改修について話し合うために集まりました。長い議論の末、一部の住民の反対にも"
        "かかわらず、議員たちは計画を承認することに決めました。工事は夏の初めに始まり、約十か月続く予定です。"
    ),
    "zh": (
        "昨天晚上，市议会开会讨论小学的翻修工程。经过长时间的讨论，尽管一些居民表示反对，议员们还是决定批准这"
        "个项目。工程将于夏初开始，预计持续约十个月。孩子们暂时要到附近的中学上课。"
    ),
    "tw": (
        "昨天晚上，市議會開會討論小學的翻修工程。經過長時間的討論，儘管一些居民表示反對，議員們還是決定批准這"
        "個項目。工程將於夏初開始，預計持續約十個月。孩子們暫時要到附近的中學上課。"
    ),
    "ko": (
        "어제 저녁 시의회는 초등학교 보수 공사를 논의하기 위해 모였습니다. 긴 토론 끝에 일부 주"
        "민의 반대에도 불구하고 의원들은 계획을 승인하기로 결정했습니다. 공사는 초여름에 시작되어 "
        "약 열 달 동안 계속될 예정입니다. "
    ),
    "th": (
        "เมื่อคืนนี้สภาเทศบาลได้ประชุมเพื่อหารือเกี่ยวกับการปรับปรุงโรงเรียนประถมศึกษา หลังจากการอภิปราย"
        "อันยาวนาน สมาชิกสภาได้ตัดสินใจอนุมัติโครงการ แม้ชาวบ้านบางส่วนจะคัดค้าน "
    ),
}
ENCODINGS = {
    "fr": "cp1252",
    "de": "latin-1 cp1252",
    "es": "latin-1",
    "pl": "cp1250 iso8859_2",
    "cs": "cp1250 iso8859_2",
    "ru": "cp1251 koi8_r cp866 iso8859_5",
    "uk": "cp1251 koi8_u",
    "el": "cp1253 iso8859_7",
    "he": "cp1255",
    "ar": "cp1256",
    "tr": "cp1254",
    "ja": "shift_jis euc_jp",
    "zh": "gb18030",
    "tw": "big5",
    "ko": "euc_kr",
    "th": "tis_620",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> SourceFile:
    return SourceFile(tmp_path_factory.mktemp("decoding") / "x.txt", "x.txt", 0, 0)


def decoded(file: SourceFile, data: bytes) -> str:
    file.path.write_bytes(data)
    return decode(file)


def refusal(file: SourceFile, data: bytes) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        decoded(file, data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("language", "encoding"), [(language, one) for language, found in ENCODINGS.items() for one in found.split()]
)
@pytest.mark.parametrize("times", [1, 3, 1_000])
def test_text_in_the_encodings_of_its_language_is_read(
    file: SourceFile, language: str, encoding: str, times: int
) -> None:
    text = (TEXTS[language] + "\n") * times
    assert decoded(file, text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", TEXTS)
def test_every_language_is_read_in_unicode(file: SourceFile, language: str, encoding: str) -> None:
    assert decoded(file, TEXTS[language].encode(encoding)) == TEXTS[language]


@pytest.mark.parametrize(
    "text",
    [
        "caf\u00e9",
        "K\u00f6ln",
        "Gr\u00f6\u00dfe",
        "na\u00efve r\u00e9sum\u00e9",
        "\u00a9 2020 Foo",
        "50 \u00b5m \u00b1 3\u00b0",
        "it\u2019s \u201cquoted\u201d text \u2013 dash",
        "it\u2019s a caf\u00e9, isn\u2019t it \u2013 \u201cvery\u201d much so, and who\u2019d doubt it",
        "# Stra\u00dfe\nx = 1\n",
        "old text with an end\u00e9\n\x1a",
    ],
)
def test_a_few_words_are_taken_for_windows_1252(file: SourceFile, text: str) -> None:
    assert decoded(file, text.encode("cp1252")) == text


def test_the_words_may_stand_far_behind(file: SourceFile) -> None:
    for ascii_text in ("line\n" * 100_000, "word " * 100_000):
        text = f"{ascii_text}{TEXTS['ja'] * 1_000}"
        assert decoded(file, text.encode("shift_jis")) == text


def test_a_byte_that_is_wrong_does_not_make_utf8_something_else(file: SourceFile) -> None:
    data = (TEXTS["zh"] * 3).encode()
    text = decoded(file, data[:99] + b"\xff" + data[99:-1])
    assert text == TEXTS["zh"][:33] + "\ufffd" + (TEXTS["zh"] * 3)[33:-1] + "\ufffd"


def test_a_large_file_takes_no_long(file: SourceFile) -> None:
    for language, encoding in (("ru", "koi8_r"), ("zh", "gb18030"), ("fr", "cp1252"), ("zh", "utf-16-le")):
        data = TEXTS[language].encode(encoding)
        data *= 10 * 2**20 // len(data)
        file.path.write_bytes(data)
        started = time.monotonic()
        assert decode(file).startswith(TEXTS[language])
        assert time.monotonic() - started < 3, encoding


@pytest.mark.parametrize("size", [256, 1_000, 4_096, 100_001])
@pytest.mark.parametrize("lowest", [0, 1])
def test_random_bytes_are_binary(file: SourceFile, size: int, lowest: int) -> None:
    source = random.Random(size)
    for _ in range(10):
        assert refusal(file, bytes(source.choices(range(lowest, 256), k=size))) == "binary"


@pytest.mark.parametrize(
    "data",
    [
        b"a\0b",
        b"log\n" + bytes(4_096),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x06\0\0\0\x1f\xf3\xffa",
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0>\0\x01\0\0\0",
        gzip.compress(random.Random(1).randbytes(3_000)),
        gzip.compress("".join(TEXTS.values()).encode()),
        bytes(range(1, 32)),
        b"words\x01\x02\x03",
    ],
)
def test_what_is_no_text_is_binary(file: SourceFile, data: bytes) -> None:
    assert refusal(file, data) == "binary"


def test_the_program_that_runs_this_is_binary(file: SourceFile) -> None:
    assert refusal(file, Path(sys.executable).read_bytes()) == "binary"


def test_what_a_mark_promises_must_hold(file: SourceFile) -> None:
    assert refusal(file, b"\xff\xfea") == "not UTF-16 text: byte 2"
    assert refusal(file, b"\0\0\xfe\xffa") == "not UTF-32 text: byte 4"
    assert refusal(file, b" \r\n") == "empty"


CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r")


@settings(max_examples=300, deadline=None)
@given(st.text(CHARACTERS, min_size=1), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_any_text_in_unicode_is_read(file: SourceFile, text: str, encoding: str) -> None:
    text = f"x{text.removeprefix(chr(0xFEFF))}"
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert decoded(file, text.encode(encoding)) == expected
    if encoding == "utf-8":
        assert file.path.read_text(encoding="utf-8") == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_have_a_reason(file: SourceFile, data: bytes) -> None:
    reason = ""
    try:
        text = decoded(file, data)
    except UnreadableFileError as error:
        text, reason = "", str(error)
    assert text.strip() or reason.startswith(("binary", "empty", "not UTF-"))
