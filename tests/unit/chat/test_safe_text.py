"""SafeText: what it leaves alone, what it makes of the rest, and that nothing gets through."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.chat.citations import MarkerFilter, TextPiece
from app.chat.safe_text import MAX_HELD, Removed, SafeText, hosts_in
from tests.data.injections import CANARY, EVIL, INJECTED, Injected
from tests.unit.chat.markdown_oracle import find_active

ALLOWED = {"good.example", "www.good.example"}


def run(pieces: list[str]) -> tuple[str, Removed]:
    safe_text = SafeText(ALLOWED)
    text = "".join([*map(safe_text.feed, pieces), safe_text.close()])
    return text, safe_text.removed


def safe(text: str) -> str:
    return run([text])[0]


def drop_markers(text: str, known: set[int]) -> str:
    marker_filter = MarkerFilter(known)
    events = [*marker_filter.feed(text), *marker_filter.close()]
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def cut(text: str, rng: random.Random) -> list[str]:
    edges = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(1, 12)))
    return [text[a:b] for a, b in zip([0, *edges], [*edges, len(text)], strict=True)]


@pytest.mark.parametrize(
    "text",
    [
        "a < b, <5 %, x <= y, 3 <- 4, a<",
        "R&D &amp; AT&T &euro; &lt;b&gt; &",
        "Sales fell [1], [1][2] and 【1】; great![1] [[2]] (see [1])",
        "in [2018] and [sic] and [Note: more] (p. 2)",
        "**bold** _it_ ~~gone~~ # no\n\n# yes\n- a\n- b\n\n> q\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "`<b>` ``![x](http://evil.example)`` `https://evil.example` `a | b`",
        "```html\n<img src=x>\n[t](http://evil.example)\n```\nrest",
        "~~~\n<b>\n~~\n   ~~~~  \nx",
        "1. run\n   ```sh\n   curl http://evil.example\n\n     x\n   ```\n2. next",
        "- run\n\n    ```sh\n    curl http://evil.example\n    ```\n- next",
        "```\nno end <b>",
        "\\(x\\) \\[ y^2 \\] \\frac 1\\. \\*",
        "the postgres://host and s3://bucket and a.b.example and e.g. x",
        "mail a@b.example",
        "[t](https://good.example/x) [t](HTTPS://GOOD.example:8080/a?b=c#d)",
        '[t](https://good.example/x "Title") [`t`](https://good.example)',
        "<https://good.example/x>",
        "wow! [r] http: //x and www and https",
        "",
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert run([text]) == (text, Removed())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        # Images
        ("a ![alt](http://evil.example/x?d=1) b", "a alt b"),
        ("![alt](https://good.example/x.png)", "alt"),
        ("![alt][r] ![r] ![r][]", "alt r r"),
        ("![alt](<u v> 'title')", "alt"),
        ("![](data:image/png;base64,AAAA)", ""),
        ("![a [b] c](http://evil.example)", "! [a [b] c] (`evil.example`)"),
        ("[![alt](u)](https://good.example)", "[alt] (<https://good.example>)"),
        # HTML
        ("<b>bold</b><br/>and<hr >", "bold and"),
        ("a<!-- c\nd -->b<?php x ?>c<!DOCTYPE html>d<![CDATA[x]]>e", "abcde"),
        ("<script src='x'>alert(1)</script>a<style>b{}</STYLE >c", "ac"),
        ("<img src=http://evil.example/?d=1 onerror=x>", ""),
        ("a<b and c", "a&lt;b and c"),
        ("<scr<b>ipt>", "&lt;script>"),
        ("<<b>img src=x>", "< img src=x>"),
        ("<!-- no end", "&lt;!-- no end"),
        # Links
        ("[t](https://evil.example/x)", "t (evil.example)"),
        ("[t](https://good.example@evil.example/x)", "t (evil.example)"),
        ("[t](https://user@good.example/)", "t (good.example)"),
        ("[t](https://evil.example\\@good.example/)", "t (good.example)"),
        ("[t](https://www.evil.example/x)", "t (`www.evil.example`)"),
        ("[t](javascript:alert(1)) [t](data:x) [t](file:///x) [t](vbscript:x)", "t t t t"),
        ("[t](//evil.example) [t](a/b) [t](#a) [t]() [t](</x>)", "t t t t t"),
        ("[t](mailto:a@b.example?body=x) <a@b.example>", "t (a@b.example) a@b.example"),
        ("[t](https://good.example/f(x))", "[t](<https://good.example/f(x)>)"),
        ("[t\nu](http://evil.example)", "[t\nu] (`evil.example`)"),
        ("f[0](x, y)", "f[0] (x, y)"),
        # Markers before a parenthesis
        ("[1](https://evil.example) [1](x) [1](see p. 2)", "[1] [1] [1] (see p. 2)"),
        ("[1](https://good.example/x)", "[1](https://good.example/x)"),
        ("【1】(https://evil.example)", "【1】 (`evil.example`)"),
        # Bare URLs
        ("<https://evil.example/a?b=c>", "`evil.example/a`"),
        ("<javascript:alert(1)>", "`javascript:alert(1)`"),
        ("see https://evil.example/a/b?c=d#e.", "see `evil.example/a/b`."),
        (
            "(www.evil.example/a_(b)) HTTP://EVIL.example",
            "(`www.evil.example/a_(b)`) `EVIL.example`",
        ),
        ("https://good.example/x, ok", "<https://good.example/x>, ok"),
        ("www.good.example/x", "[www.good.example/x](<http://www.good.example/x>)"),
        ("https://good.example.evil.example", "`good.example.evil.example`"),
        ("`a`https://evil.example`b`", "`a` `evil.example` `b`"),
        ("https:// and www.", "`https://` and `www`."),
        # Definitions
        ("[r]: http://evil.example\n[s]: <javascript:x> 't'\nx", "\n\nx"),
        ("[r]: https://good.example/x 'T'", "[r]: <https://good.example/x>"),
        ("> [r]: http://evil.example\n\n[1]: Sales fell", "> \n\n[1] : Sales fell"),
        ("[Revenue]: 500", "[Revenue] : 500"),
        ("see [1]: sales", "see [1]: sales"),
        # Code that is none
        ("a ` b ![x](u)\n` c", "a &#96; b x\n&#96; c"),
        ("\\`![x](u)`", "&#96;x&#96;"),
        ("> ```\n> ![x](u)", "> &#96;&#96;&#96;\n> x"),
        ("- ~~~\n![x](u)", "- &#126;&#126;&#126;\nx"),
        ("  ```\n  a\n![x](u)\n  ```\n![y](u)", "  ```\n  a\n  ![x](u)\n  ```\ny"),
        ("```a`b\n![x](u)", "&#96;&#96;&#96;a&#96;b\nx"),
        ("`a|b` <b>x</b>\n|-|-|\n`c|d`", "`a|b` x\n\n|-|-|\n&#96;c|d&#96;"),
        # Line breaks and control characters
        ("a\r\nb\rc\x00d\x1b", "a\nb\ncd"),
    ],
)
def test_the_rest_becomes_harmless_text(written: str, expected: str) -> None:
    assert safe(written) == expected


def test_what_is_removed_is_counted() -> None:
    text = "![a](u) ![b][r] <b>c</b> <!-- d --> [e](http://evil.example) http://evil.example"
    assert run([text])[1] == Removed(images=2, html=3, links=2)


@pytest.mark.parametrize(
    "text",
    [
        "ht[9]tps://evil.example",
        "w[9]ww.evil.example www [9].evil.example",
        "[a] [9](http://evil.example) [a]【9】(http://evil.example)",
        "[a] [9]: http://evil.example\n\n[a]",
        "!【9】[t](https://good.example/x.png) ![9][t](https://good.example/x.png)",
        "< [9]!-- x --> <【9】img src=x>",
        "`a`[9]``![x](http://evil.example)``",
        "\\【9】`![x](http://evil.example)` \\[9]`![x](http://evil.example)`",
        "    ```\n    [9]```\n    ![x](http://evil.example)",
        "&#1[9]04;ttps://evil.example",
        "`a|b ` `![x](http://evil.example)` |c\n[9]--|--",
        "ht[[9]]tps://evil.example ht[source<b></b> 9]tps://evil.example",
        "https://good.example [9].evil.example",
        "[r]: https://good.example\n\n![9][r] !【9】[r]",
    ],
)
def test_a_marker_that_goes_later_completes_nothing(text: str) -> None:
    for known in (set[int](), {9}):
        assert find_active(drop_markers(safe(text), known), ALLOWED) == []


def test_text_without_constructs_is_not_held_back() -> None:
    safe_text = SafeText(ALLOWED)
    assert [safe_text.feed(delta) for delta in ("Sales", " fell", " [1", "]", " a", "\n")] == [
        "Sales",
        " fell",
        " ",
        "",
        "[1] a",
        "\n",
    ]


ATOMS = (
    *("`", "``", "```", "\n```", "```\n", "~~~", "\n~~~\n", "~", "\n", "\n\n", " ", "    ", "\t"),
    *("[", "]", "(", ")", "](", "![", "!", "<", ">", "\\", "|", "\n--|--\n", "\n|-|\n", ":", "]:"),
    *("[1]", "[9]", " [9]", "【9】", "[[9]]", "[source 9]", "&", "&#104;", "#104;", "h", "ht", "w"),
    *("tps://evil.example/a.png", "https://evil.example", "ww.evil.example", ".evil.example"),
    *("//evil.example", "https://good.example/x", "www.good.example", "://evil.example", "xmpp:a"),
    *("![x](http://evil.example)", "[t](http://evil.example)", "[t](https://good.example/a.png)"),
    *("[r]", "![r]", "\n[r]: http://evil.example\n", "\n[r]: https://good.example/a.png\n", "x"),
    *("<b>", "</b>", "<img src=http://evil.example>", "<!--", "-->", "!--", "b>", "<script>"),
    *("</script>", "<https://evil.example>", "<a@evil.example>", "> ", "- ", "\n- ", "1. ", "."),
    *('"t"', "'", "*", "_", "#", "=", "\r", "\r\n", "\x00", "\\[", "\\`", "\\<", "\\!", "<http://"),
    *("[t](javascript:alert(1))", "`a|b`", "`![x](http://evil.example)`", "`` ` ``", "<?x", "?>"),
    *("<![CDATA[", "]]>", '<a href="', '">', "\n- a\n\n    ```\n", "    ```\n", "\n  ~~~\n"),
)
# Few atoms at a time meet more often.
FAMILIES = (
    ATOMS,
    ("```", "~~~", "\n", "\n\n", "  ", "    ", "- ", "> ", "![x](u)", "<b>", "[9]", "a", "\t", "|"),
    ("`", "``", "\\", "[9]", "![x](u)", "<b>", "\n", "|", "\n|-|\n", "[", "]", "【9】", "a"),
    ("[r]", "[a", "]", ":", " http://e.example", "\n", "[9]", " [9]", "!", "![", "\\", "(", "`"),
    ("<", "b", ">", "!", "--", "[9]", " [9]", "/", 'a="', "<b>", "&", "#104;", "ht", "tp://e.x"),
)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_active_gets_through_however_the_stream_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(500):
        atoms = rng.choice(FAMILIES)
        text = "".join(rng.choices(atoms, k=rng.randrange(1, 20)))
        expected = run([text])
        assert run(list(text)) == expected, repr(text)
        assert run(cut(text, rng)) == expected, repr(text)
        assert find_active(expected[0], ALLOWED) == [], repr(text)
        for known in (set[int](), {1, 9}):
            shown = drop_markers(expected[0], known)
            assert find_active(shown, ALLOWED) == [], repr(text)


@settings(max_examples=300, deadline=None, database=None)
@given(st.text(alphabet="[]()<>!`~\\|:&#;h.tpsw/\n 19aé【】", max_size=60))
def test_any_text_is_safe(text: str) -> None:
    expected = run([text])
    assert run(list(text)) == expected
    assert find_active(drop_markers(expected[0], {1}), ALLOWED) == []


@pytest.mark.parametrize(
    "unit",
    ["[", "![", "`", "`a``b```c", "<a ", "<!-- ", "[a](", "[a](<", "&#1", "<http:", "\\"],
)
def test_what_is_held_back_stays_small_on_hostile_text(unit: str) -> None:
    text = unit * (12_000 // len(unit))
    safe_text = SafeText(ALLOWED)
    behind = received = 0
    for position in range(0, len(text), 50):
        received += len(safe_text.feed(text[position : position + 50]))
        # Nothing of these is removed, and the inert form is never shorter.
        behind = max(behind, position + 50 - received)
    assert behind <= MAX_HELD + 50
    assert find_active(safe(text), ALLOWED) == []


@pytest.mark.parametrize(
    ("beginning", "filling", "end"),
    [
        ("![a](http://evil.example/", "d", ")"),
        ("[a](http://good.example/", "d", ")"),
        ("<img src='", "d", "'>"),
        ("<https://good.example/", "d", ">"),
        ("https://good.example/", "d", " x"),
        ("`", "<b>", "`"),
        ("<!--", "<b>", "-->"),
        ("![", "a", "](http://evil.example)"),
        ("<script>", "<b>", "</script>"),
        ("[r]: http://evil.example/", "d", "\n\n![r]"),
        ("```", "a", "\n<b>"),
        ("```\n", "`", "\n<b>"),
        ("~~~", "~", "\n<b>"),
    ],
)
def test_an_over_long_construct_is_inert_text(beginning: str, filling: str, end: str) -> None:
    text = beginning + filling * (MAX_HELD + 500) + end
    expected = run([text])
    assert find_active(expected[0], ALLOWED) == []
    assert run(list(text)) == expected


def seconds(text: str) -> float:
    started = time.process_time()
    safe(text)
    hosts_in([text])
    return time.process_time() - started


@pytest.mark.parametrize(
    "unit", ["[", "![a](", "`a``b```c", "<a ", "<!-- ", "[a](u) ", "www.", "&#"]
)
def test_the_cost_grows_with_the_length_alone(unit: str) -> None:
    short, long = (unit * (size // len(unit)) for size in (10_000, 300_000))
    # Thirty times as long; what is quadratic would cost 900 times as much.
    assert seconds(long) < 300 * max(min(seconds(short) for _ in range(3)), 0.001)


def test_hosts_of_the_sources() -> None:
    texts = [
        "See https://Sources.Example:8443/a, www.other.example/x. and (http://a-b.example).",
        "https://sources.example@evil.example/x https://x:y@c.example https://[::1]/ http://",
        "https://bücher.example/ https://192.0.2.1/x me@www.d.example xhttps://e.example",
        "https://f.example\\@g.example https://a..b.example https://" + "h" * 400,
    ]
    assert hosts_in(texts) == {
        "sources.example",
        "www.other.example",
        "a-b.example",
        "evil.example",
        "c.example",
        "bücher.example",
        "192.0.2.1",
        "f.example",
    }


def test_a_host_of_another_script_is_compared_as_it_is_written() -> None:
    safe_text = SafeText(hosts_in(["https://bücher.example/"]))
    text = "[a](https://bücher.example/x) [b](https://bücher.exаmple) [c](https://bucher.example)"
    assert safe_text.feed(text) + safe_text.close() == (
        "[a](https://bücher.example/x) b (bücher.exаmple) c (bucher.example)"
    )


@pytest.mark.parametrize("document", INJECTED, ids=lambda document: document.name)
def test_an_obedient_answer_loads_and_links_nothing(document: Injected) -> None:
    allowed = {"sources.example"}
    safe_text = SafeText(allowed)
    pieces = [safe_text.feed(character) for character in document.payload]
    shown = drop_markers("".join([*pieces, safe_text.close()]), {1})
    assert find_active(shown, allowed) == []


def test_the_payloads_would_do_harm_by_themselves() -> None:
    active = [d.name for d in INJECTED if find_active(drop_markers(d.payload, {1}), set())]
    assert len(active) >= 55
    assert sum(EVIL in document.payload for document in INJECTED) >= 55
    assert sum(CANARY in document.payload for document in INJECTED) >= 30
