"""Known patterns of prompt injection, in questions and in passages of documents."""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

# What is looked at in one encoded run.
_MAX_ENCODED = 4_096

# Shown as nothing, so that a word with one inside reads as before.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff]"
)
# Invisible copies of ASCII.
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_LATIN_MARKS = re.compile("[\u0300-\u036f]")
_MIXED_WORD = re.compile(r"[a-z]\w*[\u0370-\u04ff]\w*|[\u0370-\u04ff]+[a-z]\w*")
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһԛԝгꙇκαορτυνιεβ",
    "aeopcyxijsdhqwrikaoptuvieb",
)
_SPACED_WORD = re.compile(r"(?<!\w)[^\W\d](?:[ .*_-][^\W\d]){3,}(?!\w)")
_SEPARATORS = re.compile(r"[ .*_-]")
_SPACE = re.compile(r"\s+")

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}+={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ :]?){16,}+")
_PRINTABLE = re.compile(r"[\x20-\x7e\s]+")

_INVISIBLE_RUN = re.compile(
    "[\u200b-\u200d\u2060-\u2064\ufeff]{4}|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0020-\U000e007e]{3}"
    "|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4}|[\u202d\u202e][^\\W\\d_]{3}"
)


def _gap(length: int) -> str:
    """Return a pattern of at most `length` characters within a sentence."""
    return rf"[^.!?。！？]{{0,{length}}}?"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What is looked for in folded text. One of the words must be there at all."""

    words: tuple[str, ...]
    regex: re.Pattern[str]


def _pattern(words: str, *parts: str) -> _Pattern:
    """Return a pattern in folded letters, from its parts one after the other."""
    return _Pattern(tuple(_strip_marks(words).split()), re.compile(_strip_marks("".join(parts))))


def _strip_marks(text: str) -> str:
    """Return the text without the accents of Latin and Cyrillic letters."""
    stripped = _LATIN_MARKS.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", stripped)


_NOUNS_EN = (
    r"(?:(?!voting|payment|delivery|shipping|wire|settlement)\w+[ ]){0,2}?"
    r"(?:instructions?|prompts?|rules?|guidelines|directives?|directions|commands?|constraints"
    r"|restrictions|safeguards|programming|system message|training|policies)\b"
)

_IGNORE = (
    _pattern(
        "ignor disregard forget overrid bypass overlook obey follow attention neglect discard",
        r"\b(?:ignore|disregard|forget|override|bypass|overlook|neglect|discard"
        r"|do(?: not|n'?t) (?:follow|obey)|stop (?:following|obeying)|pay no attention to)\b"
        r"(?: about)?(?: all| any| every| each| both)?(?: of)?"
        r"(?: the| these| those| this| that| my)?"
        r"[ ](?:previous|prior|above|preceding|earlier|former|foregoing|original|initial|existing"
        r"|past|system|safety|default|your|all|any|other|aforementioned)[ ](?:and [\w]+ )?",
        _NOUNS_EN,
    ),
    _pattern(
        "ignor disregard forget",
        r"\b(?:ignore|disregard|forget)[ ]+(?:everything|anything|all|whatever)[ ]+"
        r"(?:(?:that (?:is|was|came|comes|stands|you (?:were|have been)) |you (?:were|have been) )"
        r"?(?:above|before|previously|so far|prior|told|said|instructed|taught)|you know)",
    ),
    _pattern(
        "anweisung instruktion befehl vorgaben regeln prompt",
        r"\b(?:ignorier|vergiss|vergess|missacht|übergeh|umgeh|überschreib|befolge? nicht)\w*",
        _gap(20),
        r"\b(?:alle[nrs]?|sämtliche|vorherige[nrs]?|bisherige[nrs]?|obige[nrs]?|frühere[nrs]?"
        r"|vorangegangene[nrs]?|vorstehende[nrs]?|vorige[nrs]?|ursprüngliche[nrs]?|deine[nr]?)\b",
        _gap(25),
        r"(?:anweisung|instruktion|befehl|vorgaben|regeln|prompt)",
    ),
    _pattern(
        "instruction consigne directive regle ordre prompt",
        r"\b(?:ignore[rzs]?|oublie[rzs]?|ne t[ie]\w+ pas compte|fai\w+ abstraction)\b",
        _gap(15),
        r"(?:\b(?:toutes?|tous)\b(?: \w+)? |\b(?:les|tes|vos|des) )",
        r"(?:instruction|consigne|directive|règle|ordre|prompt)s?",
        _gap(15),
        r"(?:précédent|antérieur|ci-dessus|initia|système|reçu|donné)",
    ),
    _pattern(
        "instruccion indicacion ordenes reglas directrices prompt",
        r"\b(?:ignor[ae]\w{0,2}|olvid[ae]\w{0,4}|desestim[ae]\w?|omit[ae]\w?|caso omiso)\b",
        _gap(20),
        r"\b(?:instrucci\w+|indicacion\w*|órdenes|reglas|directrices|prompts?)",
        _gap(15),
        r"(?:anterior|previ[ao]|de arriba|precedente|inicial|del sistema|recibid)",
    ),
    _pattern(
        "istruzioni indicazioni regole direttive comandi prompt",
        r"\b(?:ignora\w{0,2}|dimentica\w{0,2}|trascura\w{0,2}|non seguire)\b",
        _gap(20),
        r"\b(?:istruzioni|indicazioni|regole|direttive|comandi|prompt)\b",
        _gap(15),
        r"(?:precedent|sopra|inizial|di sistema|ricevut)",
    ),
    _pattern(
        "instrucoes ordens regras diretrizes comandos prompt",
        r"\b(?:ignor[ae]\w{0,2}|esqueç[ae]\w{0,2}|desconsider[ae]\w{0,2})\b",
        _gap(20),
        r"\b(?:instruções|ordens|regras|diretrizes|comandos|prompts?)\b",
        _gap(15),
        r"(?:anterior|prévi|acima|iniciai|do sistema|recebid)",
    ),
    _pattern(
        "инструкци указани команд правил промпт",
        r"\b(?:про)?(?:игнорируй|игнорировать|забудь|не обращай|не следуй|не выполняй)\w*",
        _gap(20),
        r"(?:предыдущ|все[хм]?\b|прежн|вышеуказ|выше|ранее|сво[ию]|системн)",
        _gap(25),
        r"(?:инструкци|указани|команд|правил|промпт)",
    ),
    _pattern(
        "指令 指示 提示 规则 規則 命令 设定 設定",
        r"(?:忽略|无视|無視|忘记|忘記|忘掉|不要理会|不要遵[守循]|不要理會)",
        _gap(8),
        r"(?:之前|以上|上面|上述|前面|先前|所有|全部|一切|此前|你的)",
        _gap(8),
        r"(?:指令|指示|提示|规则|規則|命令|设定|設定)",
    ),
    _pattern(
        "無視 忘れ 従わ 破棄",
        r"(?:以前|これまで|上記|前|すべて|全て|先ほど|今まで|上|元|既存)の",
        _gap(10),
        r"(?:指示|命令|指令|ルール|プロンプト|規則|制約)",
        _gap(8),
        r"(?:無視|忘れ|従わな|従わず|破棄)",
    ),
)

_REVEAL = (
    _pattern(
        "prompt instruction",
        r"\b(?:reveal|show|print|output|repeat|display|disclose|leak|tell|give|write|dump|expose"
        r"|recite|copy|state|share|list|what (?:is|are|was|were|'s)|what's|translate|summarize)\b",
        _gap(25),
        r"(?:\b(?:your|the|this|its) (?:\w+ ){0,2}?(?:system|initial|hidden|secret|internal"
        r"|developer) ?prompt|\byour (?:(?:full|entire|complete|exact|original|initial|hidden"
        r"|secret|internal|system|own|previous|confidential) ){0,2}"
        r"(?:instructions|prompt|system message|guidelines)\b)",
    ),
    _pattern(
        "above before",
        r"\b(?:repeat|print|output|copy|recite|write out) (?:\w+ ){0,3}?"
        r"(?:words|text|everything|lines|sentences|instructions|content) (?:\w+ ){0,2}?"
        r"(?:above|before this)\b(?! the| a )",
    ),
    _pattern(
        "prompt anweisung instruktion",
        r"\b(?:zeig|nenn|verrat|gib|wiederhol|druck|offenbar|schreib|wie laute|was ist)\w*",
        _gap(25),
        r"(?:system-? ?(?:prompt|anweisung|nachricht)|\bdeine[nr]? (?:\w+ )?"
        r"(?:anweisung|prompt|instruktion))",
    ),
    _pattern(
        "prompt instruction consigne invite",
        r"\b(?:montre|affiche|révèle|répète|donne|dévoile|quel|écri|imprime)\w*",
        _gap(25),
        r"(?:(?:prompt|invite|message|instructions?|consignes?) (?:du )?système"
        r"|\b(?:tes|vos) (?:instructions|consignes)|\b(?:ton|votre) (?:\w+ )?prompt)",
    ),
    _pattern(
        "prompt instruccion mensaje",
        r"\b(?:muestra|muéstra|revela|repite|imprime|dime|cuál|dame|escrib|di )\w*",
        _gap(25),
        r"(?:(?:prompt|mensaje|instrucciones) del? sistema|\btus (?:\w+ )?instrucciones"
        r"|\btu prompt)",
    ),
    _pattern(
        "prompt istruzioni",
        r"\b(?:mostra|rivela|ripeti|stampa|dimmi|qual|scrivi)\w*",
        _gap(25),
        r"(?:(?:prompt|messaggio|istruzioni) d[ie]l? sistema|\btue istruzioni|\btuo prompt)",
    ),
    _pattern(
        "prompt instrucoes",
        r"\b(?:mostr[ea]|revel[ea]|repita|imprima|diga|qual|escreva)\w*",
        _gap(25),
        r"(?:(?:prompt|mensagem|instruções) d[eo] sistema|\b(?:suas|tuas) instruções"
        r"|\b(?:seu|teu) prompt)",
    ),
    _pattern(
        "промпт инструкци сообщени запрос",
        r"\b(?:покажи|раскрой|выведи|повтори|напечатай|назови|какой|скажи|открой)\w*",
        _gap(25),
        r"(?:системн\w+ (?:промпт|инструкци|сообщени|запрос)|\b(?:сво|тво)\w+ (?:\w+ )?"
        r"(?:инструкци|промпт))",
    ),
    _pattern(
        "提示 指令",
        r"(?:显示|顯示|输出|輸出|告诉|告訴|重复|重複|泄露|打印|透露|说出|說出|公开|给我看)",
        _gap(12),
        r"(?:系[统統]提示|提示词|提示詞|系[统統]指令|初始指令|你的指令)",
    ),
    _pattern(
        "システム プロンプト 指示",
        r"(?:システム ?プロンプト|システム指示|初期プロンプト|あなたの(?:指示|プロンプト))",
        _gap(12),
        r"(?:表示|教え|出力|見せ|開示|繰り返|公開|明か)",
    ),
)

_ROLE = (
    _pattern(
        "you are now",
        r"\byou are now (?:in )?(?:dan\b|developer mode|jailbroken|unrestricted|unfiltered|free "
        r"(?:from|of)|no longer (?:bound|an? )|an? (?:\w+ )?(?:unrestricted|uncensored|evil"
        r"|malicious|different|ai|assistant|chatbot|bot|hacker|pirate|model|agent|system)\b)",
    ),
    _pattern(
        "from now henceforth",
        r"\b(?:from now on|from this (?:point|moment) on(?:ward)?|henceforth),? (?:you "
        r"(?:are|will|must|should|shall|only|act|respond|answer)"
        r"|(?:act|respond|answer|reply|behave|speak)\b)",
    ),
    _pattern(
        "act pretend behave roleplay",
        r"\b(?:act|behave|respond|pretend|roleplay|role-play)\b(?: as| to be| that)?(?: if)?"
        r"(?: you (?:are|were|have|had))?",
        _gap(30),
        r"\b(?:unrestricted|uncensored|unfiltered|jailbroken|without (?:any )?(?:restriction|rule"
        r"|filter|limitation)s?|no (?:restriction|rule|filter|limitation|guideline)s?\b"
        r"|evil (?:ai|assistant|bot)|dan\b(?! \w+ \w))",
    ),
    _pattern("do anything now", r"\bdo anything now\b"),
    _pattern(
        "developer mode debug jailbreak god",
        r"\b(?:(?:developer|debug|god|admin|jailbreak|maintenance)[ -]mode"
        r"(?: is| has been)?(?: now)? (?:enabled|activated|on\b)"
        r"|(?:enable|activate|enter|switch to) (?:the )?(?:developer|god|jailbreak|dan) mode)",
    ),
    _pattern(
        "your new override instruction prompt",
        r"(?:\byour (?:new|real|actual|true|only) (?:task|role|instructions?|objective|purpose"
        r"|goal|job|persona) (?:is|are)\b|\bnew (?:system )?(?:instructions?|prompt|directive) ?:"
        r"|\b(?:system|admin|developer) (?:override|instruction|prompt) ?:)",
    ),
    _pattern(
        "assistant language model ai chatbot llm",
        r"\b(?:attention|important|note|instructions?|message|notice|reminder)(?: (?:to|for))?,? "
        r"(?:the |any |all )?(?:ai|llm|language model|chatbot)s?(?: assistants?| models?)?\b",
    ),
    _pattern("du bist", r"\bdu bist (?:jetzt|nun|ab sofort|ab jetzt|von nun an)\b"),
    _pattern("ab sofort jetzt", r"\bab (?:sofort|jetzt) (?:bist|antworte|handle|wirst|musst) ?\w*"),
    _pattern(
        "maintenant desormais",
        r"\b(?:tu es|vous êtes) (?:maintenant|désormais) (?:une? |libre|dan\b|en mode)"
        r"|\bà partir de maintenant,? (?:tu|vous)\b",
    ),
    _pattern(
        "ahora", r"\b(?:ahora|desde ahora|a partir de ahora),? (?:eres|serás|actúa|actuarás)\b"
    ),
    _pattern(
        "ora adesso",
        r"\b(?:(?:ora|adesso) sei (?:un|una|dan|libero)|d[a'] ?ora in poi,? "
        r"(?:sei|sarai|rispondi|agisci|devi))\b",
    ),
    _pattern(
        "agora",
        r"\b(?:agora|a partir de agora|de agora em diante),? (?:você|tu) (?:é|és|será|deve|vai)\b",
    ),
    _pattern(
        "теперь отныне момента",
        r"\b(?:теперь ты\b|отныне (?:ты|вы)\b|с этого момента,? (?:ты|вы)\b)",
    ),
    _pattern(
        "你现在 你現在 从现在 從現在", r"你[现現]在是|[从從][现現]在(?:开始|開始|起)[,，、]? ?你"
    ),
    _pattern(
        "あなたは", r"(?:今から|これから|これ以降|今後)[、,]? ?あなたは|あなたは(?:今から|これから)"
    ),
)

_PRIVATE = (
    r"\b(?:conversation|chat history|chat log|(?:user|human|customer)'?s? (?:question|query|input"
    r"|message|prompt|data|name|request)s?|previous (?:message|question)s?|system prompt"
    r"|api[ _-]?keys?|passwords?|credentials|secrets?|session token|access token"
    r"|(?:the |your )?(?:answer|context|sources|documents?) (?:so far|above|text))\b"
)

_EXFILTRATE = (
    _pattern(
        "http ://",
        r"!\[[^\]]{0,200}\]\([^)\s]{0,300}//[^)\s]{1,500}[?&=%{][^)\s]{0,500}",
    ),
    _pattern(
        "//",
        r"<(?:img|iframe|script|link|object|embed|video|audio|form|source|svg|image|base|meta)\b"
        r"[^>]{0,300}(?:src|href|data|action|poster|srcset|content)\s?=\s?[\"']?[^>\"']{0,40}//",
    ),
    _pattern("url import", r"(?:@import|url\() ?[\"'(]{0,2}(?:https?:)?//"),
    _pattern("http", r"\[[^\]]{1,100}\]: ?<?https?://[^\s>]{1,300}[?&][^\s>]{0,100}="),
    _pattern(
        "http",
        r"https?://[^\s)>]{1,300}[=/?](?:\{|%7b|\$\{|\[[a-z_ ]{3,40}\]|<[a-z_ ]{3,40}>|[a-z_]{0,20}"
        r"(?:secret|conversation|chat_history|user_question)\b)",
    ),
    _pattern(
        "http url image link query mail",
        r"\b(?:send|post|upload|transmit|forward|exfiltrate|append|encode|embed|add|put|place"
        r"|include|insert|leak|submit|attach|email|write)\b",
        _gap(30),
        _PRIVATE,
        _gap(50),
        r"(?:https?:|//|\burl\b|\bimage\b|\blink\b|query (?:string|parameter)|\w@\w"
        r"|\baddress\b|\bwebhook\b|\bserver\b)",
    ),
    _pattern(
        "http //",
        r"\b(?:render|include|insert|embed|append|add|output|display|show|put|place|end|finish"
        r"|begin|start)\b",
        _gap(50),
        r"\b(?:image|picture|pixel|markdown|logo|link|iframe|tag|badge)\b",
        r"[^.!?]{0,60}?(?:https?:)?//",
    ),
    _pattern(
        "http //",
        r"\b(?:tell|instruct|ask|urge|direct) the (?:user|reader|human)",
        _gap(40),
        r"\b(?:click|visit|open|go to|log ?in|follow)\b[^.!?]{0,60}?(?:https?:)?//",
    ),
)

_CHAT_TEMPLATE = (
    _pattern("<|", r"<\|/?[a-z][\w▁ ]{1,40}\|>"),
    _pattern("[inst] [/inst] <<sys>> <</sys>>", r"\[/?inst\]|<</?sys>>"),
    _pattern("<start_of_turn> <end_of_turn>", r"<(?:start|end)_of_turn>"),
    _pattern("###", r"#{2,4} ?(?:system|instruction|human|assistant|user)s? ?:"),
    _pattern("role", r"[\"']role[\"'] ?: ?[\"'](?:system|assistant|developer)[\"']"),
    _pattern(
        "</ <system <instruct",
        r"</(?:system|instructions?|context|sources?|user_query|system_prompt|prompt)>"
        r"|<(?:system|instructions?|system_prompt|important_instructions?)>",
    ),
    _pattern(
        "system assistant",
        r"(?:^|[.!?\]] ?|-{3,} ?)(?:system|assistant) ?: (?:you|ignore|new|the user|from now|sure)",
    ),
    _pattern(
        "end begin",
        r"-{3,} ?(?:end|begin) (?:of )?(?:the )?(?:system|context|sources?|prompt"
        r"|documents?|user|instructions?)\b[^-]{0,20}-{3,}",
    ),
)

_HIDDEN = (
    _pattern(
        "style",
        r"style ?= ?[\"'][^\"'>]{0,150}(?:display ?: ?none|visibility ?: ?hidden"
        r"|font-size ?: ?0|opacity ?: ?0(?![.\d])|color ?: ?(?:white|#fff(?:fff)?\b|transparent)"
        r"|left ?: ?-\d{3,})",
    ),
    _pattern(
        "<!--", r"<!--[^>]{0,200}\b(?:assistant|ai|llm|model|instruction|ignore|answer|prompt)\b"
    ),
)

_DECODE = (
    _pattern(
        "base64 rot13 hex decod",
        r"\b(?:decode|decrypt|unscramble)\b",
        _gap(60),
        r"\b(?:and|then)\b",
        _gap(20),
        r"\b(?:follow|execute|obey|run|comply|do what|carry out|act on)\b",
    ),
    _pattern(
        "base64 rot13 hex",
        r"\b(?:follow|execute|obey|carry out|comply with) (?:the |this |these )",
        _gap(20),
        r"\b(?:base-?64|rot-?13|hex(?:adecimal)?)\b",
    ),
)

_PATTERNS = {
    "ignore_instructions": _IGNORE,
    "reveal_prompt": _REVEAL,
    "role_override": _ROLE,
    "exfiltrate_link": _EXFILTRATE,
    "chat_template": _CHAT_TEMPLATE,
    "hidden_text": _HIDDEN,
    "encoded_payload": _DECODE,
}


def find_injections(text: str) -> tuple[str, ...]:
    """Return the codes of the patterns in a question or passage, sorted; empty where none is.

    Reads through case, accents, invisible characters, full-width and look-alike letters, spaced
    words, and base64 or hex. The time is linear in the text. It knows what is known, no more: that
    it is silent says nothing.
    """
    found = _find(_fold(text))
    if _INVISIBLE_RUN.search(text):
        found.add("hidden_text")
    if any(_find(_fold(decoded)) for decoded in _decode_runs(text)):
        found.add("encoded_payload")
    return tuple(sorted(found))


def _find(folded: str) -> set[str]:
    return {
        code
        for code, patterns in _PATTERNS.items()
        if any(
            any(word in folded for word in pattern.words) and pattern.regex.search(folded)
            for pattern in patterns
        )
    }


def _fold(text: str) -> str:
    """Return the text in the form that the patterns are written in, on one line."""
    text = _INVISIBLE.sub("", text.translate(_TAGS))
    if "&#" in text or "&lt" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = _strip_marks(unicodedata.normalize("NFKC", text)).casefold()
        text = _MIXED_WORD.sub(lambda word: word.group().translate(_LOOKALIKES), text)
        text = text.replace("’", "'")
    else:
        text = text.lower()
    text = _SPACED_WORD.sub(lambda word: _SEPARATORS.sub("", word.group()), text)
    return _SPACE.sub(" ", text)


def _decode_runs(text: str) -> list[str]:
    """Return what the runs of base64 and hex say, where that is ASCII text."""
    decoders: tuple[tuple[re.Pattern[str], Callable[[str], bytes]], ...] = (
        (_BASE64, _decode_base64),
        (_HEX, lambda run: bytes.fromhex(run.replace(":", " "))),
    )
    decoded: list[str] = []
    for pattern, decode in decoders:
        for run in pattern.finditer(text):
            try:
                plain = decode(run.group()[:_MAX_ENCODED]).decode("ascii")
            except (ValueError, binascii.Error):
                continue
            if _PRINTABLE.fullmatch(plain):
                decoded.append(plain)
    return decoded


def _decode_base64(run: str) -> bytes:
    standard = run.rstrip("=").replace("-", "+").replace("_", "/")
    # A remainder of one character encodes nothing.
    usable = len(standard) - (len(standard) % 4 == 1)
    return base64.b64decode(standard[:usable] + "=" * (-usable % 4))
