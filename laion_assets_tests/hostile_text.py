"""Hostile texts, and a check whether a document contains markup."""

import re

from markdown_it import MarkdownIt

LEAK = "leak.test"
"""The host of a third party. A browser that requests it has rendered text as markup."""
LIMIT = "by-markup"
"""The concurrency key that the GraphQL mutation in one of the texts would set."""
HOSTILE = (
    "![x](http://leak.test/a.png)",
    "![x](http:&sol;&sol;leak.test&sol;b.png).csv",
    f"![y](&sol;graphql?query=mutation%7BsetConcurrencyLimit(concurrencyKey:%22{LIMIT}%22,limit:9)%7D).csv",
    "[click](javascript:alert(1))",
    "[ref]: http://leak.test/c 'd'",
    "<img src=http:&sol;&sol;leak.test/d.png onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<http://leak.test/auto>",
    "http://leak.test/auto https://leak.test www.leak.test mail@leak.test HTTP://leak.test",
    "&lt;img src=x&gt; &#60;img src=x&#62;",
    "data:text/html,<script>alert(1)</script>",
    "`` ` ![x](http://leak.test/e.png) ```",
    "a | ![x](http://leak.test/f.png) |\n|---|---|\n| [g](http://leak.test) |",
    "# head\n\n> quote\n\n- item\n\n1. item\n\n    code\n\n---\n\n***",
    "# head",
    "> quote",
    "- item",
    "12. item",
    "+ item",
    "=====",
    "\\[x](http://leak.test/h)",
    "\\\\![x](http://leak.test/i.png)",
    "*a* _b_ ~~c~~ ^d^",
    "--><img src=http://leak.test/j.png><!--",
    "]]></text><script>alert(1)</script>",
    "$\\frac{$ $x^2$",
    "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b31m\x90q\x9c",
    "line\nforged 12:00:00  image_shards       ok\rover\x0b\x0c\x85\u2028\u2029",
    "evil\u202egnp.exe\u2066\u2069\u200e\u200f\u061c",
    "zero\u200bwidth\u200c\u200d\u2060\ufeff\xad\U000e0041",
    "nul\x00del\x7f",
)
INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
"""Characters that must not reach a terminal, log or page. Kept separate from the list of the package."""
_AUTOLINKS = (
    re.compile(r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)", re.IGNORECASE),
    re.compile(r"(?:^|[\s\W])([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)"),
)
"""Text that remark-gfm, used by the Dagster UI, turns into links, even if it is escaped."""
_OUR_IMAGE = re.compile(r"data:image/(?:jpeg|png|svg\+xml);base64,[A-Za-z0-9+/=]*")


def markup(document: str) -> list[str]:
    """Return the markup that a Markdown renderer finds, except text, emphasis and images that we drew."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    found = []
    for block in parser.parse(document):
        if block.type not in ("paragraph_open", "paragraph_close", "inline"):
            found.append(block.type)
        for token in block.children or ():
            if token.type == "image" and _OUR_IMAGE.fullmatch(str(token.attrs["src"])):
                continue
            if token.type == "text":
                found += [f"autolink {match[0]}" for pattern in _AUTOLINKS for match in pattern.finditer(token.content)]
            elif token.type not in ("strong_open", "strong_close"):
                found.append(f"{token.type} {token.content} {token.attrs}")
    return found


def rendered(document: str) -> str:
    """Return the visible characters of a document of one paragraph."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return "".join(token.content for block in parser.parse(document) for token in block.children or ())
